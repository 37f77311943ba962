//! One UDP socket for all clients of a run. Each client has a loopback address of its own, so one system call takes
//! packets of many clients, and the generator costs little beside the bridge under test.

use std::io;
use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg, setsockopt, sockopt,
};

/// Packets taken by one system call.
const BATCH: usize = 64;
/// Bytes kept of a packet; longer ones are cut.
const PACKET: usize = 2048;
/// Kernel receive buffer wanted, bytes: a keyframe for 500 receivers.
const RECEIVE_BUFFER: usize = 64 << 20;

/// See the module.
pub struct ClientSocket {
    socket: UdpSocket,
    headers: MultiHeaders<SockaddrIn>,
    buffers: Vec<u8>,
    /// Packets that the kernel dropped because the generator was too slow.
    pub overflowed: u32,
}

impl ClientSocket {
    /// Binds a free port on all loopback addresses.
    pub fn bind() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        // Beyond net.core.rmem_max only for root; what the generator loses is reported as its own loss.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        let space = nix::cmsg_space!(nix::libc::in_pktinfo, u32);
        Ok(Self {
            headers: MultiHeaders::preallocate(BATCH, Some(space)),
            buffers: vec![0; BATCH * PACKET],
            socket,
            overflowed: 0,
        })
    }

    /// The port that all clients share.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Sends from a client's address. A full socket is not an error: the packet is lost, as on a network.
    pub fn send(&self, from: Ipv4Addr, to: SocketAddrV4, bytes: &[u8]) -> io::Result<bool> {
        let source = nix::libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
        let info = nix::libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: source };
        let sent = sendmsg(
            self.socket.as_raw_fd(),
            &[io::IoSlice::new(bytes)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::empty(),
            Some(&SockaddrIn::from(to)),
        );
        match sent {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ECONNREFUSED) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what lies there, at most one batch, without waiting: (client's address, sender's address, bytes).
    pub fn receive(&mut self, mut take: impl FnMut(Ipv4Addr, SocketAddrV4, &[u8])) -> io::Result<usize> {
        let mut buffers = self.buffers.chunks_exact_mut(PACKET);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
        let received = recvmmsg(
            self.socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        );
        let messages = match received {
            Ok(messages) => messages,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut count = 0;
        for message in messages {
            count += 1;
            let mut to = None;
            for control in message.cmsgs()? {
                match control {
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                    }
                    ControlMessageOwned::RxqOvfl(dropped) => self.overflowed = dropped,
                    _ => {}
                }
            }
            let from = message.address.map(SocketAddrV4::from);
            if let (Some(to), Some(from), Some(bytes)) = (to, from, message.iovs().next()) {
                take(to, from, bytes);
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_a_socket_and_keep_their_addresses() {
        let (one, two) = (Ipv4Addr::new(127, 1, 0, 1), Ipv4Addr::new(127, 1, 0, 2));
        let mut socket = ClientSocket::bind().unwrap();
        let port = socket.port().unwrap();
        for turn in 0..3u8 {
            for i in 0..100u8 {
                let (from, to) = if i % 2 == 0 { (one, two) } else { (two, one) };
                assert!(socket.send(from, SocketAddrV4::new(to, port), &[turn, i]).unwrap());
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
        assert_eq!(socket.overflowed, 0);
    }
}
