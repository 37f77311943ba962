//! The recorded media that scripted participants send: four seconds of video in each codec, and a four-second Opus tone,
//! all made with ffmpeg's test sources (see `bench/load/media/README.md`).

use std::io::Cursor;

use super::codec::{self, VideoCodec};
use bytes_view::{le_u16, le_u32};

const VP8: &[u8] = include_bytes!("../../media/pattern.vp8.ivf");
const VP9: &[u8] = include_bytes!("../../media/pattern.vp9.ivf");
const AV1: &[u8] = include_bytes!("../../media/pattern.av1.ivf");
const H264: &[u8] = include_bytes!("../../media/pattern.h264");
const TONE: &[u8] = include_bytes!("../../media/tone.opus");

/// A clip that is not what its name says.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// An IVF container is damaged.
    #[error("a media/pattern.*.ivf is damaged at byte {0}: regenerate it as bench/load/media/README.md says")]
    Ivf(usize),
    /// The Ogg container is damaged.
    #[error("media/tone.opus is damaged ({0}): regenerate it as bench/load/media/README.md says")]
    Ogg(#[from] ogg::OggReadError),
    /// A clip has no frames.
    #[error("the clip for {0} has no frames: regenerate it as bench/load/media/README.md says")]
    Empty(&'static str),
}

/// Frames of both clips; the first video frame is the only keyframe.
#[derive(Debug)]
pub struct Clips {
    /// What the video is encoded with.
    pub codec: VideoCodec,
    /// Video frames, 15 a second, 320×180.
    pub video: Vec<Vec<u8>>,
    /// Opus packets of 20 ms.
    pub audio: Vec<Vec<u8>>,
}

impl Clips {
    /// Reads the clips that are built into the program.
    pub fn load(codec: VideoCodec) -> Result<Self, ClipError> {
        let video = match codec {
            VideoCodec::Vp8 => read_ivf(VP8)?,
            VideoCodec::Vp9 => read_ivf(VP9)?,
            VideoCodec::Av1 => read_ivf(AV1)?,
            VideoCodec::H264 => read_byte_stream(H264),
        };
        let clips = Self { codec, video, audio: read_opus(TONE)? };
        match (clips.video.is_empty(), clips.audio.is_empty()) {
            (true, _) => Err(ClipError::Empty(codec.name())),
            (_, true) => Err(ClipError::Empty("Opus")),
            _ => Ok(clips),
        }
    }
}

/// Access units of an H.264 byte stream: each ends with its slice.
fn read_byte_stream(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut frame) = (Vec::new(), Vec::new());
    for unit in codec::units(stream) {
        frame.extend([0, 0, 1]);
        frame.extend_from_slice(unit);
        if codec::is_slice(unit) {
            frames.push(std::mem::take(&mut frame));
        }
    }
    frames
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
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_clips_hold_four_seconds_and_one_keyframe() {
        for codec in VideoCodec::value_variants() {
            let clips = Clips::load(*codec).expect("clips are built in");
            assert_eq!(clips.video.len(), 60, "{codec:?}");
            assert!((199..=202).contains(&clips.audio.len()), "{} packets", clips.audio.len());
            let keyframe = |frame: &Vec<u8>| {
                let payloads = codec.packetize(frame, 0);
                assert!(payloads.iter().all(|payload| (1..=1_200).contains(&payload.len())), "{codec:?}");
                codec.beginning(&payloads[0]).keyframe
            };
            let keyframes: Vec<_> = clips.video.iter().map(keyframe).collect();
            assert!(keyframes[0] && keyframes[1..].iter().all(|key| !key), "{codec:?}: {keyframes:?}");
        }
    }

    #[test]
    fn a_damaged_container_is_an_error() {
        assert!(matches!(read_ivf(&VP8[..40]), Err(ClipError::Ivf(_))));
    }
}
