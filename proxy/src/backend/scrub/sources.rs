//! The keys of each replica, their number and their sizes, asked on connections beside the ordered ones.
//! What it says is where to look, never what is right.

use crate::backend::call::Call;
use crate::config::Backend;
use bytes::Bytes;
use quorate_wire::resp::Value;
use quorate_wire::resp::transaction::RESERVED_PREFIX;

/// Where every SCAN begins and ends.
pub(super) const START: u64 = 0;

/// Why sizes are not known.
pub(super) enum Trouble {
    /// The server's words.
    Refused(String),
}

/// Connections to the replicas, made when they are first used.
pub(super) struct Sources {
    backends: Vec<Backend>,
    calls: Vec<Option<Call>>,
}

impl Sources {
    pub(super) fn new(backends: &[Backend]) -> Self {
        Sources { backends: backends.to_vec(), calls: backends.iter().map(|_| None).collect() }
    }

    async fn ask(&mut self, i: usize, commands: &[Vec<&[u8]>]) -> Result<Vec<Value>, String> {
        let mut call = match self.calls[i].take() {
            Some(call) => call,
            None => Call::open(&self.backends[i]).await?,
        };
        // After a problem the connection is not used again.
        let answers = call.ask_all(commands).await?;
        self.calls[i] = Some(call);
        Ok(answers)
    }

    /// How many keys replica `i` has.
    pub(super) async fn count(&mut self, i: usize) -> Result<u64, String> {
        match self.ask(i, &[vec![b"DBSIZE"]]).await?.as_slice() {
            [Value::Integer(count)] => Ok(u64::try_from(*count).unwrap_or(0)),
            _ => Err("it does not answer DBSIZE as expected".into()),
        }
    }

    /// A page of the keys of replica `i`, without ours, each once; and where the next page begins.
    pub(super) async fn scan(
        &mut self,
        i: usize,
        from: u64,
        count: usize,
    ) -> Result<(u64, Vec<Bytes>), String> {
        let (from, count) = (from.to_string(), count.to_string());
        let scan = vec![&b"SCAN"[..], from.as_bytes(), b"COUNT", count.as_bytes()];
        let answer = self.ask(i, &[scan]).await?.pop().unwrap_or(Value::Null);
        if let Some(error) = answer.error() {
            return Err(format!("it refuses SCAN: {error}"));
        }
        let unexpected = || "it does not answer SCAN as expected".to_string();
        let [next, keys] = answer.items() else { return Err(unexpected()) };
        let next = next.text().and_then(|text| text.parse().ok()).ok_or_else(unexpected)?;
        let keys = keys.items().iter().filter_map(Value::bytes);
        let mut keys: Vec<Bytes> = keys.filter(|key| !key.starts_with(RESERVED_PREFIX)).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        Ok((next, keys))
    }

    /// Keeps the keys that replica `i` has not, as far as it can be asked.
    pub(super) async fn retain_missing(&mut self, i: usize, keys: &mut Vec<Bytes>) {
        let asked: Vec<Vec<&[u8]>> = keys.iter().map(|key| vec![&b"EXISTS"[..], key]).collect();
        let Ok(answers) = self.ask(i, &asked).await else { return };
        let mut there = answers.iter().map(|answer| *answer == Value::Integer(1));
        keys.retain(|_| !there.next().unwrap_or(false));
    }

    /// Bytes of each key's value where it is largest, as far as these replicas can be asked.
    pub(super) async fn sizes(&mut self, replicas: &[usize], keys: &[Bytes]) -> Result<Vec<u64>, Trouble> {
        let mut sizes = vec![0; keys.len()];
        let asked: Vec<Vec<&[u8]>> = keys.iter().map(|key| vec![&b"MEMORY"[..], b"USAGE", key]).collect();
        for i in replicas {
            let Ok(answers) = self.ask(*i, &asked).await else { continue };
            for (size, answer) in sizes.iter_mut().zip(&answers) {
                match answer {
                    Value::Integer(bytes) => *size = u64::try_from(*bytes).unwrap_or(0).max(*size),
                    Value::Error(error) => {
                        return Err(Trouble::Refused(String::from_utf8_lossy(error).into_owned()));
                    }
                    _ => {}
                }
            }
        }
        Ok(sizes)
    }
}
