//! What endpoints negotiated, compiled, and one copy for all who negotiated the same: browsers of one make agree on every
//! number, so that the tables of a whole conference fit the first cache of the processor.

use std::sync::Arc;

use hashbrown::HashMap;

use super::codec::{FormatTable, Formats, VideoFeedback};
use super::extension_map::{ExtensionTable, Uris};
use crate::media::Media;

/// Entries before those that nobody uses are looked for; then twice of what is left.
const FIRST_SWEEP: usize = 64;

/// One negotiation's tables.
#[derive(Debug, Default)]
pub struct Negotiated {
    /// Payload types.
    pub formats: FormatTable,
    /// Header extension ids.
    pub extensions: ExtensionTable,
    /// RTCP feedback.
    pub feedback: VideoFeedback,
}

/// All negotiations of a worker's endpoints.
#[derive(Debug)]
pub struct Negotiations {
    formats: Formats,
    uris: Uris,
    known: HashMap<Media, Arc<Negotiated>, foldhash::fast::RandomState>,
    sweep_at: usize,
    nothing: Arc<Negotiated>,
}

impl Default for Negotiations {
    fn default() -> Self {
        Self {
            formats: Formats::default(),
            uris: Uris::default(),
            known: HashMap::default(),
            sweep_at: FIRST_SWEEP,
            nothing: Arc::default(),
        }
    }
}

impl Negotiations {
    /// The tables of an endpoint that negotiated nothing yet.
    pub fn nothing(&self) -> Arc<Negotiated> {
        Arc::clone(&self.nothing)
    }

    /// The tables of a negotiation.
    pub fn compile(&mut self, media: &Media) -> Arc<Negotiated> {
        if let Some(known) = self.known.get(media) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, negotiated| Arc::strong_count(negotiated) > 1);
            self.sweep_at = (self.known.len() * 2).max(FIRST_SWEEP);
        }
        let negotiated = Arc::new(Negotiated {
            formats: FormatTable::compile(media, &mut self.formats),
            extensions: ExtensionTable::compile(&media.header_extensions, &mut self.uris),
            feedback: VideoFeedback::of(media),
        });
        self.known.insert(media.clone(), Arc::clone(&negotiated));
        negotiated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{HeaderExtension, MediaKind};

    fn media(id: u8) -> Media {
        let extension = HeaderExtension { id, kind: MediaKind::Video, uri: format!("urn:example:{id}") };
        Media { header_extensions: vec![extension], ..Media::default() }
    }

    #[test]
    fn equals_share_and_what_nobody_uses_is_dropped() {
        let mut all = Negotiations::default();
        let first = all.compile(&media(1));
        assert!(Arc::ptr_eq(&first, &all.compile(&media(1))));
        assert!(!Arc::ptr_eq(&first, &all.compile(&media(2))));
        for _ in 0..3 {
            (0..200).for_each(|id| drop(all.compile(&media(id))));
        }
        assert!(all.known.len() <= FIRST_SWEEP, "{} kept", all.known.len());
        assert!(Arc::ptr_eq(&first, &all.compile(&media(1))), "used all the time");
    }
}
