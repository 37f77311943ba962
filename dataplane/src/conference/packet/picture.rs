//! Continuity of the numbers that a codec gives its pictures: VP8's and VP9's picture id and TL0PICIDX (RFC 7741
//! section 4.2, RFC 9628 section 4.2), the dependency descriptor's frame number and template ids.

use serde::{Deserialize, Serialize};

/// What one packet carries; the picture id already extended past its bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Extended picture id, or frame number.
    #[serde(with = "crate::carry::checked")]
    pub id: Option<i64>,
    /// TL0PICIDX.
    pub tl0: Option<u8>,
    /// First template id of the structure that a dependency descriptor refers to, and how many there are.
    pub templates: Option<(u8, u8)>,
}

/// What a run adds to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureShift {
    #[serde(with = "crate::carry::checked")]
    id: i64,
    tl0: u8,
    templates: u8,
}

impl PictureShift {
    /// The offset that changes no number.
    pub const NONE: Self = Self { id: 0, tl0: 0, templates: 0 };

    /// The shift that makes `first` follow `last`; none when nothing was sent yet.
    pub fn following(last: Picture, first: Picture) -> Self {
        let id = match (last.id, first.id) {
            (Some(last), Some(first)) => last + 1 - first,
            _ => 0,
        };
        let tl0 = match (last.tl0, first.tl0) {
            (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
            _ => 0,
        };
        let templates = match (last.templates, first.templates) {
            (Some((start, count)), Some((first, _))) => start.wrapping_add(count).wrapping_sub(first) & 0x3f,
            _ => 0,
        };
        Self { id, tl0, templates }
    }

    /// Shifts one packet's values.
    pub fn apply(self, picture: Picture) -> Picture {
        Picture {
            id: picture.id.map(|id| id + self.id),
            tl0: picture.tl0.map(|tl0| tl0.wrapping_add(self.tl0)),
            templates: picture.templates.map(|(start, count)| (start.wrapping_add(self.templates) & 0x3f, count)),
        }
    }

    /// The shift after a picture that was left out of the numbering.
    #[must_use]
    pub fn closed(self) -> Self {
        Self { id: self.id - 1, ..self }
    }
}

impl Picture {
    /// The values after a packet that had these; what a packet lacks stays as it was.
    pub fn updated(self, sent: Picture) -> Picture {
        Picture { id: sent.id.or(self.id), tl0: sent.tl0.or(self.tl0), templates: sent.templates.or(self.templates) }
    }
}
