//! Layers: what a source offers, by simulcast encoding, spatial and temporal layer.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Encodings of one source that are looked at (simulcast); further ones are not received.
pub const MAX_ENCODINGS: usize = 4;
/// Spatial layers of one encoding that are distinguished; higher ones count as the highest.
pub const MAX_SPATIAL: usize = 3;
/// Temporal layers of one encoding that are distinguished; higher ones count as the highest.
pub const MAX_TEMPORAL: usize = 4;
/// Operating points of one encoding.
pub const MAX_POINTS: usize = MAX_SPATIAL * MAX_TEMPORAL;
/// Operating points of one source.
pub const MAX_LAYERS: usize = MAX_ENCODINGS * MAX_POINTS;

/// One operating point of a source; ordered from low to high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LayerId {
    /// Simulcast encoding, from low to high.
    #[serde(deserialize_with = "crate::carry::below::<_, _, MAX_ENCODINGS>")]
    pub encoding: u8,
    /// Spatial layer within the encoding.
    #[serde(deserialize_with = "crate::carry::below::<_, _, MAX_SPATIAL>")]
    pub spatial: u8,
    /// Temporal layer within the encoding.
    #[serde(deserialize_with = "crate::carry::below::<_, _, MAX_TEMPORAL>")]
    pub temporal: u8,
}

impl LayerId {
    /// Everything that an encoding carries.
    pub const fn whole(encoding: u8) -> Self {
        Self { encoding, spatial: MAX_SPATIAL as u8 - 1, temporal: MAX_TEMPORAL as u8 - 1 }
    }

    /// The operating point within the encoding.
    pub const fn point(self) -> Point {
        Point::new(self.spatial, self.temporal)
    }
}

/// What a source offers at the moment at one operating point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layer {
    /// Which point.
    pub id: LayerId,
    /// Pixels, once a keyframe says it.
    pub height: Option<u16>,
    /// Frames per second, measured over about a second.
    pub frame_rate: f32,
    /// Bits per second of all that is needed to decode it, RTP payload without padding, measured over about a second.
    pub bitrate: u64,
}

/// A list of layers without memory of its own elsewhere, ascending.
#[derive(Debug, Clone)]
pub struct Layers {
    list: [Layer; MAX_LAYERS],
    len: usize,
}

impl Default for Layers {
    fn default() -> Self {
        let id = LayerId { encoding: 0, spatial: 0, temporal: 0 };
        Self { list: [Layer { id, height: None, frame_rate: 0.0, bitrate: 0 }; MAX_LAYERS], len: 0 }
    }
}

impl Layers {
    /// Empties it.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a layer at the end; one too many is left out.
    pub fn push(&mut self, layer: Layer) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = layer;
            self.len += 1;
        }
    }
}

impl Deref for Layers {
    type Target = [Layer];

    fn deref(&self) -> &[Layer] {
        self.list.get(..self.len).unwrap_or(&[])
    }
}

/// An operating point within one encoding: a spatial and a temporal layer and all that they build upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Point(#[serde(deserialize_with = "crate::carry::below::<_, _, MAX_POINTS>")] u8);

impl Point {
    /// The highest one.
    pub const TOP: Self = Self(MAX_POINTS as u8 - 1);

    /// The point of two layers; those beyond the highest count as the highest.
    pub const fn new(spatial: u8, temporal: u8) -> Self {
        let (top_spatial, top_temporal) = (MAX_SPATIAL as u8 - 1, MAX_TEMPORAL as u8 - 1);
        let spatial = if spatial > top_spatial { top_spatial } else { spatial };
        let temporal = if temporal > top_temporal { top_temporal } else { temporal };
        Self(spatial * MAX_TEMPORAL as u8 + temporal)
    }

    /// All points of an encoding, from low to high.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MAX_POINTS as u8).map(Self)
    }

    /// Its spatial layer.
    pub const fn spatial(self) -> u8 {
        self.0 / MAX_TEMPORAL as u8
    }

    /// Its temporal layer.
    pub const fn temporal(self) -> u8 {
        self.0 % MAX_TEMPORAL as u8
    }

    /// Its index among the points of an encoding.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of operating points of one encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Points(#[serde(deserialize_with = "crate::carry::below::<_, _, { 1 << MAX_POINTS }>")] u16);

impl Points {
    /// No point.
    pub const NONE: Self = Self(0);
    /// Every point.
    pub const ALL: Self = Self((1 << MAX_POINTS) - 1);

    const ROW: u16 = (1 << MAX_TEMPORAL) - 1;
    const COLUMN: u16 = 0x111;

    /// One point.
    pub const fn one(point: Point) -> Self {
        Self(1 << point.0)
    }

    /// The points of one spatial layer from a temporal layer on, and those of all higher spatial layers if `upper`.
    pub const fn from(spatial: u8, temporal: u8, upper: bool) -> Self {
        let low = Point::new(spatial, temporal);
        let row = (Self::ROW << low.temporal()) & Self::ROW;
        let shift = low.spatial() as u16 * MAX_TEMPORAL as u16;
        Self(if upper { (row * ((Self::COLUMN << shift) & Self::ALL.0)) & Self::ALL.0 } else { row << shift })
    }

    /// The points of all spatial layers at one temporal layer.
    pub const fn at_temporal(temporal: u8) -> Self {
        Self(Self::COLUMN << Point::new(0, temporal).0)
    }

    /// The points of one spatial layer.
    pub const fn at_spatial(spatial: u8) -> Self {
        Self::from(spatial, 0, false)
    }

    /// Whether a point is in it.
    #[inline]
    pub const fn contains(self, point: Point) -> bool {
        self.0 >> point.0 & 1 != 0
    }

    /// Whether the point at an index is in it.
    #[inline]
    pub const fn contains_index(self, index: usize) -> bool {
        self.0 >> index & 1 != 0
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Without those of another set.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Each point's neighbour one temporal layer up.
    #[must_use]
    pub const fn next_temporal(self) -> Self {
        Self((self.0 << 1) & Self::ALL.0 & !Self::at_temporal(0).0)
    }

    /// Each point's neighbour one spatial layer up.
    #[must_use]
    pub const fn next_spatial(self) -> Self {
        Self((self.0 << MAX_TEMPORAL) & Self::ALL.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_layers() {
        let members = |points: Points| {
            Point::all().filter(|p| points.contains(*p)).map(|p| (p.spatial(), p.temporal())).collect::<Vec<_>>()
        };
        assert_eq!(members(Points::from(1, 2, false)), [(1, 2), (1, 3)]);
        assert_eq!(members(Points::from(1, 3, true)), [(1, 3), (2, 3)]);
        assert_eq!(Points::from(0, 0, true), Points::ALL);
        assert_eq!(members(Points::at_temporal(1)), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(members(Points::from(0, 2, true).next_temporal()), [(0, 3), (1, 3), (2, 3)]);
        assert_eq!(members(Points::at_spatial(1).next_spatial()), members(Points::at_spatial(2)));
        assert_eq!(members(Points::at_spatial(2).next_spatial()), []);
        assert_eq!(Point::new(9, 9), Point::TOP);
    }

    #[test]
    fn layers_are_ordered_from_low_to_high() {
        let id = |encoding, spatial, temporal| LayerId { encoding, spatial, temporal };
        assert!(id(0, 2, 3) < id(1, 0, 0) && id(1, 0, 3) < id(1, 1, 0) && id(1, 1, 0) < id(1, 1, 1));
        let mut layers = Layers::default();
        (0..60).for_each(|i| {
            layers.push(Layer { id: LayerId::whole(i), height: None, frame_rate: 0.0, bitrate: 0 });
        });
        assert_eq!((layers.len(), layers[47].id.encoding), (MAX_LAYERS, 47));
    }
}
