//! What the SSRCs of a receiver carry, with SSRC rewriting.

use ringbridge_dataplane::ids::Ssrc;
use ringbridge_dataplane::media::Encoding;
use ringbridge_dataplane::messages::MappedSource;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the SSRCs of one receiver carry, and what of that its client knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mappings {
    current: Vec<MappedSource>,
    /// Number of the worker's latest announcement.
    announcement: u64,
    /// What the client was sent over the channel that it has.
    sent: Vec<MappedSource>,
}

impl Mappings {
    /// The worker announces new ones.
    pub(super) fn announce(&mut self, announcement: u64, sources: Vec<MappedSource>) {
        self.current = sources;
        self.announcement = announcement;
    }

    /// Number of the worker's latest announcement; 0 before the first.
    pub(super) fn announcement(&self) -> u64 {
        self.announcement
    }

    /// The client may have missed what it was sent.
    pub(super) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    /// What the client does not know yet; it counts as sent from now on.
    pub(super) fn take_unsent(&mut self) -> Vec<MappedSource> {
        let sent = std::mem::replace(&mut self.sent, self.current.clone());
        self.current.iter().filter(|mapped| !sent.contains(mapped)).cloned().collect()
    }

    /// For the debug view; empty without SSRC rewriting.
    pub(super) fn shown(&self) -> Value {
        let shown = |mapped: &MappedSource| {
            let sent = self.sent.contains(mapped);
            let (Encoding { ssrc, rtx }, mid) = (mapped.ssrcs, mapped.mid.map(|mid| mid.to_string()));
            json!({ "source": mapped.name, "ssrc": ssrc.get(), "rtx": rtx.map(Ssrc::get), "mid": mid, "sent": sent })
        };
        self.current.iter().map(shown).collect()
    }
}
