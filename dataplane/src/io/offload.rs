//! GSO, GRO and drop reports of UDP sockets: switching them on, and their control messages.

use std::ffi::c_int;
use std::io;
use std::net::UdpSocket;

use super::Offloads;
use super::socket::set_option;

/// Room for the control messages of one received message: GRO segment size and socket drops.
pub(super) const CONTROL_LEN: usize = 64;

/// Control buffer, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub [u8; CONTROL_LEN]);

/// Control message that asks for segmentation: `UDP_SEGMENT` with a segment size.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct SegmentControl {
    header: libc::cmsghdr,
    segment: u16,
    padding: [u8; 6],
}

impl SegmentControl {
    pub(super) fn new(segment: u16) -> Self {
        // SAFETY: cmsghdr is plain integers; all zeroes is a value of it.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        Self { header, segment, padding: [0; 6] }
    }

    /// Changes the size.
    pub(super) fn set(&mut self, segment: usize) {
        self.segment = segment as u16;
    }
}

/// What came along with a received message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ancillary {
    /// Bytes of each datagram in the message; 0 when it is a single one.
    pub segment: usize,
    /// Datagrams that the socket has dropped since it exists, if the kernel says.
    pub drops: Option<u32>,
}

/// Reads control messages; stops at the first that makes no sense.
pub(super) fn parse_control(mut control: &[u8]) -> Ancillary {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const WORD: usize = size_of::<usize>();
    let mut ancillary = Ancillary::default();
    while let Some((header, rest)) = control.split_at_checked(HEADER) {
        let int = |bytes: &[u8]| bytes.get(..4).and_then(|b| b.try_into().ok()).map(c_int::from_ne_bytes);
        let len = header[..WORD].try_into().map_or(0, usize::from_ne_bytes);
        let (Some(level), Some(kind)) = (int(&header[HEADER - 8..]), int(&header[HEADER - 4..])) else { break };
        let Some(data) = len.checked_sub(HEADER).and_then(|len| rest.get(..len)) else { break };
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => ancillary.segment = int(data).map_or(0, |n| n.max(0) as usize),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => ancillary.drops = int(data).map(|n| n as u32),
            _ => {}
        }
        let Some(next) = control.get(len.next_multiple_of(WORD)..) else { break };
        control = next;
    }
    ancillary
}

/// Those of sockets that were opened here, or in another process that used GRO or did not.
pub(super) fn of(sockets: &[UdpSocket], gro: Option<bool>, wanted: bool) -> Offloads {
    gro.map_or_else(|| enable(sockets, wanted), |gro| keep(sockets, gro, wanted))
}

/// Switches on what the kernel has (only the drop reports when `wanted` is false).
fn enable(sockets: &[UdpSocket], wanted: bool) -> Offloads {
    let all = |level, name, value| sockets.iter().all(|socket| set_option(socket, level, name, value).is_ok());
    // Without drop reports the counter stays at zero; nothing else depends on them.
    all(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    // A segment size of zero on the socket changes nothing: it asks whether the kernel knows the option.
    let gso = wanted && all(libc::SOL_UDP, libc::UDP_SEGMENT, 0);
    let gro = wanted && all(libc::SOL_UDP, libc::UDP_GRO, 1);
    if !gro {
        all(libc::SOL_UDP, libc::UDP_GRO, 0);
    }
    Offloads { gso, gro }
}

/// The same for sockets of another process, where GRO was on or not: it stays so, since runs of datagrams may lie there already, and
/// since that process goes on with them where this one does not.
fn keep(sockets: &[UdpSocket], gro: bool, wanted: bool) -> Offloads {
    let all = |level, name, value| sockets.iter().all(|socket| set_option(socket, level, name, value).is_ok());
    all(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    Offloads { gso: wanted && all(libc::SOL_UDP, libc::UDP_SEGMENT, 0), gro }
}

/// Switches on for a further socket what the others have. An error when it does not take that: it might bring runs that are longer
/// than the buffers, or not bring what the others do.
pub(super) fn enable_alike(socket: &UdpSocket, offloads: Offloads) -> io::Result<()> {
    let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    if offloads.gro {
        set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    } else {
        let _ = set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 0);
    }
    Ok(())
}

/// Bytes of a receive buffer: the largest UDP payload and the headers that io_uring writes before it; not a multiple
/// of 4,096, so that buffers do not fall into the same cache sets. Without GRO [`super::MAX_DATAGRAM`] is enough.
pub(super) fn buffer_len(gro: bool) -> usize {
    if gro { 65_536 + 256 } else { 2048 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(level: c_int, kind: c_int, data: &[u8]) -> Vec<u8> {
        let len = size_of::<libc::cmsghdr>() + data.len();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(len.next_multiple_of(size_of::<usize>()), 0);
        bytes
    }

    #[test]
    fn control_messages_in_any_order() {
        let gro = message(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes());
        let drops = message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7u32.to_ne_bytes());
        let other = message(libc::SOL_SOCKET, 99, &[1, 2, 3]);
        let expect = Ancillary { segment: 1200, drops: Some(7) };
        assert_eq!(parse_control(&[&gro[..], &other, &drops].concat()), expect);
        assert_eq!(parse_control(&[&drops[..], &gro].concat()), expect);
        assert_eq!(parse_control(&gro[..gro.len() - 5]), Ancillary::default());
        assert_eq!(parse_control(&[]), Ancillary::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            parse_control(&bytes);
        }

        #[test]
        fn any_length_is_survived(len in any::<usize>(), tail in prop::collection::vec(any::<u8>(), 8..60)) {
            parse_control(&[&len.to_ne_bytes()[..], &tail].concat());
        }
    }
}
