//! The sources of one endpoint, of this bridge or of another one.

use std::collections::BTreeMap;

use ringbridge_dataplane::media::{SourceDescription, VideoType};
use ringbridge_dataplane::messages::Command;
use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::convert;
use super::elements::MediaSource;
use super::identity::EndpointIdentity;
use super::limits::MAX_VIDEO_TYPES;
use super::names;
use super::output::Output;

/// What an endpoint publishes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Published {
    sources: Vec<SourceDescription>,
    /// What the endpoint itself, or its bridge, said of its sources; wins over signalling.
    video_types: BTreeMap<String, VideoType>,
}

impl Published {
    pub fn sources(&self) -> &[SourceDescription] {
        &self.sources
    }

    /// Takes over the complete set, as signalled.
    pub fn update(&mut self, who: &EndpointIdentity, asked: &[MediaSource], renamed: &mut u64, changes: &mut Changes) {
        let mut sources: Vec<_> = asked.iter().filter_map(convert::source).collect();
        let synthetic = |name: &str| asked.iter().any(|source| source.synthetic && source.id == name);
        *renamed += names::own(&who.label, &mut sources, synthetic);
        self.set(who, sources, changes);
    }

    /// What one of them shows was said; remembered when the source is not signalled yet.
    pub fn set_video_type(&mut self, who: &EndpointIdentity, source: &str, video_type: VideoType) -> Changes {
        // Bounded: a client, or another bridge, may name what it likes.
        if self.video_types.len() < MAX_VIDEO_TYPES || self.video_types.contains_key(source) {
            self.video_types.insert(source.to_owned(), video_type);
        }
        let mut changes = Changes::default();
        self.set(who, self.sources.clone(), &mut changes);
        changes
    }

    fn set(&mut self, who: &EndpointIdentity, mut sources: Vec<SourceDescription>, changes: &mut Changes) {
        for source in &mut sources {
            if let Some(video_type) = self.video_types.get(&source.name) {
                source.video_type = *video_type;
            }
        }
        if sources != self.sources {
            let endpoint = who.id;
            self.sources.clone_from(&sources);
            changes.commands.push(Command::SetSources { endpoint, sources: sources.clone() });
            changes.outputs.push(Output::SourcesChanged { endpoint, sources });
        }
    }

    /// What a worker needs that has known nothing of them.
    pub fn introduce(&self, who: &EndpointIdentity) -> Option<Command> {
        let command = || Command::SetSources { endpoint: who.id, sources: self.sources.clone() };
        (!self.sources.is_empty()).then(command)
    }
}
