//! The recorded media that scripted participants send: a four-second VP8 clip and a four-second Opus tone,
//! both made with ffmpeg's test sources (see `bench/load/media/README.md`).

use std::io::Cursor;

use bytes_view::{le_u16, le_u32};

const PATTERN: &[u8] = include_bytes!("../../media/pattern.ivf");
const TONE: &[u8] = include_bytes!("../../media/tone.opus");

/// Largest slice of a VP8 frame in one RTP packet, bytes.
const MAX_FRAGMENT: usize = 1_100;

/// A clip that is not what its name says.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The IVF container is damaged.
    #[error("media/pattern.ivf is damaged at byte {0}: regenerate it as bench/load/media/README.md says")]
    Ivf(usize),
    /// The Ogg container is damaged.
    #[error("media/tone.opus is damaged ({0}): regenerate it as bench/load/media/README.md says")]
    Ogg(#[from] ogg::OggReadError),
    /// A clip has no frames.
    #[error("{0} has no frames: regenerate it as bench/load/media/README.md says")]
    Empty(&'static str),
}

/// Frames of both clips; the first video frame is the only keyframe.
#[derive(Debug)]
pub struct Clips {
    /// VP8 frames, 15 a second, 320×180.
    pub video: Vec<Vec<u8>>,
    /// Opus packets of 20 ms.
    pub audio: Vec<Vec<u8>>,
}

impl Clips {
    /// Reads the clips that are built into the program.
    pub fn load() -> Result<Self, ClipError> {
        let clips = Self { video: read_ivf(PATTERN)?, audio: read_opus(TONE)? };
        match (clips.video.is_empty(), clips.audio.is_empty()) {
            (true, _) => Err(ClipError::Empty("media/pattern.ivf")),
            (_, true) => Err(ClipError::Empty("media/tone.opus")),
            _ => Ok(clips),
        }
    }
}

fn read_ivf(file: &[u8]) -> Result<Vec<Vec<u8>>, ClipError> {
    let mut at = usize::from(le_u16(file, 6).ok_or(ClipError::Ivf(6))?);
    let mut frames = Vec::new();
    while at < file.len() {
        let length = le_u32(file, at).ok_or(ClipError::Ivf(at))? as usize;
        let frame = file.get(at + 12..at + 12 + length).ok_or(ClipError::Ivf(at))?;
        frames.push(frame.to_vec());
        at += 12 + length;
    }
    Ok(frames)
}

fn read_opus(file: &[u8]) -> Result<Vec<Vec<u8>>, ClipError> {
    let mut reader = ogg::PacketReader::new(Cursor::new(file));
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet()? {
        packets.push(packet.data);
    }
    // The first two packets are OpusHead and OpusTags (RFC 7845).
    packets.drain(..packets.len().min(2));
    Ok(packets)
}

/// RTP payloads of one VP8 frame with a 15-bit picture id in the descriptor (RFC 7741); the last one gets the marker.
pub fn packetize_vp8(frame: &[u8], picture_id: u16) -> Vec<Vec<u8>> {
    frame
        .chunks(MAX_FRAGMENT)
        .enumerate()
        .map(|(index, fragment)| {
            let start_of_partition = if index == 0 { 0x10 } else { 0 };
            let id = picture_id & 0x7fff;
            let mut payload = vec![0x80 | start_of_partition, 0x80, 0x80 | (id >> 8) as u8, id as u8];
            payload.extend_from_slice(fragment);
            payload
        })
        .collect()
}

/// Little-endian numbers out of a slice.
mod bytes_view {
    pub fn le_u16(data: &[u8], at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?))
    }

    pub fn le_u32(data: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clips_hold_four_seconds() {
        let clips = Clips::load().expect("clips are built in");
        assert_eq!(clips.video.len(), 60);
        assert!((199..=202).contains(&clips.audio.len()), "{} packets", clips.audio.len());
        let keyframes: Vec<_> = clips.video.iter().map(|frame| frame[0] & 1 == 0).collect();
        assert!(keyframes[0], "the first frame is a keyframe");
        assert_eq!(keyframes.iter().filter(|key| **key).count(), 1);
    }

    #[test]
    fn a_damaged_container_is_an_error() {
        assert!(matches!(read_ivf(&PATTERN[..40]), Err(ClipError::Ivf(_))));
    }

    #[test]
    fn fragments_add_up_to_the_frame() {
        let frame: Vec<u8> = (0..3_000u32).map(|i| i as u8).collect();
        let packets = packetize_vp8(&frame, 0x1234);
        assert_eq!(packets.len(), 3);
        assert_eq!(packets[0][..4], [0x90, 0x80, 0x92, 0x34]);
        assert_eq!(packets[1][..4], [0x80, 0x80, 0x92, 0x34]);
        let joined: Vec<u8> = packets.iter().flat_map(|packet| packet[4..].to_vec()).collect();
        assert_eq!(joined, frame);
    }
}
