//! One outgoing stream out of the encodings of a source: it starts and switches at keyframes, and its sequence numbers,
//! timestamps and picture ids go on as if nothing had happened (bridge-protocol 6.8).

use std::time::Instant;

use super::format::CodecKind;

/// RTP clock of video, Hz.
const VIDEO_CLOCK: f64 = 90_000.0;

/// What a projection needs to know of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Incoming {
    /// Simulcast encoding.
    pub encoding: u8,
    /// Extended sequence number, holes of dropped packets closed.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Picture id and TL0PICIDX of VP8, as far as present.
    pub vp8: Option<(u16, u8)>,
    /// Whether the packet starts a keyframe.
    pub keyframe: bool,
    /// Which view applies.
    pub codec: CodecKind,
    /// Audio needs no keyframe.
    pub audio: bool,
}

/// The numbers that a packet leaves with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Extended sequence number; the low 16 bits go on the wire, the rest is the SRTP rollover counter.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Picture id and TL0PICIDX of VP8.
    pub vp8: Option<(u16, u8)>,
}

/// How the numbers of one encoding map to the outgoing ones.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    encoding: u8,
    from: u64,
    index: i64,
    timestamp: u32,
    picture_id: u16,
    tl0_pic_idx: u8,
}

/// The newest packet that left.
#[derive(Debug, Clone, Copy)]
struct Newest {
    out: Outgoing,
    at: Instant,
}

/// State of one outgoing stream. It outlives the leg, since the stream's SSRC may come back under the same keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct Projection {
    mapping: Option<Mapping>,
    newest: Option<Newest>,
}

impl Projection {
    /// The encoding that is being forwarded.
    pub fn current(&self) -> Option<u8> {
        self.mapping.map(|mapping| mapping.encoding)
    }

    /// Adds what a timestamp of the current encoding needs to become an outgoing one.
    pub fn map_timestamp(&self, timestamp: u32) -> Option<u32> {
        Some(timestamp.wrapping_add(self.mapping?.timestamp))
    }

    /// Stops; going on needs a keyframe.
    pub fn suspend(&mut self) {
        self.mapping = None;
    }

    /// Decides on a packet: `None` keeps it from this receiver.
    pub fn project(&mut self, now: Instant, target: Option<u8>, packet: &Incoming) -> Option<Outgoing> {
        let target = target?;
        let mapping = match self.mapping {
            Some(mapping) if mapping.encoding == packet.encoding => mapping,
            _ if packet.encoding == target && starts(packet) => self.switch(now, packet),
            _ => return None,
        };
        // Packets from before the switching point belong to frames that the receiver cannot decode.
        if packet.index < mapping.from {
            return None;
        }
        let index = packet.index.checked_add_signed(mapping.index)?;
        let timestamp = packet.timestamp.wrapping_add(mapping.timestamp);
        let vp8 = packet.vp8.map(|(picture_id, tl0)| {
            (picture_id.wrapping_add(mapping.picture_id) & 0x7fff, tl0.wrapping_add(mapping.tl0_pic_idx))
        });
        let out = Outgoing { index, timestamp, vp8 };
        self.mapping = Some(mapping);
        if self.newest.is_none_or(|newest| index > newest.out.index) {
            self.newest = Some(Newest { out, at: now });
        }
        Some(out)
    }

    /// Whether a keyframe of the target is what this receiver waits for.
    pub fn needs_keyframe(&self, target: Option<u8>) -> bool {
        target.is_some() && target != self.current()
    }

    fn switch(&self, now: Instant, packet: &Incoming) -> Mapping {
        let Some(newest) = self.newest else {
            // The first packet keeps its numbers, with a rollover counter of zero, which a receiver starts with.
            let low = packet.index & 0xffff;
            return Mapping {
                encoding: packet.encoding,
                from: packet.index,
                index: (low as i64).wrapping_sub(packet.index as i64),
                timestamp: 0,
                picture_id: 0,
                tl0_pic_idx: 0,
            };
        };
        let elapsed = now.saturating_duration_since(newest.at).as_secs_f64() * VIDEO_CLOCK;
        let timestamp = newest.out.timestamp.wrapping_add((elapsed as u32).max(1));
        let (picture_id, tl0_pic_idx) = match (newest.out.vp8, packet.vp8) {
            (Some((last_id, last_tl0)), Some((id, tl0))) => {
                (last_id.wrapping_add(1).wrapping_sub(id), last_tl0.wrapping_add(1).wrapping_sub(tl0))
            }
            _ => (0, 0),
        };
        Mapping {
            encoding: packet.encoding,
            from: packet.index,
            index: (newest.out.index as i64 + 1).wrapping_sub(packet.index as i64),
            timestamp: timestamp.wrapping_sub(packet.timestamp),
            picture_id,
            tl0_pic_idx,
        }
    }
}

/// Whether a stream may start with this packet.
fn starts(packet: &Incoming) -> bool {
    packet.audio || packet.keyframe || matches!(packet.codec, CodecKind::Other | CodecKind::Red)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn packet(encoding: u8, index: u64, keyframe: bool) -> Incoming {
        Incoming {
            encoding,
            index,
            timestamp: index as u32 * 3_000,
            vp8: Some((index as u16 & 0x7fff, index as u8)),
            keyframe,
            codec: CodecKind::Vp8,
            audio: false,
        }
    }

    #[test]
    fn nothing_before_a_keyframe_and_nothing_old_after_it() {
        let now = Instant::now();
        let mut projection = Projection::default();
        assert_eq!(projection.project(now, Some(0), &packet(0, 70_000, false)), None);
        assert!(projection.needs_keyframe(Some(0)));
        let first = projection.project(now, Some(0), &packet(0, 70_002, true)).expect("a keyframe starts it");
        assert_eq!(first.index, 70_002 - 65_536, "the rollover counter starts at zero");
        assert_eq!(projection.project(now, Some(0), &packet(0, 70_001, false)), None);
        assert_eq!(projection.project(now, None, &packet(0, 70_003, false)), None);
        assert!(!projection.needs_keyframe(Some(0)));
    }

    #[test]
    fn a_switch_waits_for_its_keyframe_and_continues_all_numbers() {
        let mut now = Instant::now();
        let mut projection = Projection::default();
        projection.project(now, Some(0), &packet(0, 100, true));
        let last = projection.project(now, Some(1), &packet(0, 101, false)).expect("the old one goes on");
        assert_eq!(projection.project(now, Some(1), &packet(1, 5_000, false)), None);
        now += Duration::from_millis(40);
        let first = projection.project(now, Some(1), &packet(1, 5_001, true)).expect("switched");
        assert_eq!(first.index, last.index + 1);
        assert_eq!(first.timestamp, last.timestamp + 3_600);
        assert_eq!(first.vp8, last.vp8.map(|(id, tl0)| (id + 1, tl0 + 1)));
        assert_eq!(projection.project(now, Some(1), &packet(0, 102, false)), None, "the old one is over");
    }

    proptest! {
        /// Whatever is asked for and wherever keyframes fall: sequence numbers leave without holes or repetition.
        #[test]
        fn no_holes_and_no_repetition(
            steps in proptest::collection::vec((0u8..3, 0u8..4, proptest::bool::weighted(0.2)), 1..400),
            start in 0u64..200_000,
        ) {
            let mut now = Instant::now();
            let mut projection = Projection::default();
            let mut next = [start, start + 40_000, start + 90_000];
            let mut expected = None;
            let mut timestamp = None;
            for (encoding, target, keyframe) in steps {
                now += Duration::from_millis(10);
                let index = &mut next[usize::from(encoding)];
                *index += 1;
                // While suspended the sender goes on; that gap must be hidden too.
                let target = (target < 3).then_some(target);
                if target.is_none() {
                    projection.suspend();
                }
                if projection.current().is_some_and(|current| current == encoding) || keyframe {
                    if let Some(out) = projection.project(now, target, &packet(encoding, *index, keyframe)) {
                        if let Some(expected) = expected {
                            prop_assert_eq!(out.index, expected);
                        }
                        if let Some(before) = timestamp {
                            prop_assert!(out.timestamp.wrapping_sub(before) as i32 > 0);
                        }
                        expected = Some(out.index + 1);
                        timestamp = Some(out.timestamp);
                    }
                }
            }
        }
    }
}
