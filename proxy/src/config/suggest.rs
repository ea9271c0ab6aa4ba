//! "Did you mean": the nearest of the words that would have been right.

/// Words longer than this are no slips of the finger, and comparing them costs time.
const MAX_WORD: usize = 64;

/// The candidate that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['_', ' '], "-");
    let word = plain(word);
    let length = word.chars().count();
    let allowed = (1 + length / 4).min(length.saturating_sub(1));
    let distance = |candidate: &'a str| (strsim::osa_distance(&word, &plain(candidate)), candidate);
    let near = candidates.into_iter().map(distance).filter(|(distance, _)| *distance <= allowed);
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// "did you mean X?", or the list of what is known.
pub(super) fn did_you_mean(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean '{candidate}'?"),
        None => known(candidates),
    }
}

/// The list of what is known, cut where it gets long.
pub(super) fn known(candidates: &[&str]) -> String {
    const SHOWN: usize = 16;
    let more = if candidates.len() > SHOWN { ", …" } else { "" };
    match candidates {
        [] => "there is none".into(),
        _ => format!("known: {}{more}", candidates[..candidates.len().min(SHOWN)].join(", ")),
    }
}

/// A word of the file, short enough for a message.
pub(super) fn brief(word: &str) -> String {
    const SHOWN: usize = 48;
    match word.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &word[..cut]),
        None => word.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_inventions_are_not() {
        let known = ["write-quorum", "replicas", "url"];
        assert_eq!(nearest("write_qourum", known), Some("write-quorum"));
        assert_eq!(nearest("URL", known), Some("url"));
        assert_eq!(nearest("urls", known), Some("url"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("a", ["b"]), None, "nothing of it is left");
        assert_eq!(nearest(&"u".repeat(1000), known), None);
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(brief(&"ü".repeat(60)).chars().count(), 49);
        assert_eq!(brief("short"), "short");
    }
}
