//! A session's own order: within one pipeline, a read sees the writes before it and none behind it.

use super::history::{Ask, End, items, number};
use quorate_wire::resp::Value;

/// What is wrong with a pipeline's answers, if anything.
/// With `overtaken` a read must also not see what was sent behind it.
pub(super) fn broken(done: &[(&Ask, Option<&End>)], overtaken: bool) -> Option<String> {
    let answers: Vec<(&Ask, Option<&Value>)> = done
        .iter()
        .map(|(ask, end)| {
            let value = match end {
                Some(End::Ok(value)) => Some(value),
                _ => None,
            };
            (*ask, value)
        })
        .collect();
    let later = |i: usize| answers[i + 1..].iter();
    let mut pairs = (0..answers.len()).flat_map(|i| later(i).map(move |second| (i, second)));
    pairs.find_map(|(i, second)| pair(answers[i], *second, overtaken))
}

fn pair(first: (&Ask, Option<&Value>), second: (&Ask, Option<&Value>), overtaken: bool) -> Option<String> {
    let wrong = match (first, second) {
        ((Ask::Push(a, item), Some(_)), (Ask::List(b), Some(list))) if a == b => !has(list, item),
        ((Ask::Add(a, _), Some(sum)), (Ask::Count(b), Some(seen))) if a == b => number(seen) < number(sum),
        _ if !overtaken => false,
        ((Ask::List(a), Some(list)), (Ask::Push(b, item), _)) if a == b => has(list, item),
        ((Ask::Count(a), Some(seen)), (Ask::Add(b, _), Some(sum))) if a == b => number(seen) >= number(sum),
        ((Ask::Get(a), Some(seen)), (Ask::Set(b, value), _)) if a == b => seen.text() == Some(value),
        _ => false,
    };
    wrong.then(|| format!("{:?} was answered {:?}, and then {:?} {:?}", first.0, first.1, second.0, second.1))
}

fn has(list: &Value, item: &str) -> bool {
    items(list.items()).is_some_and(|items| items.iter().any(|one| one == item))
}
