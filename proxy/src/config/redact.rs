//! Which parts of the file must never be shown.
//!
//! [`tree_masks`] knows the values of a file that parsed; [`line_masks`] adds what looks like a
//! secret in a single line, because a file with a syntax error has no complete tree.

use super::address::Address;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is shown in place of a secret.
const MASK: &str = "***";
/// Keys whose values are secrets.
const SECRET_KEYS: [&str; 4] = ["password", "secret", "token", "passwd"];

/// The key of a user's rules, where a password may stand by mistake, as Redis has it.
pub(super) const RULES: &str = "rules";

/// The values of all keys that hold secrets, and the passwords of all URLs.
pub(super) fn tree_masks(table: &DeTable<'_>, text: &str) -> Vec<Range<usize>> {
    let mut masks = Vec::new();
    walk_table(table, text, &mut masks);
    masks
}

fn walk_table(table: &DeTable<'_>, text: &str, masks: &mut Vec<Range<usize>>) {
    for (key, value) in table.iter() {
        match value.get_ref() {
            DeValue::Table(inner) => walk_table(inner, text, masks),
            _ if is_secret_key(key.get_ref()) => masks.push(value.span()),
            // The `@` of rules is that of a category.
            DeValue::String(rules) if key.get_ref() == RULES => {
                masks.extend(has_password(rules).then(|| value.span()));
            }
            // A key in place of its file's name.
            DeValue::String(pem) if pem.contains("-----BEGIN") => masks.push(value.span()),
            DeValue::String(url) if is_broken_url(key.get_ref(), url) => masks.push(value.span()),
            _ => walk_value(value, text, masks),
        }
    }
}

/// Is one of these rules a password or its digest?
fn has_password(rules: &str) -> bool {
    let bare = |word: &str| word.trim_start_matches('(').starts_with(['>', '<', '#', '!']);
    rules.split_whitespace().any(bare)
}

/// Does a key of this name hold a URL?
pub(super) fn is_url_key(key: &str) -> bool {
    key.to_ascii_lowercase().contains("url")
}

/// What is left of a URL without its scheme may be its password.
fn is_broken_url(key: &str, text: &str) -> bool {
    !text.contains("://") && Address::parse(text).is_err() && (is_url_key(key) || text.contains('@'))
}

/// Everything under a key that does not exist, unless its own key is one of the `harmless`.
pub(super) fn unknown_masks(
    value: &Spanned<DeValue<'_>>,
    harmless: &impl Fn(&str) -> bool,
) -> Vec<Range<usize>> {
    match value.get_ref() {
        DeValue::Table(table) => {
            let inner =
                table.iter().filter(|(key, inner)| inner.get_ref().is_table() || !harmless(key.get_ref()));
            inner.flat_map(|(_, inner)| unknown_masks(inner, harmless)).collect()
        }
        _ => vec![value.span()],
    }
}

fn walk_value(value: &Spanned<DeValue<'_>>, text: &str, masks: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => walk_table(table, text, masks),
        DeValue::Array(array) => array.iter().for_each(|item| walk_value(item, text, masks)),
        DeValue::String(_) => {
            let span = value.span();
            let inner = text.get(span.clone()).unwrap_or_default();
            masks.extend(url_passwords(inner).into_iter().map(|r| r.start + span.start..r.end + span.start));
        }
        _ => {}
    }
}

/// Does a key of this name hold a secret?
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|secret| key.contains(secret))
}

/// Every masked range of a line, relative to it, in order and disjoint. `known` are ranges of the whole file.
pub(super) fn line_masks(line: &str, line_start: usize, known: &[Range<usize>]) -> Vec<Range<usize>> {
    let line_end = line_start + line.len();
    let of_tree = known.iter().filter(|mask| mask.start < line_end && mask.end > line_start);
    let relative = of_tree.map(|m| m.start.max(line_start) - line_start..m.end.min(line_end) - line_start);
    let mut masks: Vec<_> = relative.chain(url_passwords(line)).chain(assignments(line)).collect();
    masks.sort_by_key(|mask| mask.start);
    masks.into_iter().fold(Vec::new(), join)
}

fn join(mut joined: Vec<Range<usize>>, mask: Range<usize>) -> Vec<Range<usize>> {
    match joined.last_mut() {
        Some(last) if mask.start <= last.end => last.end = last.end.max(mask.end),
        _ => joined.push(mask),
    }
    joined
}

/// The text with its masks applied, and where `focus` is in it then.
pub(super) fn apply(text: &str, masks: &[Range<usize>], focus: usize) -> (String, usize) {
    let (mut shown, mut at, mut new_focus) = (String::new(), 0, None);
    for mask in masks {
        let before = text.get(at..mask.start).unwrap_or_default();
        if focus < mask.end && new_focus.is_none() {
            new_focus = Some(shown.len() + focus.min(mask.start).saturating_sub(at));
        }
        shown.push_str(before);
        shown.push_str(MASK);
        at = mask.end;
    }
    let new_focus = new_focus.unwrap_or(shown.len() + focus.saturating_sub(at));
    shown.push_str(text.get(at..).unwrap_or_default());
    (shown, new_focus)
}

/// What stands between the first `:` of a URL's authority and the last `@`. Rather too much than too little:
/// in text whose `@` or `//` is lost, everything that is no port is taken for a password.
fn url_passwords(text: &str) -> Vec<Range<usize>> {
    let schemes: Vec<usize> = text.match_indices("://").map(|(i, _)| i + 3).collect();
    if schemes.is_empty() {
        let start = text.find(['"', '\'']).or(text.find('=')).map_or(0, |i| i + 1);
        // Without a scheme there may be no colon left before the password either.
        let rest = &text[start..];
        let at = rest.rmatch_indices('@').map(|(at, _)| at).find(|at| *at > 0 && !is_category(rest, *at));
        return at.map(|at| start..start + at).into_iter().collect();
    }
    schemes
        .into_iter()
        .filter_map(|start| before_at(text, start).or_else(|| not_a_port(text, start)))
        .collect()
}

/// Is this `@` that of a category among rules, as in `+@read`?
fn is_category(text: &str, at: usize) -> bool {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')');
    let start = text[..at].rfind(ends).map_or(0, |end| end + 1);
    let name = text[at + 1..].split(ends).next().unwrap_or_default();
    // A blank of several bytes is no word's end that rules know.
    matches!(text.get(start..at), Some("+" | "-")) && name.chars().all(|c| c.is_ascii_alphabetic())
}

/// A message without the password of a URL that stands where a name should.
pub(super) fn message(text: String) -> String {
    let start = text.find("://").map(|i| i + 3);
    match start.and_then(|start| before_at(&text, start)) {
        Some(mask) => apply(&text, &[mask], 0).0,
        None => text,
    }
}

/// Without a colon it is the user, but people put passwords there as well.
fn before_at(text: &str, start: usize) -> Option<Range<usize>> {
    let at = text[start..].rfind('@')?;
    let password = text[start..start + at].find(':').map_or(0, |colon| colon + 1);
    (password < at).then_some(start + password..start + at)
}

fn not_a_port(text: &str, start: usize) -> Option<Range<usize>> {
    let end = text[start..].find(['"', '\'']).map_or(text.len(), |i| start + i);
    let authority = &text[start..end];
    let port = match authority.find(']') {
        Some(bracket) if authority.starts_with('[') => bracket + authority[bracket..].find(':')?,
        _ => authority.find(':')?,
    };
    let digits = authority[port + 1..].split(['/', '?']).next().unwrap_or_default();
    let is_port = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    (!is_port).then_some(start + port + 1..end)
}

fn is_bare(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '[' | ']' | '.' | '-' | '_' | ' '))
}

/// A line with a syntax error: all of it that may be a secret, unless its key is one of the `harmless`.
pub(super) fn broken_line(line: &str, harmless: impl Fn(&str) -> bool) -> Option<Range<usize>> {
    let start = match line.split_once('=') {
        Some((key, value)) if is_bare(key) => {
            let shown = !value.contains(['=', '@', '"', '\'']) && harmless(key.trim());
            if shown {
                return None;
            }
            key.len() + 1
        }
        None if line.trim_start().starts_with('[') && is_bare(line) => return None,
        _ => 0,
    };
    let start = line.len() - line[start..].trim_start().len();
    (start < line.len()).then_some(start..line.trim_end().len())
}

/// The values of `password = …` and the like, to the closing quote or the end of the line.
fn assignments(line: &str) -> Vec<Range<usize>> {
    let values = line.match_indices('=').filter(|(i, _)| ends_in_secret_key(&line[..*i]));
    values.filter_map(|(i, _)| value_range(line, i + 1)).collect()
}

fn ends_in_secret_key(before: &str) -> bool {
    let key = before.trim_end().trim_end_matches(['"', '\'']);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let start =
        key.rfind(|c| !is_part(c)).map_or(0, |i| i + key[i..].chars().next().map_or(1, char::len_utf8));
    is_secret_key(&key[start..])
}

fn value_range(line: &str, after: usize) -> Option<Range<usize>> {
    let start = after + line[after..].len() - line[after..].trim_start().len();
    let value = &line[start..];
    match value.chars().next()? {
        // A table: `{ env = "X" }` names a variable, which is no secret.
        '{' => None,
        quote @ ('"' | '\'') => {
            let end = value[1..].find(quote).map_or(line.len(), |i| start + i + 2);
            // An empty pair may open a multi-line string, and an escaped quote does not end one.
            let closed = end > start + 2 && (quote == '\'' || !line[..end - 1].ends_with('\\'));
            Some(start..if closed { end } else { line.len() })
        }
        _ => Some(start..line.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str) -> String {
        apply(line, &line_masks(line, 0, &[]), 0).0
    }

    #[test]
    fn url_passwords_are_masked() {
        assert_eq!(masked(r#"url = "redis://u:p@ss@h:1""#), r#"url = "redis://u:***@h:1""#);
        assert_eq!(masked(r#"url = "redis://:pw@h:1""#), r#"url = "redis://:***@h:1""#);
        assert_eq!(masked(r#"url = "redis://h:1""#), r#"url = "redis://h:1""#);
        assert_eq!(masked("url = redis://:pw@h:1"), "url = redis://:***@h:1");
        assert_eq!(masked(r#"url = "redis://:pw"#), r#"url = "redis://:***"#);
        assert_eq!(masked(r#"url = "redis:/u:pw@h:1""#), r#"url = "***@h:1""#);
        assert_eq!(masked(r#"url = "redis://[::1]:7001/0""#), r#"url = "redis://[::1]:7001/0""#);
    }

    #[test]
    fn password_values_are_masked_however_broken() {
        assert_eq!(masked(r#"password = "a b" # why"#), "password = *** # why");
        for line in
            [r#"password = "a\" b""#, "password = pw", "'password'=\"pw", "r = { PASSWORD = [\"pw\"]}"]
        {
            assert!(!masked(line).contains("pw") && !masked(line).contains(" b"), "{}", masked(line));
        }
        assert_eq!(masked(r#"password = { env = "PW" }"#), r#"password = { env = "PW" }"#);
        assert_eq!(masked(r#"password = { x = 1, token = 5 }"#), "password = { x = 1, token = ***");
    }

    #[test]
    fn a_broken_line_shows_what_is_harmless() {
        let known = |key: &str| key == "group";
        assert_eq!(broken_line("group = cache", known), None);
        assert_eq!(broken_line("hunter2\"", known), Some(0..8));
        assert_eq!(broken_line("word = \"hunter2\" ", known), Some(7..16));
        assert_eq!(broken_line("[listen.main", known), None);
        assert_eq!(broken_line("  ", known), None);
    }

    #[test]
    fn the_focus_moves_with_the_text() {
        let masks = vec![Range { start: 1, end: 7 }];
        assert_eq!(apply("aSECRETb", &masks, 7), ("a***b".into(), 4));
        assert_eq!(apply("aSECRETb", &masks, 3), ("a***b".into(), 1));
        assert_eq!(apply("aSECRETb", &masks, 0), ("a***b".into(), 0));
    }

    #[test]
    fn categories_of_rules_are_no_urls() {
        assert!(url_passwords("rules = \"~a:* +@read (-@all) +@reed\"").is_empty());
        assert_eq!(url_passwords("rules = \"+@all ann:pw@host\"").first(), Some(&(9..21)));
        assert_eq!(url_passwords("url = \"ann:pw+@host\"").first(), Some(&(7..14)));
        assert!(has_password("on >pw +get") && has_password("(#ab)") && !has_password("~a>b +get"));
    }
}
