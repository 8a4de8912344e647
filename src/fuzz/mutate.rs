//! Changes to bytes, of the kinds that formats stumble over.

use super::Dice;

/// Longest that bytes get by changing.
const LENGTH_MAX: usize = 256 << 10;

/// Numbers that lie at an edge.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Changes `bytes` in one to four places; `other` is something to take pieces of.
pub(super) fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        change(bytes, other, dice);
    }
    bytes.truncate(LENGTH_MAX);
}

fn change(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let longest = if dice.below(4) == 0 { 64 } else { 8 };
    let length = 1 + dice.below(longest);
    let end = (at + length).min(bytes.len());
    match dice.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
        2 => edge(bytes, at, dice),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            let times = 1 + dice.below(3);
            for _ in 0..times {
                bytes.splice(at..at, piece.iter().copied());
            }
        }
        5 => {
            let fresh: Vec<u8> = (0..length).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
            bytes.splice(at..at, fresh);
        }
        6 => {
            let from = dice.below(other.len() + 1);
            let piece = &other[from..(from + length * 4).min(other.len())];
            bytes.splice(at..end, piece.iter().copied());
        }
        7 => bytes.truncate(at),
        _ => nudge(bytes, at, dice),
    }
}

/// Writes a number at an edge, in one of the widths and orders that formats have.
fn edge(bytes: &mut [u8], at: usize, dice: &mut Dice) {
    let number = EDGES[dice.below(EDGES.len())];
    let width = 1 << dice.below(4);
    let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
    let number = if dice.below(2) == 0 { &big[8 - width..] } else { &little[..width] };
    for (byte, new) in bytes.iter_mut().skip(at).zip(number) {
        *byte = *new;
    }
}

/// Makes a number a little larger or smaller: lengths and counts are off by one.
fn nudge(bytes: &mut [u8], at: usize, dice: &mut Dice) {
    let by = [1, 2, 255, 254][dice.below(4)];
    if let Some(byte) = bytes.get_mut(at) {
        *byte = byte.wrapping_add(by);
    }
}
