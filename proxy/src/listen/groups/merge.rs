//! One answer out of those of several groups.

use crate::listen::filter::line;
use bytes::{Bytes, BytesMut};
use quorate_wire::resp::{Scanner, Value, encode};

/// How answers become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// Their sum.
    Sum {
        /// The command changes data.
        writes: bool,
    },
    /// The least of the numbers.
    Least,
    /// The same for each element of arrays of numbers.
    LeastOfEach,
    /// The first; all are the same when all went well.
    Status,
    /// One array of all elements.
    Concat,
    /// One array; for each element the place of the answer that has it next.
    Order(Vec<usize>),
    /// Whichever is not null.
    Any,
}

impl Merge {
    /// Joins them. Where something failed, the answer is an error that says whether anything may have been done.
    pub fn join(&self, answers: &[Bytes]) -> Bytes {
        if answers.iter().all(Bytes::is_empty) {
            // The client wants none.
            return Bytes::new();
        }
        if let Some(error) = self.failure(answers) {
            return error;
        }
        self.joined(answers).unwrap_or_else(|| {
            Bytes::from_static(b"-UNKNOWN the answers of several groups cannot be read as one\r\n")
        })
    }

    fn failure(&self, answers: &[Bytes]) -> Option<Bytes> {
        let failed: Vec<&Bytes> = answers.iter().filter(|answer| answer.starts_with(b"-")).collect();
        let first = *failed.first()?;
        let unknown = failed.iter().find(|answer| answer.starts_with(b"-UNKNOWN"));
        if !self.writes() || failed.len() == answers.len() {
            return Some(unknown.map_or(first, |answer| *answer).clone());
        }
        let text = String::from_utf8_lossy(&first[1..]);
        let mut out = BytesMut::new();
        let why = format!("UNKNOWN done in some groups and not in others: {}", text.trim_end());
        encode::error(&why, &mut out);
        Some(out.freeze())
    }

    /// May something be changed?
    pub fn writes(&self) -> bool {
        matches!(self, Merge::Sum { writes: true } | Merge::Status)
    }

    fn joined(&self, answers: &[Bytes]) -> Option<Bytes> {
        let numbers = || -> Option<Vec<i64>> {
            answers.iter().map(|answer| line(answer, b':').map(|(number, _)| number)).collect()
        };
        match self {
            Merge::Sum { .. } => Some(integer(numbers()?.iter().sum())),
            Merge::Least => Some(integer(numbers()?.into_iter().min()?)),
            Merge::LeastOfEach => least_of_each(answers),
            Merge::Status => answers.first().cloned(),
            Merge::Any => answers.iter().find(|answer| !is_null(answer)).or(answers.first()).cloned(),
            Merge::Concat => concat(answers),
            Merge::Order(order) => in_order(answers, order),
        }
    }
}

fn integer(number: i64) -> Bytes {
    Bytes::from(format!(":{number}\r\n"))
}

fn least_of_each(answers: &[Bytes]) -> Option<Bytes> {
    let mut least: Vec<i64> = Vec::new();
    for answer in answers {
        let Value::Array(items) = Value::parse(answer)? else { return None };
        for (at, item) in items.iter().enumerate() {
            let Value::Integer(number) = *item else { return None };
            match least.get_mut(at) {
                Some(known) => *known = number.min(*known),
                None => least.push(number),
            }
        }
    }
    let mut out = BytesMut::new();
    encode::header(b'*', least.len(), &mut out);
    least.into_iter().for_each(|number| out.extend_from_slice(&integer(number)));
    Some(out.freeze())
}

fn is_null(answer: &[u8]) -> bool {
    answer.starts_with(b"$-1") || answer.starts_with(b"_")
}

fn concat(answers: &[Bytes]) -> Option<Bytes> {
    let heads: Option<Vec<(i64, usize)>> = answers.iter().map(|answer| line(answer, b'*')).collect();
    let heads = heads?;
    let mut out = BytesMut::new();
    encode::header(b'*', usize::try_from(heads.iter().map(|(count, _)| count).sum::<i64>()).ok()?, &mut out);
    for (answer, (_, start)) in answers.iter().zip(heads) {
        out.extend_from_slice(&answer[start..]);
    }
    Some(out.freeze())
}

fn in_order(answers: &[Bytes], order: &[usize]) -> Option<Bytes> {
    let mut rests = Vec::new();
    for answer in answers {
        let (_, start) = line(answer, b'*')?;
        rests.push(answer.slice(start..));
    }
    let mut out = BytesMut::new();
    encode::header(b'*', order.len(), &mut out);
    for place in order {
        let rest = rests.get_mut(*place)?;
        let len = Scanner::default().next(rest).ok()??;
        out.extend_from_slice(&rest.split_to(len));
    }
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(merge: Merge, answers: &[&'static str]) -> String {
        let answers: Vec<Bytes> =
            answers.iter().map(|answer| Bytes::from_static(answer.as_bytes())).collect();
        String::from_utf8_lossy(&merge.join(&answers)).into_owned()
    }

    #[test]
    fn numbers_and_arrays_become_one() {
        let writes = true;
        assert_eq!(join(Merge::Sum { writes }, &[":1\r\n", ":2\r\n"]), ":3\r\n");
        assert_eq!(join(Merge::Least, &[":2\r\n", ":1\r\n"]), ":1\r\n");
        let counts = ["*2\r\n:1\r\n:2\r\n", "*2\r\n:0\r\n:3\r\n"];
        assert_eq!(join(Merge::LeastOfEach, &counts), "*2\r\n:0\r\n:2\r\n");
        assert_eq!(join(Merge::Any, &["$-1\r\n", "$1\r\na\r\n"]), "$1\r\na\r\n");
        assert_eq!(join(Merge::Any, &["$-1\r\n", "$-1\r\n"]), "$-1\r\n");
        let arrays = ["*2\r\n$1\r\na\r\n$-1\r\n", "*1\r\n$1\r\nb\r\n"];
        assert_eq!(join(Merge::Concat, &arrays), "*3\r\n$1\r\na\r\n$-1\r\n$1\r\nb\r\n");
        assert_eq!(join(Merge::Order(vec![0, 1, 0]), &arrays), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
    }

    #[test]
    fn an_error_says_whether_something_was_done() {
        let (done, refused, unknown) = (":1\r\n", "-NOTAPPLIED x\r\n", "-UNKNOWN y\r\n");
        let writes = Merge::Sum { writes: true };
        assert_eq!(join(writes.clone(), &[refused, refused]), refused);
        assert_eq!(join(writes.clone(), &[refused, unknown]), unknown);
        let text = "-UNKNOWN done in some groups and not in others: NOTAPPLIED x\r\n";
        assert_eq!(join(writes, &[done, refused]), text);
        assert_eq!(join(Merge::Sum { writes: false }, &[done, refused]), refused);
    }

    #[test]
    fn who_wants_no_answer_gets_none() {
        assert_eq!(join(Merge::Status, &["", ""]), "");
    }
}
