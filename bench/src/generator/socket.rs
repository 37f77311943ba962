//! One UDP socket for all clients of a run. Each client has a loopback address of its own, so one system call takes
//! packets of many clients, and the generator costs little beside the bridge under test.

use std::fs;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
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
        Ok(Self { socket, state, buffers: vec![0; BATCH_SIZE * buffer], buffer })
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

    /// Sends from a client's address. A full socket is not an error: the packet is lost, as on a network.
    pub fn send(&self, from: Ipv4Addr, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            destination: SocketAddr::V4(to),
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: Some(IpAddr::V4(from)),
        };
        match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Takes what lies there, at most one batch, without waiting: (client's address, sender's address, bytes).
    pub fn receive(&mut self, mut take: impl FnMut(Ipv4Addr, SocketAddrV4, &[u8])) -> io::Result<usize> {
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
                bytes[..meta.len.min(bytes.len())].chunks(meta.stride.max(1)).for_each(|packet| take(to, from, packet));
            }
        }
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_a_socket_and_keep_their_addresses() {
        let (one, two) = (Ipv4Addr::new(127, 1, 0, 1), Ipv4Addr::new(127, 1, 0, 2));
        for gro in [false, true] {
            let mut socket = ClientSocket::bind(gro).unwrap();
            let port = socket.port().unwrap();
            for turn in 0..3u8 {
                for i in 0..100u8 {
                    let (from, to) = if i % 2 == 0 { (one, two) } else { (two, one) };
                    socket.send(from, SocketAddrV4::new(to, port), &[turn, i]).unwrap();
                }
                let mut seen = Vec::new();
                while seen.len() < 100 {
                    socket.receive(|to, from, bytes| seen.push((to, *from.ip(), bytes.to_vec()))).unwrap();
                }
                let expect: Vec<_> = (0..100u8)
                    .map(|i| if i % 2 == 0 { (two, one, vec![turn, i]) } else { (one, two, vec![turn, i]) })
                    .collect();
                assert_eq!(seen, expect);
            }
            assert_eq!(socket.overflowed(), 0);
        }
    }
}
