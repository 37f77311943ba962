//! Which layers a sender sends at the moment, and which of them stands in for one that it does not.

use serde::{Deserialize, Serialize};

use super::layer::{LayerId, MAX_ENCODINGS, MAX_SPATIAL, MAX_TEMPORAL};
use super::reorder::{self, Moves};
use super::shedding::Shedding;

/// What a source sends, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActiveLayers {
    encodings: u8,
    spatial: [u8; MAX_ENCODINGS],
}

impl ActiveLayers {
    /// Of a source's encodings in order: whether each still comes, and its spatial layers, one bit each.
    pub fn of(encodings: impl ExactSizeIterator<Item = (bool, u8)>) -> Self {
        let only = encodings.len() == 1;
        let mut all = Self::default();
        for (i, (comes, spatial)) in encodings.enumerate().take(MAX_ENCODINGS) {
            all.encodings |= u8::from(only || comes) << i;
            all.spatial[i] = spatial;
        }
        all
    }

    /// The encodings that are sent, one bit each.
    #[inline]
    pub fn encodings(&self) -> u8 {
        self.encodings
    }

    /// The spatial layers of an encoding, one bit each.
    #[inline]
    pub fn spatial(&self, encoding: u8) -> u8 {
        self.spatial.get(usize::from(encoding)).copied().unwrap_or(0)
    }

    /// The encodings have other positions from now on.
    pub fn renumber(&mut self, moves: &Moves) {
        let set = (0..MAX_ENCODINGS as u8).filter(|encoding| self.encodings >> encoding & 1 != 0);
        self.encodings = set.fold(0, |set, encoding| set | 1 << reorder::moved(moves, encoding));
        reorder::permute(&mut self.spatial, moves);
    }

    /// The layer to forward when a receiver is allocated `target`: the highest that is sent up to it, else the lowest one
    /// that is sent, else the target itself; lowered by what the worker leaves out.
    #[inline]
    pub fn desired(&self, shedding: Shedding, target: LayerId) -> LayerId {
        let encoding = pick(self.encodings, shedding.cap(self.encodings, target.encoding));
        // In the place of a higher encoding: all of it. In the place of a lower one: as little of it as there is.
        let (spatial, temporal) = match encoding.cmp(&target.encoding) {
            std::cmp::Ordering::Less => (MAX_SPATIAL as u8 - 1, MAX_TEMPORAL as u8 - 1),
            std::cmp::Ordering::Equal => (target.spatial, target.temporal),
            std::cmp::Ordering::Greater => (0, target.temporal),
        };
        let sent = self.spatial(encoding);
        let spatial = pick(sent, if self.encodings == 1 { shedding.cap(sent, spatial) } else { spatial });
        LayerId { encoding, spatial, temporal }
    }
}

/// The highest member of a set up to `most`, else its lowest one, else `most`.
#[inline]
fn pick(set: u8, most: u8) -> u8 {
    let up_to = set & (((1u16 << (most.min(7) + 1)) - 1) as u8);
    if up_to != 0 {
        7 - up_to.leading_zeros() as u8
    } else if set != 0 {
        set.trailing_zeros() as u8
    } else {
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_active_up_to_the_target() {
        assert_eq!(pick(0b111, 2), 2);
        assert_eq!(pick(0b011, 2), 1);
        assert_eq!(pick(0b101, 1), 0);
        assert_eq!(pick(0b100, 1), 2);
        assert_eq!(pick(0, 1), 1);
    }

    #[test]
    fn what_stands_in_is_whole_when_lower_and_small_when_higher() {
        let id = |encoding, spatial, temporal| LayerId { encoding, spatial, temporal };
        let all = ActiveLayers { encodings: 0b111, spatial: [1; MAX_ENCODINGS] };
        let none = Shedding::default();
        assert_eq!(all.desired(none, id(1, 2, 1)), id(1, 0, 1));
        let low = ActiveLayers { encodings: 0b001, ..all };
        assert_eq!(low.desired(none, id(2, 0, 0)), id(0, 0, 3), "nothing higher: all of it");
        let high = ActiveLayers { encodings: 0b100, ..all };
        assert_eq!(high.desired(none, id(0, 0, 1)), id(2, 0, 1));
        let svc = ActiveLayers { encodings: 1, spatial: [0b011, 0, 0, 0] };
        assert_eq!(svc.desired(none, LayerId::whole(0)), id(0, 1, 3));
        assert_eq!(svc.desired(Shedding::at(1), LayerId::whole(0)), id(0, 0, 3), "a worker at its limit");
        assert_eq!(all.desired(Shedding::at(1), LayerId::whole(2)), id(1, 0, 3));
    }
}
