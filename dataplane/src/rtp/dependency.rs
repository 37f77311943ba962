//! Dependency descriptor header extension (AV1 RTP specification, appendix A).
//!
//! A [`Structure`] comes with keyframes and lists templates; every packet names the template of its frame. Numbers are
//! patched in place, nothing is parsed per receiver.

use serde::{Deserialize, Serialize};

use super::RtpError;

/// Templates that a structure can have; their ids count modulo this.
pub const MAX_TEMPLATES: usize = 64;
/// Decode targets that a structure can have.
pub const MAX_TARGETS: usize = 32;
/// Spatial layers that ids can distinguish in `next_layer_idc` steps before a structure is refused.
const MAX_SPATIAL: usize = 4;
/// The mandatory fields.
const MANDATORY_LEN: usize = 3;

const CUT: RtpError = RtpError::Truncated("dependency descriptor");

/// What frames of one template are to the decode targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Template {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Decode targets that the frame is part of, one bit each.
    pub present: u32,
    /// Decode targets that can be switched to at the frame, one bit each.
    pub switch: u32,
}

/// A template dependency structure, as far as a forwarder needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Structure {
    /// Id of the first template.
    pub offset: u8,
    #[serde(with = "crate::carry::array")]
    templates: [Template; MAX_TEMPLATES],
    #[serde(deserialize_with = "crate::carry::below::<_, _, 65>")]
    template_count: usize,
    targets: [(u8, u8); MAX_TARGETS],
    #[serde(deserialize_with = "crate::carry::below::<_, _, 33>")]
    target_count: usize,
    #[serde(with = "crate::carry::checked")]
    chains: usize,
    heights: [u16; MAX_SPATIAL],
    #[serde(deserialize_with = "crate::carry::below::<_, _, 5>")]
    height_count: usize,
}

impl Structure {
    /// The templates in order.
    pub fn templates(&self) -> &[Template] {
        self.templates.get(..self.template_count).unwrap_or(&[])
    }

    /// Spatial and temporal layer of each decode target.
    pub fn targets(&self) -> &[(u8, u8)] {
        self.targets.get(..self.target_count).unwrap_or(&[])
    }

    /// Picture heights of the spatial layers in pixels; empty when unknown.
    pub fn heights(&self) -> &[u16] {
        self.heights.get(..self.height_count).unwrap_or(&[])
    }

    /// All decode targets, one bit each.
    pub fn all_targets(&self) -> u32 {
        ((1u64 << self.target_count) - 1) as u32
    }

    fn parse(bits: &mut Bits<'_>) -> Result<Self, RtpError> {
        let mut s = Self {
            offset: bits.read(6)? as u8,
            templates: [Template::default(); MAX_TEMPLATES],
            template_count: 0,
            targets: [(0, 0); MAX_TARGETS],
            target_count: bits.read(5)? as usize + 1,
            chains: 0,
            heights: [0; MAX_SPATIAL],
            height_count: 0,
        };
        let (mut spatial, mut temporal) = (0u8, 0u8);
        loop {
            let template = s.templates.get_mut(s.template_count);
            *template.ok_or(RtpError::Invalid("dependency descriptor template count"))? =
                Template { spatial, temporal, ..Template::default() };
            s.template_count += 1;
            match bits.read(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => break,
            }
        }
        if usize::from(spatial) >= MAX_SPATIAL {
            return Err(RtpError::Invalid("dependency descriptor spatial layer"));
        }
        for i in 0..s.template_count {
            let (present, switch) = read_indications(bits, s.target_count)?;
            s.templates[i].present = present;
            s.templates[i].switch = switch;
        }
        for _ in 0..s.template_count {
            while bits.read(1)? == 1 {
                bits.read(4)?;
            }
        }
        s.chains = bits.read_non_symmetric(s.target_count as u32 + 1)? as usize;
        if s.chains > 0 {
            for _ in 0..s.target_count {
                bits.read_non_symmetric(s.chains as u32)?;
            }
            for _ in 0..s.template_count * s.chains {
                bits.read(4)?;
            }
        }
        for target in 0..s.target_count {
            let parts = s.templates.iter().take(s.template_count).filter(|t| t.present >> target & 1 != 0);
            s.targets[target] = parts.fold((0, 0), |(a, b), t| (t.spatial.max(a), t.temporal.max(b)));
        }
        if bits.read(1)? == 1 {
            s.height_count = usize::from(spatial) + 1;
            for height in s.heights.iter_mut().take(s.height_count) {
                bits.read(16)?;
                *height = (bits.read(16)? as u16).saturating_add(1);
            }
        }
        Ok(s)
    }
}

/// Decode target indications: those that the frame is present in, and those that can be switched to at it.
fn read_indications(bits: &mut Bits<'_>, targets: usize) -> Result<(u32, u32), RtpError> {
    let (mut present, mut switch) = (0, 0);
    for target in 0..targets {
        // 0 not present, 1 discardable, 2 switch, 3 required.
        let indication = bits.read(2)?;
        present |= u32::from(indication != 0) << target;
        switch |= u32::from(indication == 2) << target;
    }
    Ok((present, switch))
}

/// A parsed descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// First packet of a frame.
    pub starts: bool,
    /// Last packet of a frame.
    pub ends: bool,
    /// Frame number, 16 bits.
    pub frame_number: u16,
    /// Whether it brought a structure: a keyframe.
    pub has_structure: bool,
    /// What the frame is.
    pub frame: Template,
    /// Decode targets that the sender sends from here on, where it says so.
    pub active: Option<u32>,
}

impl Descriptor {
    /// Parses a descriptor; a structure that it brings replaces the known one.
    pub fn parse(data: &[u8], known: &mut Option<Box<Structure>>) -> Result<Self, RtpError> {
        let mut bits = Bits { data, at: 0 };
        let (starts, ends, template_id) = (bits.read(1)? == 1, bits.read(1)? == 1, bits.read(6)? as u8);
        let frame_number = bits.read(16)? as u16;
        let (mut brought, mut active, mut custom) = (None, None, false);
        if data.len() > MANDATORY_LEN {
            let flags = bits.read(5)?;
            if flags & 0x10 != 0 {
                brought = Some(Structure::parse(&mut bits)?);
            }
            let structure = brought.as_ref().or(known.as_deref());
            if flags & 0x08 != 0 {
                let count =
                    structure.ok_or(RtpError::Invalid("dependency descriptor without a structure"))?.target_count;
                active = Some(bits.read(count as u32)?);
            } else if let Some(s) = &brought {
                active = Some(s.all_targets());
            }
            custom = flags & 0x04 != 0;
        }
        let structure = brought.as_ref().or(known.as_deref());
        let structure = structure.ok_or(RtpError::Invalid("dependency descriptor without a structure"))?;
        let index = usize::from(template_id.wrapping_sub(structure.offset) & 0x3f);
        let mut frame = *structure.templates().get(index).ok_or(RtpError::Invalid("dependency descriptor template"))?;
        if custom {
            (frame.present, frame.switch) = read_indications(&mut bits, structure.target_count)?;
        }
        let has_structure = brought.is_some();
        if let Some(new) = brought {
            match known {
                Some(old) => **old = new,
                None => *known = Some(Box::new(new)),
            }
        }
        Ok(Self { starts, ends, frame_number, has_structure, frame, active })
    }
}

/// Puts another frame number into a descriptor, and moves its template ids, in place. One that is too short stays.
pub fn patch(data: &mut [u8], frame_number: u16, template_shift: u8) {
    let long = data.len() > MANDATORY_LEN + 1;
    let Some([first, n0, n1, rest @ ..]) = data.get_mut(..) else { return };
    *first = (*first & 0xc0) | (first.wrapping_add(template_shift) & 0x3f);
    [*n0, *n1] = frame_number.to_be_bytes();
    if let [flags, next, ..] = rest
        && long
        && *flags & 0x80 != 0
    {
        // template_id_offset: the last three bits of the flags' byte and the first three of the next.
        let offset = (*flags & 0x07) << 3 | *next >> 5;
        let offset = offset.wrapping_add(template_shift) & 0x3f;
        *flags = (*flags & 0xf8) | offset >> 3;
        *next = (*next & 0x1f) | offset << 5;
    }
}

/// Reads bits, most significant first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// Up to 32 bits.
    fn read(&mut self, count: u32) -> Result<u32, RtpError> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.data.get(self.at / 8).ok_or(CUT)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    /// A value below `n` in as few bits as that takes: `ns(n)`.
    fn read_non_symmetric(&mut self, n: u32) -> Result<u32, RtpError> {
        let width = 32 - n.leading_zeros();
        let short = (1u32 << width) - n;
        let value = self.read(width.saturating_sub(1))?;
        if value < short {
            return Ok(value);
        }
        Ok((value << 1) - short + self.read(1)?)
    }
}
