//! What the state says beside the workers' and the control plane's parts: which descriptor is what, and what was counted.

use serde::{Deserialize, Serialize};

use super::history::History;

/// Which descriptor is what, in this order: the media's, the bridge channel's, the pages', those of the processes that have data channels,
/// those of the focus beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Descriptors {
    pub media: u32,
    pub channel: bool,
    pub pages: bool,
    pub keepers: u32,
    pub focus: u32,
    pub history: History,
}

impl Descriptors {
    /// How many there are.
    pub fn count(&self) -> usize {
        let doors = usize::from(self.channel) + usize::from(self.pages);
        self.media as usize + doors + self.keepers as usize + self.focus as usize
    }
}
