//! The requests of a run, encoded once, so that sending is one write of a slice.

use super::{Mix, Settings};
use std::ops::Range;

/// A script has at least this many requests, or as many as fit into [`SCRIPT_BYTES`].
const SCRIPT_REQUESTS: u64 = 16_384;
/// About the size that a script stays below.
const SCRIPT_BYTES: usize = 64 << 20;

/// Encoded requests, one after the other. Connections replay it in a circle, each from a place
/// of its own. Keys are drawn uniformly, so a script as long as the key space names some twice.
#[derive(Debug)]
pub struct Script {
    bytes: Vec<u8>,
    /// Where each request starts, and the end.
    starts: Vec<usize>,
    /// Requests before the circle closes. The first `depth` are repeated after it, so that a
    /// batch is always one slice.
    len: usize,
    /// Requests that belong together.
    step: usize,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Get,
    Set,
    SetTtl,
    Multi,
    Eval,
}

impl What {
    fn commands<'a>(self, key: &'a [u8], value: &'a [u8]) -> Vec<Vec<&'a [u8]>> {
        let set: Vec<&[u8]> = vec![b"SET", key, value];
        match self {
            What::Get => vec![vec![b"GET", key]],
            What::Set => vec![set],
            What::SetTtl => vec![vec![b"SET", key, value, b"EX", b"3600"]],
            What::Multi => vec![vec![b"MULTI"], set, vec![b"EXEC"]],
            What::Eval => {
                vec![vec![b"EVAL", b"return redis.call('SET',KEYS[1],ARGV[1])", b"1", key, value]]
            }
        }
    }
}

impl Script {
    /// Random keys and commands as the mix says.
    pub fn random(settings: &Settings) -> Script {
        let mut dice = SplitMix(0x5eed);
        let keys = settings.keys.max(1);
        let requests = |_| {
            let drawn = dice.next() % 100;
            let what = match settings.mix {
                Mix::Get(percent) if drawn < u64::from(percent) => What::Get,
                Mix::Get(_) => What::Set,
                Mix::SetTtl => What::SetTtl,
                Mix::Multi => What::Multi,
                Mix::Eval => What::Eval,
            };
            (what, dice.next() % keys)
        };
        let fit = SCRIPT_BYTES / (settings.value_bytes + 64);
        let len = (keys.max(SCRIPT_REQUESTS) as usize).min(fit).max(settings.depth);
        let requests: Vec<(What, u64)> = (0..len).map(requests).collect();
        Script::encode(&requests, settings)
    }

    /// One SET of every key, in order.
    pub fn sequential(settings: &Settings) -> Script {
        debug_assert_eq!(settings.mix, Mix::SET);
        let requests: Vec<(What, u64)> = (0..settings.keys.max(1)).map(|key| (What::Set, key)).collect();
        Script::encode(&requests, settings)
    }

    fn encode(requests: &[(What, u64)], settings: &Settings) -> Script {
        let value = value(settings.value_bytes);
        let repeated = requests.iter().cycle().take(settings.depth);
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for (what, key) in requests.iter().chain(repeated) {
            let key = format!("key:{key:012}");
            for command in what.commands(key.as_bytes(), &value) {
                push_command(&mut bytes, &command);
                starts.push(bytes.len());
            }
        }
        let step = requests.first().map_or(1, |(what, _)| what.commands(b"", b"").len());
        Script { bytes, starts, len: requests.len() * step, step }
    }

    /// Where connection `index` of `count` begins: never in the middle of a transaction.
    pub fn beginning(&self, index: usize, count: usize) -> usize {
        index * (self.len / self.step) / count * self.step
    }

    /// The bytes of `count` requests from `cursor` on, at most `depth`; moves the cursor.
    pub fn take(&self, cursor: &mut usize, count: usize) -> Range<usize> {
        let range = self.starts[*cursor]..self.starts[*cursor + count];
        *cursor = (*cursor + count) % self.len;
        range
    }

    /// The bytes that a range of [`Script::take`] stands for.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }
}

/// Appends a command as an array of bulk strings.
pub fn push_command(to: &mut Vec<u8>, args: &[&[u8]]) {
    to.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        to.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        to.extend_from_slice(arg);
        to.extend_from_slice(b"\r\n");
    }
}

fn value(len: usize) -> Vec<u8> {
    let mut dice = SplitMix(0xda7a);
    (0..len).map(|_| b'a' + (dice.next() % 26) as u8).collect()
}

/// Sebastiano Vigna's splitmix64: the same numbers in every run.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mix: Mix) -> Settings {
        let target = "127.0.0.1:1".parse().expect("an address");
        Settings {
            target,
            connections: 1,
            depth: 3,
            value_bytes: 2,
            keys: 4,
            mix,
            rate: None,
            burst: std::time::Duration::ZERO,
            protocol: 2,
            tls: None,
        }
    }

    #[test]
    fn a_batch_over_the_end_is_one_slice() {
        let script = Script::sequential(&settings(Mix::SET));
        let mut cursor = 3;
        let range = script.take(&mut cursor, 3);
        let text = String::from_utf8(script.bytes(&range).to_vec()).expect("text");
        let keys: Vec<&str> = text.lines().filter(|line| line.starts_with("key:")).collect();
        assert_eq!(keys, ["key:000000000003", "key:000000000000", "key:000000000001"]);
        assert_eq!(cursor, 2);
    }

    #[test]
    fn a_transaction_is_not_cut_by_a_beginning() {
        let script = Script::random(&Settings { keys: 100, ..settings(Mix::Multi) });
        for index in 0..7 {
            let mut cursor = script.beginning(index, 7);
            let range = script.take(&mut cursor, 3);
            let text = String::from_utf8(script.bytes(&range).to_vec()).expect("text");
            assert!(text.starts_with("*1\r\n$5\r\nMULTI") && text.ends_with("EXEC\r\n"), "{text}");
        }
    }

    #[test]
    fn a_mix_of_eighty_is_about_eighty() {
        let script = Script::random(&settings(Mix::Get(80)));
        let text = String::from_utf8(script.bytes).expect("text");
        let (gets, sets) = (text.matches("GET\r\n").count(), text.matches("SET\r\n").count());
        let share = gets as f64 / (gets + sets) as f64;
        assert!((0.78..0.82).contains(&share), "{share}");
    }
}
