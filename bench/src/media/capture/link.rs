//! The UDP payload within a captured frame.

use super::container::{Frame, Link};
use super::left_out::Reason;

/// VLAN tags in front of one packet, at most.
const VLAN_TAGS: usize = 4;
/// IPv6 extension headers of one packet, at most.
const EXTENSION_HEADERS: usize = 8;

const UDP: u8 = 17;

/// The whole UDP payload of a frame, or why it has none.
pub(super) fn datagram<'a>(frame: &Frame<'a>) -> Result<&'a [u8], Reason> {
    let data = frame.data;
    let ip = match frame.link {
        Link::Datagram => return Ok(data),
        // Loopback of BSD and macOS, OpenBSD's.
        Link::Type(0 | 108) => data.get(4..),
        // Ethernet.
        Link::Type(1) => return payload(frame, network(data.get(12..))),
        // Raw IP, by the several numbers that it has.
        Link::Type(12 | 14 | 101 | 228 | 229) => Some(data),
        // Linux cooked, version 1: the protocol lies right in front of the packet.
        Link::Type(113) => return payload(frame, network(data.get(14..))),
        // Version 2: the protocol comes first.
        Link::Type(276) => {
            let ip = data.get(20..).zip(data.first_chunk().copied());
            return payload(frame, ip.ok_or(CUT).and_then(|(rest, kind)| behind(u16::from_be_bytes(kind), rest)));
        }
        Link::Type(other) => return Err(Reason::LinkType(other)),
    };
    payload(frame, ip.ok_or(CUT))
}

/// The frame ends too early.
const CUT: Option<Reason> = None;

/// Errors are [`CUT`] or the reason.
type Found<'a> = Result<&'a [u8], Option<Reason>>;

/// The IP packet behind an EtherType.
fn network(typed: Option<&[u8]>) -> Found<'_> {
    let (kind, rest) = typed.and_then(|typed| typed.split_first_chunk()).ok_or(CUT)?;
    behind(u16::from_be_bytes(*kind), rest)
}

fn behind(mut kind: u16, mut rest: &[u8]) -> Found<'_> {
    for _ in 0..=VLAN_TAGS {
        match kind {
            0x0800 | 0x86dd => return Ok(rest),
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                let ([_, _, high, low], inner) = rest.split_first_chunk().ok_or(CUT)?;
                (kind, rest) = (u16::from_be_bytes([*high, *low]), inner);
            }
            // PPPoE session: a header of six bytes and the protocol of PPP.
            0x8864 => {
                let ([_, _, _, _, _, _, high, low], inner) = rest.split_first_chunk().ok_or(CUT)?;
                match u16::from_be_bytes([*high, *low]) {
                    0x0021 | 0x0057 => return Ok(inner),
                    _ => return Err(Some(Reason::NotIp)),
                }
            }
            _ => return Err(Some(Reason::NotIp)),
        }
    }
    Err(Some(Reason::NotIp))
}

fn payload<'a>(frame: &Frame<'a>, ip: Found<'a>) -> Result<&'a [u8], Reason> {
    let found = ip.and_then(|ip| match ip.first().ok_or(CUT)? >> 4 {
        4 => udp(ipv4(ip)?),
        6 => udp(ipv6(ip)?),
        _ => Err(Some(Reason::NotIp)),
    });
    found.map_err(|reason| reason.unwrap_or(if frame.whole { Reason::Malformed } else { Reason::SnapLength }))
}

fn number(bytes: &[u8], at: usize) -> Result<usize, Option<Reason>> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk()).ok_or(CUT)?;
    Ok(usize::from(u16::from_be_bytes(*bytes)))
}

fn ipv4(ip: &[u8]) -> Found<'_> {
    let header = usize::from(ip.first().ok_or(CUT)? & 15) * 4;
    if header < 20 {
        return Err(Some(Reason::Malformed));
    }
    let protocol = *ip.get(9).ok_or(CUT)?;
    // More fragments, or an offset.
    if number(ip, 6)? & 0x3fff != 0 {
        return Err(Some(Reason::Fragment));
    }
    if protocol != UDP {
        return Err(Some(Reason::NotUdp));
    }
    // Zero where the network card was to fill it in; behind it is Ethernet's padding.
    let total = match number(ip, 2)? {
        0 => ip.len(),
        total => total.min(ip.len()),
    };
    ip.get(header..total).ok_or(CUT)
}

fn ipv6(ip: &[u8]) -> Found<'_> {
    let mut next = *ip.get(6).ok_or(CUT)?;
    let end = match number(ip, 4)? {
        0 => ip.len(),
        len => (40 + len).min(ip.len()),
    };
    let mut rest = ip.get(40..end).ok_or(CUT)?;
    for _ in 0..=EXTENSION_HEADERS {
        if next == UDP {
            return Ok(rest);
        }
        let eights = || rest.get(1).map(|len| usize::from(*len)).ok_or(CUT);
        let len = match next {
            // Hop-by-hop and destination options, routing, mobility, HIP, Shim6.
            0 | 43 | 60 | 135 | 139 | 140 => (eights()? + 1) * 8,
            // The authentication header counts in words.
            51 => (eights()? + 2) * 4,
            // A fragment that is the whole packet has neither an offset nor a successor.
            44 if number(rest, 2)? & 0xfff9 != 0 => return Err(Some(Reason::Fragment)),
            44 => 8,
            _ => return Err(Some(Reason::NotUdp)),
        };
        next = *rest.first().ok_or(CUT)?;
        rest = rest.get(len..).ok_or(CUT)?;
    }
    Err(Some(Reason::NotUdp))
}

fn udp(udp: &[u8]) -> Found<'_> {
    match number(udp, 4)? {
        len @ 8.. => udp.get(8..len).ok_or(CUT),
        _ => Err(Some(Reason::Malformed)),
    }
}
