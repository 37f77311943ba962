//! Routing by dependency descriptor: what an encoding's descriptors say, in terms of operating points.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::conference::packet::frame::{Frame, Opens};
use crate::conference::packet::picture::Picture;
use crate::conference::source::sequence::Unwrapper;
use crate::congestion::layer::{MAX_POINTS, MAX_SPATIAL, MAX_TEMPORAL, Point, Points};
use crate::rtp::RtpError;
use crate::rtp::dependency::{Descriptor, MAX_TARGETS, Structure};

/// State of one encoding's descriptors.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Dependencies {
    structure: Option<Box<Structure>>,
    /// The decode target that each point stands for.
    #[serde(deserialize_with = "known_targets")]
    targets: [u8; MAX_POINTS],
    frame_number: Unwrapper<16>,
    distrusted: bool,
}

fn known_targets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; MAX_POINTS], D::Error> {
    let targets = <[u8; MAX_POINTS]>::deserialize(deserializer)?;
    let known = targets.iter().all(|target| usize::from(*target) < MAX_TARGETS);
    if known { Ok(targets) } else { Err(D::Error::custom("a decode target out of range")) }
}

/// What one descriptor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed {
    /// The packet's frame.
    pub frame: Frame,
    /// Its numbers.
    pub picture: Picture,
    /// Whether it is the first packet of its frame.
    pub begins: bool,
    /// Whether a decoder can start here.
    pub keyframe: bool,
}

impl Dependencies {
    /// A keyframe came without a structure, as from senders that may not attach one of more than 16 bytes: until one comes,
    /// descriptors say nothing.
    pub fn distrust(&mut self) {
        (self.distrusted, self.structure) = (true, None);
    }

    /// Whether what cannot be read is to be passed on without a descriptor.
    pub fn is_distrusted(&self) -> bool {
        self.distrusted
    }

    /// Reads a descriptor. Before the first keyframe nothing can be said of a frame.
    pub fn read(&mut self, data: &[u8]) -> Result<Routed, RtpError> {
        let descriptor = Descriptor::parse(data, &mut self.structure)?;
        let structure = self.structure.as_deref().ok_or(RtpError::Invalid("dependency descriptor"))?;
        if descriptor.has_structure {
            self.targets = targets(structure);
            self.distrusted = false;
        }
        let template = descriptor.frame;
        let members = |mask: u32| {
            let points = Point::all().filter(|p| mask >> self.targets[p.index()] & 1 != 0);
            points.fold(Points::NONE, |set, point| set.or(Points::one(point)))
        };
        let opened = if template.switch == 0 { Points::NONE } else { members(template.switch) };
        let id = self.frame_number.unwrap(u32::from(descriptor.frame_number));
        Ok(Routed {
            frame: Frame {
                spatial: template.spatial.min(MAX_SPATIAL as u8 - 1),
                temporal: template.temporal.min(MAX_TEMPORAL as u8 - 1),
                needed: members(template.present),
                opens: if opened.is_empty() { Opens::Nothing } else { Opens::Points(opened) },
                ends: descriptor.ends,
            },
            picture: Picture {
                id: Some(id),
                tl0: None,
                templates: Some((structure.offset, structure.templates().len() as u8)),
            },
            begins: descriptor.starts,
            keyframe: descriptor.has_structure && descriptor.starts,
        })
    }

    /// Picture heights of the spatial layers; zero where unknown.
    pub fn heights(&self) -> [u16; MAX_SPATIAL] {
        let mut heights = [0; MAX_SPATIAL];
        let known = self.structure.as_deref().map_or(&[][..], Structure::heights);
        heights.iter_mut().zip(known).for_each(|(height, known)| *height = *known);
        heights
    }
}

/// For every point the highest decode target that needs no more than it, else the lowest one.
fn targets(structure: &Structure) -> [u8; MAX_POINTS] {
    let mut of = [0; MAX_POINTS];
    let all = || structure.targets().iter().zip(0u8..);
    for point in Point::all() {
        let below = all().filter(|((s, t), _)| *s <= point.spatial() && *t <= point.temporal());
        let best = below.max_by_key(|(layers, _)| **layers).or_else(|| all().min_by_key(|(layers, _)| **layers));
        of[point.index()] = best.map_or(0, |(_, target)| target);
    }
    of
}
