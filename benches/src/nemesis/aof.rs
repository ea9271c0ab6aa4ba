//! The append-only files of Redis and Valkey: where their transactions end, and the holes that a full disk leaves in
//! them. A server whose file was rewritten while it ran does not open the new one for appending; a write that is cut
//! short for want of room is taken back, but what is written next stands where the taken back bytes would have ended.

use quorate_wire::resp::Scanner;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// What can stand in a file between two commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Command,
    Hole,
}

/// What stands at the start of `rest`, and its length; nothing where it ends, is torn or makes no sense.
fn piece(rest: &[u8]) -> Option<(Piece, usize)> {
    match rest.first()? {
        0 => Some((Piece::Hole, rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len()))),
        // A remark, such as a time.
        b'#' => Some((Piece::Command, rest.iter().position(|byte| *byte == b'\n')? + 1)),
        b'*' => Some((Piece::Command, Scanner::default().next(rest).ok()??)),
        _ => None,
    }
}

fn pieces(content: &[u8]) -> impl Iterator<Item = (Piece, &[u8])> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let (kind, len) = piece(rest)?;
        let (found, after) = rest.split_at(len);
        rest = after;
        Some((kind, found))
    })
}

/// The length of the part that ends outside of any transaction, which is what `redis-check-aof --fix` leaves.
pub fn whole_transactions(content: &[u8]) -> usize {
    let (mut at, mut whole, mut open) = (0, 0, false);
    for (_, command) in pieces(content).take_while(|(kind, _)| *kind == Piece::Command) {
        at += command.len();
        open = command == MULTI || open && command != EXEC;
        if !open {
            whole = at;
        }
    }
    whole
}

/// The same file without its holes, if it has any. Nothing that the server wrote is missing.
pub fn without_holes(content: &[u8]) -> Option<Vec<u8>> {
    let (mut kept, mut read) = (Vec::new(), 0);
    for (kind, found) in pieces(content) {
        read += found.len();
        if kind == Piece::Command {
            kept.extend_from_slice(found);
        }
    }
    (kept.len() < read).then(|| {
        kept.extend_from_slice(&content[read..]);
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\0\0\r\n";

    #[test]
    fn a_torn_transaction_is_cut_off_whole() {
        let whole = [MULTI, SET, EXEC].concat();
        let torn = [&whole[..], MULTI, b"*2\r\n$4\r\nIN"].concat();
        assert_eq!(whole_transactions(&torn), whole.len());
        assert_eq!(whole_transactions(&torn[..20]), 0);
        assert_eq!(whole_transactions(&[b"#TS:1\r\n", SET, MULTI].concat()), 7 + SET.len());
    }

    #[test]
    fn a_value_that_looks_like_the_end_of_a_transaction_is_a_value() {
        let value = [&b"*2\r\n$4\r\nECHO\r\n$14\r\n"[..], EXEC, b"\r\n"].concat();
        let torn = [SET, MULTI, &value].concat();
        assert_eq!(whole_transactions(&torn), SET.len());
        assert_eq!(whole_transactions(&torn[..torn.len() - 1]), SET.len());
    }

    #[test]
    fn holes_between_commands_are_closed_and_zeros_in_values_kept() {
        let spoiled = [MULTI, SET, EXEC, b"\0\0\0", MULTI, SET, EXEC, b"\0", MULTI, b"*1\r\n$4"].concat();
        assert_eq!(whole_transactions(&spoiled), [MULTI, SET, EXEC].concat().len());
        let whole = [MULTI, SET, EXEC, MULTI, SET, EXEC, MULTI, b"*1\r\n$4"].concat();
        assert_eq!(without_holes(&spoiled), Some(whole.clone()));
        assert_eq!(without_holes(&whole), None);
    }
}
