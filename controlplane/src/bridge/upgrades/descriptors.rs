//! What the state says beside the workers' and the control plane's parts: which descriptor is what, and what was counted.

use serde::{Deserialize, Serialize};

use super::history::History;

/// Which descriptor is what, in this order: the media's, the bridge channel's, the pages', those of the focus beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Descriptors {
    pub media: u32,
    pub channel: bool,
    pub pages: bool,
    pub focus: u32,
    pub history: History,
}

impl Descriptors {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.media as usize + usize::from(self.channel) + usize::from(self.pages) + self.focus as usize
    }
}
