//! A new order for the encodings of a source, and how what stands in their positions follows.

use super::layer::MAX_ENCODINGS;

/// Where each encoding goes: by its present position, its new one. A permutation of those that there are.
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

/// The new position of an encoding.
pub fn moved(moves: &Moves, encoding: u8) -> u8 {
    moves.get(usize::from(encoding)).copied().unwrap_or(encoding)
}

/// Puts what stands in the positions of encodings into their new positions.
pub fn permute<T>(list: &mut [T], moves: &Moves) {
    let mut left = *moves;
    for position in 0..list.len().min(MAX_ENCODINGS) {
        // Each swap brings one to its position for good.
        while let Some(to) =
            left.get(position).map(|to| usize::from(*to)).filter(|to| *to != position && *to < list.len())
        {
            list.swap(position, to);
            left.swap(position, to);
        }
    }
}
