//! The sources of participants, as Jingle signals them: one by one in contents, or all in one JSON message.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::colibri::elements::MediaType;

use super::elements::{Content, Description, JingleGroup, JingleSource, JsonMessage, SsrcInfo};

/// One source that somebody publishes, whichever way it is written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OwnedSource {
    /// SSRC.
    pub ssrc: u32,
    /// Source name.
    pub name: Option<String>,
    /// msid.
    pub msid: Option<String>,
    /// `camera` or `desktop`.
    pub video_type: Option<String>,
    /// Whether it is video.
    pub video: bool,
}

/// A group of SSRCs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OwnedGroup {
    /// `SIM` or `FID`.
    pub semantics: String,
    /// Members in order.
    pub ssrcs: Vec<u32>,
    /// Whether it is video.
    pub video: bool,
}

/// Sources and groups of one owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceSet {
    /// Sources.
    pub sources: Vec<OwnedSource>,
    /// Groups.
    pub groups: Vec<OwnedGroup>,
}

impl SourceSet {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.groups.is_empty()
    }

    /// What the contents of a client's IQ say. Left out: sources without an SSRC (rid-based), other media than audio and
    /// video, empty and repeated groups, and groups of unknown semantics. Beyond `most` sources or groups it ends early: one
    /// more than that is in the set, for who checks it.
    pub fn from_contents(contents: &[Content], most: usize) -> Result<Self, InvalidSsrc> {
        let mut set = Self::default();
        for content in contents {
            let Some(description) = &content.description else { continue };
            let kind = description.media.as_deref().or(content.name.as_deref());
            let Some(media) = kind.and_then(MediaType::parse) else { continue };
            let video = media == MediaType::Video;
            for source in &description.sources {
                let Some(ssrc) = &source.ssrc else { continue };
                if set.sources.len() > most {
                    return Ok(set);
                }
                let msid = source.parameters.iter().find(|parameter| parameter.name == "msid");
                set.sources.push(OwnedSource {
                    ssrc: parse_ssrc(ssrc)?,
                    name: source.name.clone().filter(|name| !name.is_empty()),
                    msid: msid.and_then(|parameter| parameter.value.clone()).filter(|msid| !msid.is_empty()),
                    video_type: source.video_type.clone(),
                    video,
                });
            }
            for group in &description.ssrc_groups {
                let semantics = group.semantics.as_deref().unwrap_or_default().to_ascii_uppercase();
                if semantics != "SIM" && semantics != "FID" {
                    continue;
                }
                if set.groups.len() > most {
                    return Ok(set);
                }
                let ssrcs = group.sources.iter().filter_map(|source| source.ssrc.as_deref()).map(parse_ssrc);
                let group = OwnedGroup { semantics, ssrcs: ssrcs.collect::<Result<_, _>>()?, video };
                if !group.ssrcs.is_empty() && !set.groups.contains(&group) {
                    set.groups.push(group);
                }
            }
        }
        Ok(set)
    }
}

/// An `ssrc` attribute that is no SSRC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an SSRC: it must be a number from 1 to 4294967295")]
pub struct InvalidSsrc(pub String);

fn parse_ssrc(text: &str) -> Result<u32, InvalidSsrc> {
    text.trim().parse().ok().filter(|ssrc| *ssrc > 0).ok_or_else(|| InvalidSsrc(text.to_owned()))
}

/// The compact JSON of docs/protocol/focus.md 5.4: owner → [video sources, video groups, audio sources, audio groups].
pub fn json_sources(owners: &BTreeMap<String, SourceSet>) -> JsonMessage {
    let source = |source: &OwnedSource| {
        let mut object = json!({ "s": source.ssrc });
        let optional = [("n", &source.name), ("m", &source.msid)];
        for (key, value) in optional.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            object[key] = json!(value);
        }
        if source.video_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("desktop")) {
            object["v"] = json!("d");
        }
        object
    };
    let group = |group: &OwnedGroup| {
        let mut list = vec![json!(if group.semantics.eq_ignore_ascii_case("SIM") { "s" } else { "f" })];
        list.extend(group.ssrcs.iter().map(|ssrc| json!(ssrc)));
        Value::Array(list)
    };
    let owners = owners.iter().map(|(owner, set)| {
        let sources = |video| Value::Array(set.sources.iter().filter(|s| s.video == video).map(source).collect());
        let groups = |video| Value::Array(set.groups.iter().filter(|g| g.video == video).map(group).collect());
        let mut lists = vec![sources(true), groups(true), sources(false), groups(false)];
        while lists.last().is_some_and(|list| list.as_array().is_some_and(Vec::is_empty)) {
            lists.pop();
        }
        (owner.clone(), Value::Array(lists))
    });
    JsonMessage { text: json!({ "sources": owners.collect::<serde_json::Map<_, _>>() }).to_string() }
}

/// Appends the same sources as XML, for clients without the compact form, to the contents `audio` and `video`, which are
/// made where missing.
pub fn xml_sources(owners: &BTreeMap<String, SourceSet>, contents: &mut Vec<Content>) {
    for video in [false, true] {
        let name = if video { "video" } else { "audio" };
        let mut sources = Vec::new();
        let mut groups = Vec::new();
        for (owner, set) in owners {
            sources.extend(set.sources.iter().filter(|source| source.video == video).map(|source| {
                JingleSource {
                    ssrc: Some(source.ssrc.to_string()),
                    name: source.name.clone(),
                    video_type: source.video_type.clone(),
                    parameters: source
                        .msid
                        .iter()
                        .map(|msid| crate::colibri::elements::SourceParameter {
                            name: "msid".to_owned(),
                            value: Some(msid.clone()),
                        })
                        .collect(),
                    info: Some(SsrcInfo { owner: owner.clone() }),
                }
            }));
            groups.extend(set.groups.iter().filter(|group| group.video == video).map(|group| {
                JingleGroup {
                    semantics: Some(group.semantics.clone()),
                    sources: group
                        .ssrcs
                        .iter()
                        .map(|ssrc| JingleSource { ssrc: Some(ssrc.to_string()), ..JingleSource::default() })
                        .collect(),
                }
            }));
        }
        if sources.is_empty() && groups.is_empty() {
            continue;
        }
        let position = contents.iter().position(|content| content.name.as_deref() == Some(name));
        let position = position.unwrap_or_else(|| {
            contents.push(Content {
                creator: Some("initiator".to_owned()),
                name: Some(name.to_owned()),
                senders: Some("both".to_owned()),
                description: None,
                transport: None,
            });
            contents.len() - 1
        });
        let description = contents[position]
            .description
            .get_or_insert_with(|| Description { media: Some(name.to_owned()), ..Description::default() });
        description.sources.extend(sources);
        description.ssrc_groups.extend(groups);
    }
}
