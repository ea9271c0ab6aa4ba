//! Helpers of the tests: requests, replies as trees, a seeded generator of numbers.

#![allow(dead_code, reason = "each test uses its share")]

pub mod real;

/// SplitMix64: the same seed gives the same numbers everywhere.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// A request as a client sends it.
pub fn request(words: &[String]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

/// A reply: its kind, its line or bytes, its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tree {
    pub kind: u8,
    pub text: Vec<u8>,
    pub parts: Vec<Tree>,
}

/// Reads one reply from the front, or `None` when it is not complete.
pub fn parse(bytes: &[u8]) -> Option<(Tree, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (kind, line) = (*bytes.first()?, &bytes[1..end]);
    let mut used = end + 2;
    let number: i64 = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut tree = Tree { kind, text: line.to_vec(), parts: Vec::new() };
    match kind {
        b'$' | b'=' if number >= 0 => {
            tree.text = bytes.get(used..used + number as usize)?.to_vec();
            used += number as usize + 2;
            bytes.get(used - 2..used)?;
        }
        b'*' | b'~' | b'%' | b'>' => {
            for _ in 0..if kind == b'%' { number * 2 } else { number } {
                let (part, len) = parse(&bytes[used..])?;
                tree.parts.push(part);
                used += len;
            }
        }
        _ => {}
    }
    Some((tree, used))
}
