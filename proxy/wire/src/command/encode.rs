//! Commands as RESP arrays of bulk strings.

use bytes::{BufMut, BytesMut};

/// Appends a command to `out`.
pub fn encode<A: AsRef<[u8]>>(args: &[A], out: &mut BytesMut) {
    let bytes: usize = args.iter().map(|arg| arg.as_ref().len() + HEAD).sum();
    out.reserve(bytes + HEAD);
    head(b'*', args.len(), out);
    for arg in args {
        let arg = arg.as_ref();
        head(b'$', arg.len(), out);
        out.put_slice(arg);
        out.put_slice(b"\r\n");
    }
}

/// Room for the length line of most arguments and the line end behind them.
const HEAD: usize = 16;

fn head(kind: u8, number: usize, out: &mut BytesMut) {
    let mut digits = [0; 20];
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
    out.put_u8(kind);
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = BytesMut::new();
        encode(&[&b"SET"[..], b"", &[b'x'; 100]], &mut out);
        let expected = format!("*3\r\n$3\r\nSET\r\n$0\r\n\r\n$100\r\n{}\r\n", "x".repeat(100));
        assert_eq!(out, expected.as_bytes());
    }
}
