//! Changes of a long input that is made at run time, so that a short one reaches every part of it, whatever its form is by now.

use crate::input::Input;

/// Changes that are made at most.
const MOST: usize = 16;

/// A copy of `original` with what the input says changed: bytes set, flipped, left out, put in, taken from elsewhere.
pub fn apply(original: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let (what, at) = (input.u8(), usize::from(input.u16()) % (bytes.len() + 1));
        let end = bytes.len();
        match what % 7 {
            0 if at < end => bytes[at] = input.u8(),
            1 if at < end => bytes[at] ^= 1 << (what >> 5),
            2 => drop(bytes.splice(at..at, input.bytes().iter().copied())),
            3 => drop(bytes.drain(at..(at + usize::from(input.u8())).min(end))),
            // A number of up to ten bytes, in the place of one.
            4 if at < end => drop(bytes.splice(at..=at, varint(input.u64()))),
            5 => {
                let from = usize::from(input.u16()) % (end + 1);
                let part = bytes[from..(from + usize::from(input.u8())).min(end)].to_vec();
                let until = (at + part.len()).min(end);
                bytes.splice(at..until, part);
            }
            6 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

/// As the states' form has numbers.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
