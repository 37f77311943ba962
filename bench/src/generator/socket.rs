//! One UDP socket for all clients of a run. Each client has a loopback address of its own, so one system call takes
//! packets of many clients, and the generator costs little beside the bridge under test.

use std::fs;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

/// Bytes of a buffer: a run of packets with GRO, one packet without (longer ones are cut).
const RUN: usize = 65_536;
const PACKET: usize = 2048;
/// Kernel receive buffer wanted, bytes: a keyframe for 500 receivers.
const RECEIVE_BUFFER: usize = 64 << 20;

/// The socket of all clients.
pub struct ClientSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    buffer: usize,
    /// Where it says when packets arrived.
    stamped: Option<MultiHeaders<SockaddrIn>>,
}

impl ClientSocket {
    /// Binds a free port on all loopback addresses. With `gro`, a run of packets that was sent as one message (GSO)
    /// arrives as one: the sender's kernel does not cut it, as if its network card did (`tx-udp-segmentation`).
    pub fn bind(gro: bool) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        setsockopt(&socket, sockopt::UdpGroSegment, &gro)?;
        // Beyond net.core.rmem_max only for root; what the generator loses is reported as its own loss.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        let buffer = if gro { RUN } else { PACKET };
        Ok(Self { socket, state, buffers: vec![0; BATCH_SIZE * buffer], buffer, stamped: None })
    }

    /// The port that all clients share.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Packets that the kernel dropped because the generator was too slow, since the start.
    pub fn overflowed(&self) -> u64 {
        let port = self.port().map_or_else(|_| String::new(), |port| format!(":{port:04X}"));
        let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let line =
            table.lines().find(|line| line.split_ascii_whitespace().nth(1).is_some_and(|at| at.ends_with(&port)));
        line.and_then(|line| line.split_ascii_whitespace().last()?.parse().ok()).unwrap_or(0)
    }

    /// Sends from a client's address. A full socket is not an error: the packet is lost, as on a network. Returns whether it went.
    pub fn send(&self, from: Ipv4Addr, to: SocketAddrV4, bytes: &[u8]) -> io::Result<bool> {
        let transmit = Transmit {
            destination: SocketAddr::V4(to),
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: Some(IpAddr::V4(from)),
        };
        match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// From now on the kernel says when packets arrived, which costs every sender on this host a little. Not for runs (GRO).
    pub fn stamp(&mut self) -> io::Result<()> {
        setsockopt(&self.socket, sockopt::ReceiveTimestampns, &true)?;
        let space = nix::cmsg_space!(nix::libc::in_pktinfo, TimeSpec, [u8; 64]);
        self.stamped = Some(MultiHeaders::preallocate(BATCH_SIZE, Some(space)));
        Ok(())
    }

    /// Takes what lies there, at most one batch, without waiting: client's address, sender's address, bytes, and how long ago it
    /// arrived if that is known.
    pub fn receive(&mut self, mut take: impl FnMut(Ipv4Addr, SocketAddrV4, &[u8], Duration)) -> io::Result<usize> {
        if self.stamped.is_some() {
            return self.receive_stamped(take);
        }
        let mut buffers = self.buffers.chunks_exact_mut(self.buffer);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let received = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => 0,
            Err(error) => return Err(error),
        };
        for (meta, bytes) in metas.iter().zip(&slices).take(received) {
            if let (Some(IpAddr::V4(to)), SocketAddr::V4(from)) = (meta.dst_ip, meta.addr) {
                bytes[..meta.len.min(bytes.len())]
                    .chunks(meta.stride.max(1))
                    .for_each(|packet| take(to, from, packet, Duration::ZERO));
            }
        }
        Ok(received)
    }

    fn receive_stamped(&mut self, mut take: impl FnMut(Ipv4Addr, SocketAddrV4, &[u8], Duration)) -> io::Result<usize> {
        let Some(headers) = &mut self.stamped else { return Ok(0) };
        let mut metas = [None; BATCH_SIZE];
        let mut received = 0;
        {
            let mut buffers = self.buffers.chunks_exact_mut(self.buffer);
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH_SIZE] =
                std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
            let flags = MsgFlags::MSG_DONTWAIT;
            let messages = match recvmmsg(self.socket.as_raw_fd(), headers, slices.iter_mut(), flags, None) {
                Ok(messages) => messages,
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
            for (meta, message) in metas.iter_mut().zip(messages) {
                received += 1;
                let (mut to, mut stamp) = (None, None);
                for control in message.cmsgs()? {
                    match control {
                        ControlMessageOwned::Ipv4PacketInfo(info) => {
                            to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                        }
                        ControlMessageOwned::ScmTimestampns(at) => stamp = Some(Duration::from(at)),
                        _ => {}
                    }
                }
                *meta = to.zip(message.address).map(|(to, from)| (to, SocketAddrV4::from(from), message.bytes, stamp));
            }
        }
        let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
        for (meta, bytes) in metas.iter().zip(self.buffers.chunks_exact(self.buffer)) {
            if let Some((to, from, len, stamp)) = meta {
                let ago = stamp.map_or(Duration::ZERO, |stamp| now.saturating_sub(stamp));
                take(*to, *from, &bytes[..*len], ago);
            }
        }
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn clients_share_a_socket_and_keep_their_addresses() {
        let (one, two) = (Ipv4Addr::new(127, 1, 0, 1), Ipv4Addr::new(127, 1, 0, 2));
        for (gro, stamped) in [(false, false), (true, false), (false, true)] {
            let mut socket = ClientSocket::bind(gro).unwrap();
            if stamped {
                socket.stamp().unwrap();
            }
            let port = socket.port().unwrap();
            let (start, mut stamps) = (Instant::now(), 0);
            for turn in 0..3u8 {
                for i in 0..100u8 {
                    let (from, to) = if i % 2 == 0 { (one, two) } else { (two, one) };
                    socket.send(from, SocketAddrV4::new(to, port), &[turn, i]).unwrap();
                }
                let mut seen = Vec::new();
                while seen.len() < 100 {
                    let take = |to, from: SocketAddrV4, bytes: &[u8], ago: Duration| {
                        // The clock of the stamps may be set meanwhile, but not in most runs.
                        assert!(ago <= start.elapsed() + Duration::from_secs(1) && (stamped || ago.is_zero()));
                        stamps += usize::from(!ago.is_zero());
                        seen.push((to, *from.ip(), bytes.to_vec()));
                    };
                    socket.receive(take).unwrap();
                }
                let expect: Vec<_> = (0..100u8)
                    .map(|i| if i % 2 == 0 { (two, one, vec![turn, i]) } else { (one, two, vec![turn, i]) })
                    .collect();
                assert_eq!(seen, expect);
            }
            assert_eq!((socket.overflowed(), stamps > 0), (0, stamped));
        }
    }
}
