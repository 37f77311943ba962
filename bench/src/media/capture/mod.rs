//! Recorded RTP: pcap, pcapng and rtpdump files, played as tracks. Packets must be plain RTP over UDP (not SRTP).

mod container;
mod left_out;
mod link;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use left_out::LeftOut;
pub use streams::RecordedTrack;

use super::Codec;

/// Why a capture cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened or read.
    #[error("cannot read capture {path}: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Neither of the three formats.
    #[error("{path} is not a pcap, pcapng or rtpdump file: {what}")]
    Format {
        /// Path of the file.
        path: PathBuf,
        /// Where the file breaks its format.
        what: String,
    },
    /// It has no packet that can be played.
    #[error("{path} has no packet that can be played: {left_out}{}", left_out.remedy())]
    Nothing {
        /// Path of the file.
        path: PathBuf,
        /// Why each of its packets was left out.
        left_out: LeftOut,
    },
}

/// What can be played of a capture, and what cannot.
#[derive(Debug)]
pub struct Capture {
    tracks: Vec<RecordedTrack>,
    left_out: LeftOut,
}

impl Capture {
    /// What is not played.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// One track for each SSRC, in order of appearance.
    pub fn into_tracks(self) -> Vec<RecordedTrack> {
        self.tracks
    }
}

/// Reads a file. A packet is played only if it is there as a whole, and once.
pub fn read(path: &Path, codecs: &BTreeMap<u8, Codec>) -> Result<Capture, CaptureError> {
    let bytes = std::fs::read(path).map_err(|source| CaptureError::Read { path: path.to_owned(), source })?;
    let capture = parse(&bytes, codecs).map_err(|what| CaptureError::Format { path: path.to_owned(), what })?;
    if capture.tracks.is_empty() {
        return Err(CaptureError::Nothing { path: path.to_owned(), left_out: capture.left_out });
    }
    Ok(capture)
}

fn parse(bytes: &[u8], codecs: &BTreeMap<u8, Codec>) -> Result<Capture, String> {
    let mut left_out = LeftOut::default();
    let mut datagrams = Vec::new();
    for frame in container::frames(bytes, &mut left_out)? {
        match link::datagram(&frame) {
            Ok(datagram) => datagrams.push((frame.at, datagram)),
            Err(reason) => left_out.note(reason),
        }
    }
    // Interfaces and merged files are not always in order; what has no time stays in front, in the order that it has.
    datagrams.sort_by_key(|(at, _)| *at);
    let tracks = streams::tracks(&datagrams, codecs, &mut left_out);
    Ok(Capture { tracks, left_out })
}
