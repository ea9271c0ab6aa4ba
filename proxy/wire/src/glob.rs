//! Patterns of channels and keys, matched as the servers match them: `*`, `?`, `[a-c]`, `[^x]`, and `\` before
//! what is meant as it stands. Never more steps than the product of both lengths.

/// Does the whole text match the pattern?
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Servers do not look at an empty text at all: it matches only the empty pattern.
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and the text from which it was tried last.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if t == text.len() {
            return pattern[p..].iter().all(|byte| *byte == b'*');
        }
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return true;
            }
            star = Some((p, t));
        } else if let Some(next) = one(pattern, p, text[t]) {
            (p, t) = (next, t + 1);
        } else if let Some((behind, from)) = star {
            star = Some((behind, from + 1));
            (p, t) = (behind, from + 1);
        } else {
            return false;
        }
    }
}

/// Where the pattern goes on, if its element at `p` takes this byte.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match (*pattern.get(p)?, pattern.get(p + 1)) {
        (b'?', _) => Some(p + 1),
        (b'[', _) => class(pattern, p + 1, byte),
        (b'\\', Some(literal)) => (*literal == byte).then_some(p + 2),
        (literal, _) => (literal == byte).then_some(p + 1),
    }
}

/// The same for a class, which begins at `p` behind its bracket. One that is not closed ends with the pattern.
fn class(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    let mut p = p + usize::from(negated);
    let mut found = false;
    while p < pattern.len() && pattern[p] != b']' {
        let (low, high, length) = match &pattern[p..] {
            [b'\\', literal, ..] => (*literal, *literal, 2),
            [one, b'-', other, ..] => (*one.min(other), *one.max(other), 3),
            rest => (rest[0], rest[0], 1),
        };
        found |= (low..=high).contains(&byte);
        p += length;
    }
    (found != negated).then_some((p + 1).min(pattern.len()))
}

/// What every text that matches must begin with; escaped bytes end it.
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    &pattern[..end.unwrap_or(pattern.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases = [
            ("*", "a", true),
            ("*", "", false),
            ("", "", true),
            ("", "a", false),
            ("a*", "a", true),
            ("a**", "ab", true),
            ("news.*", "news.art", true),
            ("news.*", "new", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxbxxa", false),
            ("h?llo", "hallo", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a", "ha", true),
            ("h[", "h[", false),
            ("[]]", "]", false),
            ("[\\]]", "]", true),
            ("[\\", "\\", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("[a-]", "_", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_both_lengths() {
        assert!(!matches("*a".repeat(200).as_bytes(), &[b'a'; 199]));
        assert!(!matches(&[b'*'; 10_000], b""));
    }

    #[test]
    fn the_prefix_is_what_all_matches_begin_with() {
        assert_eq!(literal_prefix(b"news.*"), b"news.");
        assert_eq!(literal_prefix(b"plain"), b"plain");
        assert_eq!(literal_prefix(b"a\\*b"), b"a");
        assert_eq!(literal_prefix(b"*"), b"");
    }
}
