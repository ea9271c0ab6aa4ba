//! SHA-256 (FIPS 180-4), because ACL LIST shows passwords by it.
//! It is for small inputs that nobody attacks; it is not constant in time.

const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The digest as 64 lower-case hexadecimal digits.
pub(super) fn hex(data: &[u8]) -> String {
    let mut state = INITIAL;
    let constants = round_constants();
    for block in padded(data).chunks_exact(64) {
        compress(&mut state, block, &constants);
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut message = data.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&(data.len() as u64 * 8).to_be_bytes());
    message
}

fn compress(state: &mut [u32; 8], block: &[u8], constants: &[u32; 64]) {
    let words = schedule(block);
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (constant, word) in constants.iter().zip(words) {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(*constant).wrapping_add(word);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        (h, g, f, e, d, c, b, a) =
            (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(s0).wrapping_add(majority));
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(add);
    }
}

fn schedule(block: &[u8]) -> [u32; 64] {
    let mut words = [0u32; 64];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = bytes.iter().fold(0, |acc, byte| acc << 8 | u32::from(*byte));
    }
    for i in 16..64 {
        let s0 = words[i - 15].rotate_right(7) ^ words[i - 15].rotate_right(18) ^ (words[i - 15] >> 3);
        let s1 = words[i - 2].rotate_right(17) ^ words[i - 2].rotate_right(19) ^ (words[i - 2] >> 10);
        words[i] = words[i - 16].wrapping_add(s0).wrapping_add(words[i - 7]).wrapping_add(s1);
    }
    words
}

/// The fractional parts of the cube roots of the first 64 primes.
fn round_constants() -> [u32; 64] {
    let mut constants = [0; 64];
    let primes = (2u32..).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0));
    for (constant, prime) in constants.iter_mut().zip(primes) {
        *constant = (cube_root_shifted(prime) & 0xffff_ffff) as u32;
    }
    constants
}

/// The integer part of the cube root of `n`, times 2^32, by bisection.
fn cube_root_shifted(n: u32) -> u64 {
    let (mut low, mut high) = (0u64, 7 << 32);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if cube_at_most(middle, n) { low = middle } else { high = middle }
    }
    low
}

/// Whether `x`³ ≤ `n`·2^96, without leaving 128 bits.
fn cube_at_most(x: u64, n: u32) -> bool {
    let x = u128::from(x);
    let square = x * x;
    let (high, low) = (square >> 64, square & u128::from(u64::MAX));
    let carry = (low * x) >> 64;
    let rest = (low * x) & u128::from(u64::MAX);
    let top = high * x + carry;
    let bound = u128::from(n) << 32;
    top < bound || (top == bound && rest == 0)
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn known_digests() {
        assert_eq!(hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hex(b"x"), "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");
        assert_eq!(hex(&[b'a'; 64]), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
    }
}
