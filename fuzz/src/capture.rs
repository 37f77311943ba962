//! Recorded media: pcap, pcapng and rtpdump.
//!
//! Fed: a file.
//! Held: nothing panics; what is read is not larger than the file; played, a recording goes on for ever and its time does not
//! run backwards; what is refused is refused with words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::bench_media::capture::read;
use crate::bench_media::{Codec, Track};

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| crate::scratch::folder().join("capture"))
}

/// Runs one input.
pub fn run(data: &[u8]) {
    std::fs::write(file(), data).expect("written");
    let codecs = BTreeMap::from([(96, Codec::Vp8), (98, Codec::Vp9), (100, Codec::H264), (111, Codec::Opus)]);
    let tracks = match read(file(), &codecs) {
        Ok(capture) => capture.into_tracks(),
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(tracks.iter().map(|track| track.packets()).sum::<usize>() <= data.len());
    for mut track in tracks {
        let mut payload = Vec::new();
        let mut due = track.next_due();
        for _ in 0..2 * track.packets().min(2_000) {
            track.next(&mut payload);
            assert!(!payload.is_empty() && payload.len() <= data.len());
            assert!(track.next_due() >= due || track.packets() > 1, "time goes on");
            due = track.next_due();
        }
    }
}
