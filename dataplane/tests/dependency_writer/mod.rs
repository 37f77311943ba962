//! Writes dependency descriptors bit by bit, from appendix A of the AV1 RTP specification.
#![allow(dead_code)]

/// One template of a structure.
#[derive(Debug, Clone)]
pub struct Template {
    pub spatial: u8,
    pub temporal: u8,
    /// One of `-DSR` for each decode target.
    pub indications: String,
    pub frame_diffs: Vec<u8>,
    pub chain_diffs: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Structure {
    pub offset: u8,
    pub targets: usize,
    pub templates: Vec<Template>,
    /// The chain that protects each decode target; empty without chains.
    pub protected_by: Vec<u8>,
    pub chains: u32,
    pub sizes: Vec<(u16, u16)>,
}

#[derive(Debug, Default)]
pub struct Bits {
    pub bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    pub fn put(&mut self, value: u32, count: usize) {
        for i in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> i & 1) as u8) << (7 - self.used % 8);
            self.used += 1;
        }
    }

    fn put_non_symmetric(&mut self, value: u32, n: u32) {
        let width = 32 - n.leading_zeros() as usize;
        let short = (1u32 << width) - n;
        if value < short {
            self.put(value, width - 1);
        } else {
            self.put(value + short, width);
        }
    }
}

pub fn indication(letter: char) -> u32 {
    "-DSR".find(letter).unwrap() as u32
}

impl Structure {
    fn write(&self, bits: &mut Bits) {
        bits.put(self.offset.into(), 6);
        bits.put(self.targets as u32 - 1, 5);
        for (i, t) in self.templates.iter().enumerate() {
            let next = match self.templates.get(i + 1) {
                None => 3,
                Some(next) if next.spatial > t.spatial => 2,
                Some(next) if next.temporal > t.temporal => 1,
                Some(_) => 0,
            };
            bits.put(next, 2);
        }
        for t in &self.templates {
            t.indications.chars().for_each(|c| bits.put(indication(c), 2));
        }
        for t in &self.templates {
            for diff in &t.frame_diffs {
                bits.put(1, 1);
                bits.put(u32::from(*diff) - 1, 4);
            }
            bits.put(0, 1);
        }
        bits.put_non_symmetric(self.chains, self.targets as u32 + 1);
        if self.chains > 0 {
            self.protected_by.iter().for_each(|chain| bits.put_non_symmetric((*chain).into(), self.chains));
            self.templates.iter().flat_map(|t| &t.chain_diffs).for_each(|diff| bits.put((*diff).into(), 4));
        }
        bits.put((!self.sizes.is_empty()).into(), 1);
        for (width, height) in &self.sizes {
            bits.put(u32::from(*width) - 1, 16);
            bits.put(u32::from(*height) - 1, 16);
        }
    }

    /// The index of a template by its layers; the first one, or the second where there are two (key and delta).
    pub fn template(&self, spatial: u8, temporal: u8, nth: usize) -> u8 {
        let found = self.templates.iter().enumerate().filter(|(_, t)| (t.spatial, t.temporal) == (spatial, temporal));
        found.map(|(i, _)| i as u8).nth(nth).unwrap()
    }
}

/// The extended fields of a descriptor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extended<'a> {
    /// The structure itself.
    pub attach: bool,
    /// Mask of the decode targets that are sent.
    pub active: Option<u32>,
    /// Indications in place of the template's.
    pub indications: Option<&'a str>,
}

/// The structure alone, or nothing.
pub fn attached(attach: bool) -> Extended<'static> {
    Extended { attach, ..Extended::default() }
}

/// A descriptor of the first, the last or a middle packet of a frame; `index` is the template's position, not its id.
pub fn descriptor(
    (starts, ends): (bool, bool),
    index: u8,
    frame_number: u16,
    structure: &Structure,
    extended: Extended<'_>,
) -> Vec<u8> {
    let Extended { attach, active, indications } = extended;
    let mut bits = Bits::default();
    bits.put(starts.into(), 1);
    bits.put(ends.into(), 1);
    bits.put(((index + structure.offset) & 0x3f).into(), 6);
    bits.put(frame_number.into(), 16);
    if attach || active.is_some() || indications.is_some() {
        bits.put(attach.into(), 1);
        bits.put(active.is_some().into(), 1);
        bits.put(indications.is_some().into(), 1);
        bits.put(0, 2);
        if attach {
            structure.write(&mut bits);
        }
        if let Some(mask) = active {
            bits.put(mask, structure.targets);
        }
        indications.unwrap_or("").chars().for_each(|c| bits.put(indication(c), 2));
    }
    bits.bytes
}

/// One spatial layer, three temporal ones.
pub fn l1t3(offset: u8) -> Structure {
    let t = |temporal, indications: &str, frame_diffs: &[u8]| Template {
        spatial: 0,
        temporal,
        indications: indications.to_owned(),
        frame_diffs: frame_diffs.to_vec(),
        chain_diffs: vec![if temporal == 0 { 4 } else { 1 }],
    };
    Structure {
        offset,
        targets: 3,
        templates: vec![t(0, "SSS", &[]), t(0, "SSS", &[4]), t(1, "-DS", &[2]), t(2, "--D", &[1]), t(2, "--D", &[1])],
        protected_by: vec![0; 3],
        chains: 1,
        sizes: vec![(640, 360)],
    }
}

/// Three spatial layers, each with three temporal ones, predicted from each other in keyframes only.
pub fn l3t3_key(offset: u8) -> Structure {
    let targets = || (0..3u8).flat_map(|s| (0..3u8).map(move |t| (s, t)));
    let mut templates = Vec::new();
    for spatial in 0..3u8 {
        for (temporal, key) in [(0, true), (0, false), (1, false), (2, false), (2, false)] {
            let letter = |(s, t): (u8, u8)| match (s == spatial, temporal) {
                _ if key && s >= spatial => 'S',
                (true, 0) => 'S',
                (true, 1) if t == 1 => 'D',
                (true, 1) if t == 2 => 'R',
                (true, 2) if t == 2 => 'D',
                _ => '-',
            };
            templates.push(Template {
                spatial,
                temporal,
                indications: targets().map(letter).collect(),
                frame_diffs: match (temporal, key, spatial) {
                    (0, true, 0) => vec![],
                    (0, true, _) => vec![1],
                    (0, false, _) => vec![12],
                    (1, ..) => vec![6],
                    _ => vec![3],
                },
                chain_diffs: vec![spatial, 1, 15],
            });
        }
    }
    Structure {
        offset,
        targets: 9,
        templates,
        protected_by: vec![0, 0, 0, 1, 1, 1, 2, 2, 2],
        chains: 3,
        sizes: vec![(320, 180), (640, 360), (1280, 720)],
    }
}
