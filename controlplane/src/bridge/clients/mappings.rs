//! What the SSRCs of a receiver carry, with SSRC rewriting.

use ringbridge_dataplane::ids::Ssrc;
use ringbridge_dataplane::media::Encoding;
use ringbridge_dataplane::messages::MappedSource;
use serde_json::{Value, json};

/// What the SSRCs of one receiver carry.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    pub(super) current: Vec<MappedSource>,
    /// Number of the worker's latest announcement.
    pub(super) announcement: u64,
    /// What the client was told over the channel that it has.
    pub(super) told: Vec<MappedSource>,
}

impl Mappings {
    /// For the debug view; empty without SSRC rewriting.
    pub(super) fn shown(&self) -> Value {
        let shown = |mapped: &MappedSource| {
            let told = self.told.contains(mapped);
            let (Encoding { ssrc, rtx }, mid) = (mapped.ssrcs, mapped.mid.map(|mid| mid.to_string()));
            json!({ "source": mapped.name, "ssrc": ssrc.get(), "rtx": rtx.map(Ssrc::get), "mid": mid, "told": told })
        };
        self.current.iter().map(shown).collect()
    }
}
