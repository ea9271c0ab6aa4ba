//! Patterns against a real server: the same names match.

mod command_support;

use command_support::{Reply, Server};
use quorate_wire::glob;

const ALPHABET: &[u8] = b"ab]-^[\\*?";

/// The text with this number, of at most `longest` bytes.
fn text(mut number: usize, longest: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while number > 0 && text.len() < longest {
        text.push(ALPHABET[number % ALPHABET.len()]);
        number /= ALPHABET.len();
    }
    text
}

#[test]
fn the_same_names_match_as_on_a_server() {
    let mut server = Server::redis();
    let names: Vec<Vec<u8>> = (1..730).map(|number| text(number, 3)).collect();
    let mut command = vec![b"MSET".to_vec()];
    names.iter().for_each(|name| command.extend([name.clone(), b"v".to_vec()]));
    server.ask(&command);
    // All short patterns, and some of the longer ones.
    let longer = (0..4000_usize).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
    for number in (1..1000).chain(longer) {
        let pattern = text(number, 6);
        let reply = server.ask(&[&b"KEYS"[..], &pattern]);
        let mut expected: Vec<Vec<u8>> = reply.array().into_iter().map(Reply::bytes).collect();
        let mut found: Vec<Vec<u8>> =
            names.iter().filter(|name| glob::matches(&pattern, name)).cloned().collect();
        expected.sort();
        found.sort();
        found.dedup();
        assert_eq!(found, expected, "{}", pattern.escape_ascii());
    }
}
