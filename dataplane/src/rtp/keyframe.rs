//! Does a packet start a keyframe? One answer per codec, from the payload alone; VP9's descriptor says so itself.

use super::{sps, vp8};

/// Where a keyframe starts, as far as the payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyframeStart {
    /// Picture height in pixels, where the first packet says it.
    pub height: Option<u16>,
}

/// VP8 (RFC 7741).
pub fn vp8(payload: &[u8]) -> Option<KeyframeStart> {
    let descriptor = vp8::Descriptor::parse(payload).ok()?;
    descriptor
        .is_keyframe_start(payload)
        .then(|| KeyframeStart { height: descriptor.keyframe_size(payload).map(|(_, height)| height) })
}

/// H264 (RFC 6184): an SPS or an IDR slice, alone, in a STAP-A, or at the start of an FU-A.
pub fn h264(payload: &[u8]) -> Option<KeyframeStart> {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    let kind = payload.first()? & 0x1f;
    let mut set = (kind == SPS).then_some(payload);
    let starts = match kind {
        IDR | SPS => true,
        24 => {
            let mut rest = payload.get(1..)?;
            loop {
                let Some((length, after)) = rest.split_at_checked(2) else { break false };
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                let Some((unit, after)) = after.split_at_checked(length) else { break false };
                if unit.first().is_some_and(|byte| matches!(byte & 0x1f, IDR | SPS)) {
                    set = Some(unit);
                    break true;
                }
                rest = after;
            }
        }
        28 => payload.get(1).is_some_and(|byte| byte & 0x80 != 0 && matches!(byte & 0x1f, IDR | SPS)),
        _ => false,
    };
    starts.then(|| KeyframeStart { height: set.and_then(sps::height) })
}

/// AV1 (AV1 RTP specification 4.4): the N bit marks the first packet of a coded video sequence.
pub fn av1(payload: &[u8]) -> Option<KeyframeStart> {
    (payload.first()? & 0x08 != 0).then(KeyframeStart::default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn h264_keyframes_in_all_packetisations() {
        assert!(h264(&[0x65, 1]).is_some());
        assert!(h264(&[0x41, 1]).is_none());
        assert!(h264(&[0x78, 0, 2, 0x06, 0, 0, 2, 0x67, 1]).is_some());
        assert!(h264(&[0x78, 0, 2, 0x06, 0, 0, 9, 0x67]).is_none());
        assert!(h264(&[0x7c, 0x85, 1]).is_some());
        assert!(h264(&[0x7c, 0x05, 1]).is_none());
    }

    #[test]
    fn av1_sequence_starts() {
        assert!(av1(&[0x18]).is_some());
        assert!(av1(&[0x10]).is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_do_not_panic(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (vp8(&payload), h264(&payload), av1(&payload));
        }
    }
}
