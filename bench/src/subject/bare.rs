//! A loop that does nothing but receive and send: what the kernel alone costs for the same packets, arrivals and
//! fan-out. It has no ICE, no DTLS, no SRTP and decides nothing. Also the bare echo that latency is compared with.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, sendmsg, setsockopt, sockopt,
};
use ringbridge_dataplane::io::{
    EventFd, Flush, IoLimits, Mmsg, PacketIo, PacketSink, Path, SocketOptions, Uring, bind_sockets, pin_to_core,
};
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};

use super::sealed::{self, Member, Table};
use super::{OwnCounters, Subject, SubjectError};
use crate::cpu::{self, CpuTime};
use crate::generator::world::{ClientId, World};

/// Datagrams taken by one system call, as in ringbridge's backends.
pub(super) const BATCH: usize = 64;
pub(super) const PACKET: usize = 2048;
/// Most segments in one message (`UDP_MAX_SEGMENTS`).
const SEGMENTS: usize = 64;
/// Name of the thread, by which its processor time is found.
const THREAD: &str = "bare-loop";

/// How the loop sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// One `sendmsg` a packet.
    Sendmsg,
    /// `sendmmsg` with one message a packet.
    Sendmmsg,
    /// One `sendmsg` with `UDP_SEGMENT` for each destination.
    Gso,
    /// The same over sockets connected to their destinations.
    GsoConnected,
    /// ringbridge's mmsg backend (`sendmmsg`, GSO, GRO); copies into its slots.
    Mmsg,
    /// ringbridge's io_uring backend; copies into its slots.
    Uring,
    /// Opens and seals as a bridge has to; `recvmmsg`, then `sendmmsg`, and `sendmsg` with GSO for runs.
    Sealed,
    /// The same over ringbridge's mmsg backend.
    SealedMmsg,
    /// The same over ringbridge's io_uring backend.
    SealedUring,
    /// Sends each packet back to where it came from, one `recvfrom` and one `sendto` each.
    Echo,
}

impl Method {
    /// The methods that forward, without the echo.
    pub const FORWARD: [Self; 6] =
        [Self::Sendmsg, Self::Sendmmsg, Self::Gso, Self::GsoConnected, Self::Mmsg, Self::Uring];

    /// The methods that also open and seal: a whole floor, where the others leave that to be added.
    pub const SEALED: [Self; 3] = [Self::Sealed, Self::SealedMmsg, Self::SealedUring];

    /// Name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::SealedMmsg => "sealed, mmsg backend",
            Self::SealedUring => "sealed, io_uring backend",
            Self::Sendmsg => "sendmsg",
            Self::Sendmmsg => "sendmmsg",
            Self::Gso => "sendmsg + GSO",
            Self::GsoConnected => "sendmsg + GSO, connected",
            Self::Mmsg => "ringbridge mmsg backend",
            Self::Uring => "ringbridge io_uring backend",
            Self::Echo => "echo",
        }
    }

    /// Whether packets are copied before they are sent.
    pub const fn copies(self) -> bool {
        matches!(self, Self::Mmsg | Self::Uring)
    }
}

/// Where each sender's packets go.
type FanOut = HashMap<SocketAddrV4, Vec<SocketAddrV4>>;

#[derive(Debug, Default)]
struct Shared {
    fan_out: Mutex<FanOut>,
    /// All clients, for the methods that seal.
    members: Mutex<Vec<Member>>,
    version: AtomicU64,
    stop: AtomicBool,
}

/// A bare loop on a thread of its own.
pub struct Bare {
    method: Method,
    address: SocketAddrV4,
    shared: Arc<Shared>,
    rooms: HashMap<usize, Vec<(SocketAddrV4, bool)>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// The keys of all clients: what one seals the others open.
fn keys() -> SrtpKeys {
    let key = MasterKey { key: [7; 32], salt: [9; 14] };
    SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, inbound: key.clone(), outbound: key }
}

impl Bare {
    /// Starts the loop on a core.
    pub fn start(method: Method, core: usize) -> Result<Self, SubjectError> {
        let options = SocketOptions { check_port_free: false, ..SocketOptions::default() };
        let sockets = bind_sockets(&[Ipv4Addr::LOCALHOST.into()], 0, &options)?;
        let address = match sockets.first().and_then(|socket| socket.local_addr().ok()) {
            Some(SocketAddr::V4(address)) => address,
            _ => return Err(SubjectError::Missing("loopback has no IPv4 address".into())),
        };
        let shared = Arc::new(Shared::default());
        let turn = Loop { shared: Arc::clone(&shared), fan_out: FanOut::new(), version: 0 };
        let thread = std::thread::Builder::new().name(THREAD.into()).spawn(move || {
            pin_to_core(core).map_err(io::Error::other)?;
            turn.run(method, sockets)
        });
        let thread = thread.map_err(|error| SubjectError::Generator(error.into()))?;
        Ok(Self { method, address, shared, rooms: HashMap::new(), thread: Some(thread) })
    }
}

impl Subject for Bare {
    fn name(&self) -> &str {
        self.method.name()
    }

    fn join(&mut self, world: &mut World, client: ClientId, room: usize) -> Result<(), SubjectError> {
        if Method::SEALED.contains(&self.method) {
            world.set_plain(client, self.address, &sealed::keys(client))?;
            let member = Member { client, address: world.clients()[client].address, room };
            self.shared.members.lock().unwrap_or_else(PoisonError::into_inner).push(member);
            self.shared.version.fetch_add(1, Ordering::Release);
            return Ok(());
        }
        world.set_plain(client, self.address, &keys())?;
        let members = self.rooms.entry(room).or_default();
        members.push((world.clients()[client].address, !world.streams_of(client).is_empty()));
        let mut fan_out = self.shared.fan_out.lock().unwrap_or_else(PoisonError::into_inner);
        for (sender, _) in members.iter().filter(|(_, publishes)| *publishes) {
            let others = members.iter().map(|(address, _)| *address).filter(|address| address != sender);
            fan_out.insert(*sender, others.collect());
        }
        self.shared.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn poll(&mut self, _now: Instant) -> Result<(), SubjectError> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(thread) = self.thread.take()
        {
            let what = match thread.join() {
                Ok(Ok(())) => "ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "panicked".to_owned(),
            };
            return Err(SubjectError::Peer { name: self.method.name().to_owned(), what });
        }
        Ok(())
    }

    fn cpu(&self) -> Result<CpuTime, SubjectError> {
        cpu::of_process(std::process::id(), THREAD).map_err(SubjectError::Cpu)
    }

    fn counters(&self) -> Option<OwnCounters> {
        None
    }

    fn resident(&self) -> Result<u64, SubjectError> {
        cpu::resident(std::process::id()).map_err(SubjectError::Cpu)
    }

    fn translates(&self) -> bool {
        false
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Loop {
    shared: Arc<Shared>,
    fan_out: FanOut,
    version: u64,
}

impl Loop {
    fn run(mut self, method: Method, mut sockets: Vec<UdpSocket>) -> io::Result<()> {
        let failed = io::Error::other::<ringbridge_dataplane::io::IoError>;
        let wake = EventFd::new().map_err(failed)?;
        let (limits, stats) = (IoLimits::default(), Arc::default());
        match method {
            Method::Mmsg => self.over(Mmsg::new(sockets, wake, limits, stats).map_err(failed)?),
            Method::Uring => self.over(Uring::new(sockets, wake, limits, stats).map_err(failed)?),
            Method::SealedMmsg => {
                let io = Mmsg::new(sockets, wake, limits, stats).map_err(failed)?;
                sealed::over(io, |table| self.refresh_table(table))
            }
            Method::SealedUring => {
                let io = Uring::new(sockets, wake, limits, stats).map_err(failed)?;
                sealed::over(io, |table| self.refresh_table(table))
            }
            Method::Sealed => sealed::direct(&sockets.remove(0), |table| self.refresh_table(table)),
            Method::Echo => self.echo(&sockets.remove(0)),
            _ => self.direct(method, &sockets.remove(0)),
        }
    }

    /// Whether to go on; takes over a changed fan-out.
    fn refresh(&mut self) -> bool {
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.fan_out.clone_from(&self.shared.fan_out.lock().unwrap_or_else(PoisonError::into_inner));
        }
        !self.shared.stop.load(Ordering::Acquire)
    }

    /// The same for the methods that seal.
    fn refresh_table(&mut self, table: &mut Table) -> bool {
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            *table = Table::of(&self.shared.members.lock().unwrap_or_else(PoisonError::into_inner));
        }
        !self.shared.stop.load(Ordering::Acquire)
    }

    fn over(&mut self, mut io: impl PacketIo) -> io::Result<()> {
        while self.refresh() {
            let received = io.receive(Duration::from_millis(10))?;
            let (batch, tx) = io.parts();
            for i in 0..received {
                let Some(datagram) = batch.get(i) else { continue };
                let SocketAddr::V4(from) = datagram.path.remote else { continue };
                for to in self.fan_out.get(&from).map(Vec::as_slice).unwrap_or_default() {
                    let Some(slot) = tx.slot() else { continue };
                    slot[..datagram.data.len()].copy_from_slice(datagram.data);
                    tx.commit(datagram.data.len(), Path { local: 0, remote: SocketAddr::V4(*to) });
                }
            }
            tx.flush()?;
        }
        Ok(())
    }

    fn echo(&mut self, socket: &UdpSocket) -> io::Result<()> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(Duration::from_millis(10)))?;
        let mut buffer = [0; PACKET];
        while self.refresh() {
            if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..len], from);
            }
        }
        Ok(())
    }

    fn direct(&mut self, method: Method, socket: &UdpSocket) -> io::Result<()> {
        socket.set_nonblocking(false)?;
        // The wait and the batch are one system call: it returns with what lies there after the first packet.
        socket.set_read_timeout(Some(Duration::from_millis(10)))?;
        let mut headers: MultiHeaders<SockaddrIn> = MultiHeaders::preallocate(BATCH, None);
        let mut many: MultiHeaders<SockaddrIn> = MultiHeaders::preallocate(1024, None);
        let mut buffers = vec![0u8; BATCH * PACKET];
        let mut connected: HashMap<SocketAddrV4, UdpSocket> = HashMap::new();
        let mut batch: Vec<(SocketAddrV4, usize, usize)> = Vec::with_capacity(BATCH);
        while self.refresh() {
            batch.clear();
            {
                let mut parts = buffers.chunks_exact_mut(PACKET);
                let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
                    std::array::from_fn(|_| [IoSliceMut::new(parts.next().unwrap_or_default())]);
                let flags = MsgFlags::MSG_WAITFORONE;
                match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None) {
                    Ok(messages) => batch.extend(
                        messages
                            .enumerate()
                            .filter_map(|(i, message)| Some((SocketAddrV4::from(message.address?), i, message.bytes))),
                    ),
                    Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let bytes = |(_, i, len): &(SocketAddrV4, usize, usize)| &buffers[i * PACKET..i * PACKET + len];
            let mut rest = &batch[..];
            // Runs of one sender share their destinations.
            while let Some((from, ..)) = rest.first() {
                let run = rest.iter().take_while(|(other, ..)| other == from).count();
                let (packets, later) = rest.split_at(run);
                rest = later;
                let to = self.fan_out.get(from).map(Vec::as_slice).unwrap_or_default();
                match method {
                    Method::Sendmmsg => {
                        for packet in packets {
                            let slices = vec![[IoSlice::new(bytes(packet))]; to.len()];
                            let addresses: Vec<_> = to.iter().map(|to| Some(SockaddrIn::from(*to))).collect();
                            let no_control: [ControlMessage<'_>; 0] = [];
                            let _ = sendmmsg(
                                socket.as_raw_fd(),
                                &mut many,
                                &slices,
                                addresses,
                                no_control,
                                MsgFlags::MSG_DONTWAIT,
                            );
                        }
                    }
                    Method::Sendmsg => {
                        for packet in packets {
                            for to in to {
                                send(socket, &[IoSlice::new(bytes(packet))], None, Some(*to));
                            }
                        }
                    }
                    _ => {
                        for to in to {
                            let (socket, address) = if method == Method::GsoConnected {
                                (connect(&mut connected, socket, *to)?, None)
                            } else {
                                (socket, Some(*to))
                            };
                            segments(packets, |run| {
                                let slices: Vec<_> = run.iter().map(|packet| IoSlice::new(bytes(packet))).collect();
                                let segment = (run.len() > 1).then(|| run[0].2 as u16);
                                send(socket, &slices, segment, address);
                            });
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Cuts packets into runs that the kernel takes as one message: equal sizes, the last may be shorter.
pub(super) fn segments(
    packets: &[(SocketAddrV4, usize, usize)],
    mut each: impl FnMut(&[(SocketAddrV4, usize, usize)]),
) {
    let mut start = 0;
    for i in 1..=packets.len() {
        let closed = i == packets.len()
            || packets[i].2 > packets[start].2
            || packets[i - 1].2 < packets[start].2
            || i - start == SEGMENTS.min(65_000 / packets[start].2.max(1));
        if closed {
            each(&packets[start..i]);
            start = i;
        }
    }
}

/// A full socket loses the packet, as in the bridge.
pub(super) fn send(socket: &UdpSocket, slices: &[IoSlice<'_>], segment: Option<u16>, to: Option<SocketAddrV4>) {
    let to = to.map(SockaddrIn::from);
    let gso = segment.as_ref().map(ControlMessage::UdpGsoSegments);
    let _ = sendmsg(socket.as_raw_fd(), slices, gso.as_slice(), MsgFlags::MSG_DONTWAIT, to.as_ref());
}

fn connect<'a>(
    connected: &'a mut HashMap<SocketAddrV4, UdpSocket>,
    shared: &UdpSocket,
    to: SocketAddrV4,
) -> io::Result<&'a UdpSocket> {
    use std::collections::hash_map::Entry;
    match connected.entry(to) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => {
            let socket = UdpSocket::from(socket2(shared)?);
            setsockopt(&socket, sockopt::SndBuf, &(4 << 20))?;
            socket.connect(to)?;
            Ok(entry.insert(socket))
        }
    }
}

/// A socket on the same port as another.
fn socket2(shared: &UdpSocket) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&shared.local_addr()?.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_gso_ends() {
        let packet = |len| (SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1), 0, len);
        let runs = |sizes: &[usize]| {
            let packets: Vec<_> = sizes.iter().map(|len| packet(*len)).collect();
            let mut runs = Vec::new();
            segments(&packets, |run| runs.push(run.iter().map(|p| p.2).collect::<Vec<_>>()));
            runs
        };
        assert_eq!(runs(&[100, 100, 60, 100, 120]), [vec![100, 100, 60], vec![100], vec![120]]);
        assert_eq!(runs(&[1200; 60]).iter().map(Vec::len).collect::<Vec<_>>(), [54, 6]);
        assert_eq!(runs(&[]), Vec::<Vec<usize>>::new());
    }
}
