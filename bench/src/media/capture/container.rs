//! Records of pcap, pcapng and rtpdump files. Lengths come from the file and are never trusted: what is not whole is left out.

use super::left_out::{LeftOut, Reason};

/// No packet of a capture is longer than this, bytes (libpcap's own limit): a larger length is damage.
const LONGEST_RECORD: usize = 256 * 1024;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// A frame of a link type of pcap.
    Type(u32),
    /// The payload of a datagram.
    Datagram,
}

/// One packet as it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Nanoseconds since an epoch of the file's; none in simple packet blocks.
    pub(super) at: Option<i128>,
    pub(super) link: Link,
    pub(super) data: &'a [u8],
    /// False when the snap length cut it.
    pub(super) whole: bool,
}

/// Reads every whole record; says what it had to leave out.
pub(super) fn frames<'a>(bytes: &'a [u8], left_out: &mut LeftOut) -> Result<Vec<Frame<'a>>, String> {
    match bytes.get(..4) {
        Some(b"#!rt" | b"#!RT") => rtpdump(bytes, left_out),
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(bytes, left_out),
        Some(_) => pcap(bytes, left_out),
        None => Err(format!("it has {} bytes", bytes.len())),
    }
}

/// Numbers in the byte order of a file or section.
#[derive(Debug, Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = bytes.get(at..)?.first_chunk().copied()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..)?.first_chunk().copied()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = bytes.get(at..)?.first_chunk().copied()?;
        Some(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// A length or an index.
    fn size(self, bytes: &[u8], at: usize) -> Option<usize> {
        self.u32(bytes, at).and_then(|size| usize::try_from(size).ok())
    }
}

fn pcap<'a>(bytes: &'a [u8], left_out: &mut LeftOut) -> Result<Vec<Frame<'a>>, String> {
    const HEADER: usize = 24;
    let magic = bytes.first_chunk::<4>().copied().unwrap_or_default();
    let (order, nanos, record_header) = [true, false]
        .into_iter()
        .find_map(|big| {
            let number = if big { u32::from_be_bytes(magic) } else { u32::from_le_bytes(magic) };
            match number {
                0xa1b2_c3d4 => Some((Order { big }, 1_000, 16)),
                0xa1b2_3c4d => Some((Order { big }, 1, 16)),
                // Of old Linux systems: eight more bytes in front of each packet.
                0xa1b2_cd34 => Some((Order { big }, 1_000, 24)),
                _ => None,
            }
        })
        .ok_or_else(|| format!("it begins with {magic:02x?}"))?;
    let mut rest = bytes.get(HEADER..).ok_or("its header is cut")?;
    // The upper bits say whether frames end with a checksum.
    let link = Link::Type(order.u32(bytes, 20).unwrap_or_default() & 0xffff);
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let head = |at| order.u32(rest, at);
        let (Some(seconds), Some(fraction), Some(captured), Some(sent)) =
            (head(0), head(4), order.size(rest, 8), head(12))
        else {
            left_out.note(Reason::CutRecord);
            break;
        };
        if captured > LONGEST_RECORD {
            left_out.note(Reason::Damaged);
            break;
        }
        let Some(data) = rest.get(record_header..record_header + captured) else {
            left_out.note(Reason::CutRecord);
            break;
        };
        let at = i128::from(seconds) * 1_000_000_000 + i128::from(fraction) * nanos;
        frames.push(Frame { at: Some(at), link, data, whole: sent as usize <= captured });
        rest = rest.get(record_header + captured..).unwrap_or(&[]);
    }
    Ok(frames)
}

/// An interface of a section of a pcapng file.
#[derive(Debug, Clone, Copy)]
struct Interface {
    link: u32,
    snap: usize,
    /// `if_tsresol`: a negative power of ten, or of two with the upper bit.
    resolution: u8,
    /// `if_tsoffset`, seconds.
    offset: i64,
}

impl Interface {
    fn parse(order: Order, body: &[u8]) -> Option<Self> {
        let mut interface =
            Self { link: u32::from(order.u16(body, 0)?), snap: order.size(body, 4)?, resolution: 6, offset: 0 };
        let mut options = body.get(8..)?;
        while let (Some(code), Some(len)) = (order.u16(options, 0), order.u16(options, 2)) {
            let len = usize::from(len);
            let Some(value) = options.get(4..4 + len).filter(|_| code != 0) else { break };
            match (code, value) {
                (9, [resolution]) => interface.resolution = *resolution,
                (14, [..]) if len == 8 => interface.offset = order.u64(value, 0)?.cast_signed(),
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or(&[]);
        }
        Some(interface)
    }

    /// Nanoseconds of a timestamp.
    fn nanos(&self, ticks: u64) -> i128 {
        let exponent = u32::from(self.resolution & 0x7f);
        let base: u128 = if self.resolution & 0x80 == 0 { 10 } else { 2 };
        // So fine a unit that no timestamp reaches a nanosecond.
        let nanos = base.checked_pow(exponent).map_or(0, |unit| u128::from(ticks) * 1_000_000_000 / unit);
        // Below 2^94.
        nanos.cast_signed() + i128::from(self.offset) * 1_000_000_000
    }
}

fn pcapng<'a>(bytes: &'a [u8], left_out: &mut LeftOut) -> Result<Vec<Frame<'a>>, String> {
    const SECTION: u32 = 0x0a0d_0d0a;
    let (mut rest, mut order) = (bytes, Order { big: false });
    let (mut frames, mut interfaces) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let Some(kind) = order.u32(rest, 0) else {
            left_out.note(Reason::CutRecord);
            break;
        };
        if kind == SECTION {
            let Some(magic) = rest.get(8..12) else {
                left_out.note(Reason::CutRecord);
                break;
            };
            order.big = match magic {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ if frames.is_empty() => return Err(format!("its byte-order magic is {magic:02x?}")),
                _ => {
                    left_out.note(Reason::Damaged);
                    break;
                }
            };
            interfaces.clear();
        }
        let Some(len) = order.size(rest, 4) else {
            left_out.note(Reason::CutRecord);
            break;
        };
        if len < 12 || len % 4 != 0 {
            left_out.note(Reason::Damaged);
            break;
        }
        let (Some(body), Some(again)) = (rest.get(8..len - 4), order.size(rest, len - 4)) else {
            left_out.note(Reason::CutRecord);
            break;
        };
        if again != len {
            left_out.note(Reason::Damaged);
            break;
        }
        match kind {
            // One that cannot be read still takes its number.
            1 => interfaces.push(Interface::parse(order, body)),
            2 | 3 | 6 => match packet(order, kind, body, &interfaces) {
                Some(frame) => frames.push(frame),
                None => left_out.note(Reason::Malformed),
            },
            _ => {}
        }
        rest = rest.get(len..).unwrap_or(&[]);
    }
    Ok(frames)
}

/// A packet block: old (2), simple (3) or enhanced (6).
fn packet<'a>(order: Order, kind: u32, body: &'a [u8], interfaces: &[Option<Interface>]) -> Option<Frame<'a>> {
    let number = match kind {
        2 => usize::from(order.u16(body, 0)?),
        3 => 0,
        _ => order.size(body, 0)?,
    };
    let interface = interfaces.get(number).copied().flatten()?;
    let link = Link::Type(interface.link);
    if kind == 3 {
        let sent = order.size(body, 0)?;
        let captured = if interface.snap == 0 { sent } else { sent.min(interface.snap) };
        return Some(Frame {
            at: None,
            link,
            data: body.get(4..4usize.checked_add(captured)?)?,
            whole: captured == sent,
        });
    }
    let ticks = u64::from(order.u32(body, 4)?) << 32 | u64::from(order.u32(body, 8)?);
    let (captured, sent) = (order.size(body, 12)?, order.size(body, 16)?);
    let data = body.get(20..20usize.checked_add(captured)?)?;
    Some(Frame { at: Some(interface.nanos(ticks)), link, data, whole: sent <= captured })
}

/// The format of rtptools: a text line, a header of 16 bytes, then records of length, RTP length and milliseconds.
fn rtpdump<'a>(bytes: &'a [u8], left_out: &mut LeftOut) -> Result<Vec<Frame<'a>>, String> {
    let line = bytes.iter().position(|byte| *byte == b'\n').ok_or("its first line does not end")?;
    let mut rest = bytes.get(line + 1 + 16..).ok_or("its header is cut")?;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let [l0, l1, p0, p1, m0, m1, m2, m3, body @ ..] = rest else {
            left_out.note(Reason::CutRecord);
            break;
        };
        let len = usize::from(u16::from_be_bytes([*l0, *l1])).saturating_sub(8);
        let rtp = usize::from(u16::from_be_bytes([*p0, *p1]));
        let Some(record) = body.get(..len) else {
            left_out.note(Reason::CutRecord);
            break;
        };
        let at = i128::from(u32::from_be_bytes([*m0, *m1, *m2, *m3])) * 1_000_000;
        // An RTP length of zero marks RTCP.
        match record.get(..rtp) {
            Some([]) => left_out.note(Reason::Rtcp),
            Some(data) => frames.push(Frame { at: Some(at), link: Link::Datagram, data, whole: true }),
            None => left_out.note(Reason::SnapLength),
        }
        rest = body.get(len..).unwrap_or(&[]);
    }
    Ok(frames)
}
