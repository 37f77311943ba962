//! Continuity of VP8's picture id and TL0PICIDX over switches (RFC 7741 section 4.2).

/// What one packet carries; the picture id already extended past its 7 or 15 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Picture {
    /// Extended picture id.
    pub id: Option<i64>,
    /// TL0PICIDX.
    pub tl0: Option<u8>,
}

/// What a segment adds to both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureShift {
    id: i64,
    tl0: u8,
}

impl PictureShift {
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
        Self { id, tl0 }
    }

    /// Shifts one packet's values.
    pub fn apply(self, picture: Picture) -> Picture {
        Picture { id: picture.id.map(|id| id + self.id), tl0: picture.tl0.map(|tl0| tl0.wrapping_add(self.tl0)) }
    }
}

impl Picture {
    /// The values after a packet that had these; what a packet lacks stays as it was.
    pub fn updated(self, sent: Picture) -> Picture {
        Picture { id: sent.id.or(self.id), tl0: sent.tl0.or(self.tl0) }
    }
}
