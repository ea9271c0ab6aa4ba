//! Patterns of KEYS, SCAN, CONFIG GET and ACL: `*`, `?`, `[a-c]`, `[^x]`, `\` before a literal.
//! It never takes more than the product of both lengths in steps.

/// True when the whole text matches the pattern.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p + 1, t));
            p += 1;
        } else if t == text.len() {
            return p == pattern.len();
        } else if let Some(next) = match_one(pattern, p, text[t]) {
            p = next;
            t += 1;
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            p = after_star;
            t = from + 1;
        } else {
            return false;
        }
    }
}

/// The position after the element at `p` when it accepts `byte`.
fn match_one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match_class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

fn match_class(pattern: &[u8], start: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(start) == Some(&b'^');
    let mut p = start + usize::from(negated);
    let mut found = false;
    while p < pattern.len() && pattern[p] != b']' {
        let (low, high, width) = match pattern[p..] {
            [b'\\', literal, ..] => (literal, literal, 2),
            [low, b'-', high, ..] => (low.min(high), low.max(high), 3),
            [one, ..] => (one, one, 1),
            [] => break,
        };
        found |= (low..=high).contains(&byte);
        p += width;
    }
    (found != negated).then_some((p + 1).min(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases = [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("h?llo", "hallo", true),
            ("h[ae]llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*b*", "xxaxxbxx", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        assert!(!matches("*a".repeat(40).as_bytes(), &[b'a'; 39]));
    }
}
