//! Writing commands and replies.

use bytes::{BufMut, BytesMut};

/// Appends `prefix`, a decimal number and a line end.
pub fn header(prefix: u8, number: usize, out: &mut BytesMut) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_u8(prefix);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends a bulk string.
pub fn bulk(text: &[u8], out: &mut BytesMut) {
    header(b'$', text.len(), out);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// Appends a command: an array of bulk strings.
pub fn command<'a>(
    args: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>,
    out: &mut BytesMut,
) {
    let args = args.into_iter();
    header(b'*', args.len(), out);
    args.for_each(|arg| bulk(arg, out));
}

/// Appends an error line. Line ends inside the text would end the reply early, so they become spaces.
pub fn error(text: &str, out: &mut BytesMut) {
    out.put_u8(b'-');
    out.extend(text.bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

/// A command as one buffer, for the few that are not on the hot path.
pub fn command_bytes(args: &[&[u8]]) -> bytes::Bytes {
    let mut out = BytesMut::new();
    command(args.iter().copied(), &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_errors_have_their_resp_form() {
        assert_eq!(command_bytes(&[b"GET", b""]).as_ref(), b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
        let mut out = BytesMut::new();
        error("ERR two\r\nlines", &mut out);
        assert_eq!(out.as_ref(), b"-ERR two  lines\r\n");
        out.clear();
        header(b'*', 1_048_576, &mut out);
        assert_eq!(out.as_ref(), b"*1048576\r\n");
    }
}
