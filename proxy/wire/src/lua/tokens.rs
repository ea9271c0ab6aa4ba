//! The words of a Lua 5.1 program, as the servers' Lua reads them. What it would refuse may be read in any way: it
//! never runs. Where a text could be read in two ways it is not read at all.

/// Brackets of more `=` than this are not read: nobody needs them, and their ends are dear to look for.
const MOST_LEVEL: usize = 16;

/// One word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or a keyword.
    Name(&'a str),
    /// A string between quotes or long brackets. `None` where the text is not the string, as after a backslash.
    Text(Option<&'a [u8]>),
    Number,
    /// `...`
    Rest,
    /// Any other sign; of those that have two characters, each is one.
    Sign(u8),
    /// `..`
    Concat,
}

/// A word and the line that it begins in, from 1.
pub(super) type Placed<'a> = (Token<'a>, u32);

/// Splits a program into its words. The error is the line where that ends.
pub(super) fn tokens(text: &[u8]) -> Result<Vec<Placed<'_>>, u32> {
    let mut reader = Reader { text, at: 0, line: 1 };
    if text.starts_with(b"#!") {
        reader.header().ok_or(1_u32)?;
    }
    let mut all = Vec::new();
    while let Some(byte) = reader.peek(0) {
        let line = reader.line;
        match reader.token(byte) {
            Some(Some(token)) => all.push((token, line)),
            Some(None) => {}
            None => return Err(line),
        }
    }
    Ok(all)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn skip(&mut self, bytes: usize) {
        let end = (self.at + bytes).min(self.text.len());
        self.line += self.text[self.at..end].iter().filter(|byte| **byte == b'\n').count() as u32;
        self.at = end;
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let from = self.at;
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
        &self.text[from..self.at]
    }

    /// The line that a server reads before Lua does. `None`: it asks for another language.
    fn header(&mut self) -> Option<()> {
        let line = self.take_while(|byte| byte != b'\n');
        let rest = line.strip_prefix(b"#!lua")?;
        rest.first().is_none_or(|byte| *byte == b' ').then_some(())
    }

    /// A carriage return ends a line, too.
    fn skip_line(&mut self) {
        self.take_while(|byte| byte != b'\n' && byte != b'\r');
    }

    /// The next word; `Some(None)` for what is between words, `None` for what is none.
    fn token(&mut self, byte: u8) -> Option<Option<Token<'a>>> {
        let token = match byte {
            b' ' | b'\t'..=b'\r' => {
                self.skip(1);
                return Some(None);
            }
            b'-' if self.peek(1) == Some(b'-') => return self.comment().then_some(None),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Token::Name(self.name()?),
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_some_and(|next| next.is_ascii_digit()) => self.number(),
            b'.' => self.dots(),
            b'"' | b'\'' => self.quoted(byte)?,
            b'[' => match self.bracket() {
                Some(level) => Token::Text(self.long(level)?),
                None => self.sign(byte),
            },
            b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'#' | b'=' | b'~' | b'<' | b'>' | b'(' | b')'
            | b'{' | b'}' | b']' | b';' | b':' | b',' => self.sign(byte),
            _ => return None,
        };
        Some(Some(token))
    }

    fn sign(&mut self, byte: u8) -> Token<'a> {
        self.skip(1);
        Token::Sign(byte)
    }

    fn name(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.take_while(|byte| byte == b'_' || byte.is_ascii_alphanumeric())).ok()
    }

    /// As Lua does: `1..x` is one number, and a bad one.
    fn number(&mut self) -> Token<'a> {
        self.take_while(|byte| byte == b'.' || byte.is_ascii_digit());
        if self.peek(0).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'e')) {
            let signed = matches!(self.peek(1), Some(b'+' | b'-'));
            self.skip(1 + usize::from(signed));
        }
        self.name();
        Token::Number
    }

    fn dots(&mut self) -> Token<'a> {
        let token = match (self.peek(1), self.peek(2)) {
            (Some(b'.'), Some(b'.')) => Token::Rest,
            (Some(b'.'), _) => Token::Concat,
            _ => Token::Sign(b'.'),
        };
        self.skip(match token {
            Token::Rest => 3,
            Token::Concat => 2,
            _ => 1,
        });
        token
    }

    /// A comment, from its dashes. `false`: it has no end.
    fn comment(&mut self) -> bool {
        self.skip(2);
        match self.peek(0).filter(|byte| *byte == b'[').and_then(|_| self.bracket()) {
            Some(level) => self.long(level).is_some(),
            None => {
                self.skip_line();
                true
            }
        }
    }

    /// At `[`: how many `=` stand before the second `[`, if this is a long bracket.
    fn bracket(&self) -> Option<usize> {
        let level = self.text[self.at + 1..].iter().take_while(|byte| **byte == b'=').count();
        (self.peek(level + 1) == Some(b'[')).then_some(level)
    }

    /// What is between long brackets; `None` if there is no end. A line end at its start is not part of it.
    fn long(&mut self, level: usize) -> Option<Option<&'a [u8]>> {
        if level > MOST_LEVEL {
            return None;
        }
        let from = self.at + level + 2;
        let end = [&b"]"[..], &vec![b'='; level], b"]"].concat();
        let len = self.text.get(from..)?.windows(end.len()).position(|window| window == end)?;
        self.skip(level + 2 + len + end.len());
        let inside = &self.text[from..from + len];
        Some((!inside.contains(&b'\n') && !inside.contains(&b'\r')).then_some(inside))
    }

    fn quoted(&mut self, quote: u8) -> Option<Token<'a>> {
        self.skip(1);
        let from = self.at;
        let mut plain = true;
        loop {
            match self.peek(0)? {
                b'\\' => {
                    plain = false;
                    self.skip(2);
                }
                b'\n' | b'\r' => return None,
                byte if byte == quote => break,
                _ => self.skip(1),
            }
        }
        let inside = &self.text[from..self.at];
        self.skip(1);
        Some(Token::Text(plain.then_some(inside)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Token<'_>> {
        tokens(text.as_bytes()).expect("whole").into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn words_are_told_apart() {
        use Token::{Concat, Name, Number, Rest, Sign, Text};
        assert_eq!(read("#!lua name=x\na"), [Name("a")]);
        assert_eq!(read("a.b..c..."), [Name("a"), Sign(b'.'), Name("b"), Concat, Name("c"), Rest]);
        assert_eq!(read("1e-5 .5 0x1F 3..x"), [Number, Number, Number, Number]);
        assert_eq!(
            read("'a' \"b\" [[c]] [==[d]]]==]"),
            [b"a" as &[u8], b"b", b"c", b"d]]"].map(|t| Text(Some(t)))
        );
        assert_eq!(read(r#"'it\'s' x"#), [Text(None), Name("x")]);
        assert_eq!(read("[[\nSET]]"), [Text(None)]);
        assert_eq!(read("t[1]"), [Name("t"), Sign(b'['), Number, Sign(b']')]);
    }

    #[test]
    fn comments_end_where_lua_ends_them() {
        for text in ["--x\na", "--x\ra", "--[[x\ny]]a", "--[=[x]]]=]a", "--[=x\na", "--\na"] {
            assert_eq!(read(text), [Token::Name("a")], "{text}");
        }
    }

    #[test]
    fn lines_are_counted_and_what_cannot_be_read_is_told() {
        let lines = tokens(b"a --[[\n]] b\n[[\n\n]] c").map(|all| all.iter().map(|(_, l)| *l).collect());
        assert_eq!(lines, Ok(vec![1, 2, 3, 5]));
        for bad in [
            &b"#!js\na"[..],
            b"#!luau\na",
            b"'x",
            b"'x\ny'",
            b"[[x",
            b"--[[x",
            b"\x1bLua",
            b"\xc3\xa9",
            b"a\n\0",
            b"'x\\",
        ] {
            assert!(tokens(bad).is_err(), "{bad:?}");
        }
        assert_eq!(tokens(b"a\n\0").map(|_| ()), Err(2));
    }
}
