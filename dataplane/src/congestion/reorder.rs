//! A new order for the encodings of a source, and how what stands in their places follows.

use super::layer::MAX_ENCODINGS;

/// Where each encoding goes: by its present place, its new one. A permutation of those that there are.
pub type Moves = [u8; MAX_ENCODINGS];

/// No encoding goes anywhere.
pub const STAY: Moves = {
    let mut moves = [0; MAX_ENCODINGS];
    let mut i = 0;
    while i < MAX_ENCODINGS {
        moves[i] = i as u8;
        i += 1;
    }
    moves
};

/// The new place of an encoding.
pub fn moved(moves: &Moves, encoding: u8) -> u8 {
    moves.get(usize::from(encoding)).copied().unwrap_or(encoding)
}

/// Puts what stands in the places of encodings into their new places.
pub fn permute<T>(list: &mut [T], moves: &Moves) {
    let mut left = *moves;
    for place in 0..list.len().min(MAX_ENCODINGS) {
        // Each swap brings one to its place for good.
        while let Some(to) = left.get(place).map(|to| usize::from(*to)).filter(|to| *to != place && *to < list.len()) {
            list.swap(place, to);
            left.swap(place, to);
        }
    }
}
