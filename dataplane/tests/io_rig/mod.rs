//! A backend between sockets of the test's own, and tests that run on each.

// Not every test needs all of it.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::io::{
    EventFd, Flush, IoChoice, IoError, IoExtras, IoLimits, PacketIo, PacketSink, Path, SocketOptions, Uring,
    bind_sockets, probe,
};
use ringbridge_dataplane::stats::WorkerStats;

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// Longer than any wait that is expected to end early; shorter than a patient person.
pub const LONG: Duration = Duration::from_secs(5);

pub type Constructor<T> = fn(Vec<UdpSocket>, EventFd, IoLimits, Arc<WorkerStats>) -> Result<T, IoError>;

/// A backend under test, with everything around it.
pub struct Rig<T> {
    pub io: T,
    pub addresses: Vec<SocketAddr>,
    pub wake: EventFd,
    pub stats: Arc<WorkerStats>,
}

impl<T: PacketIo> Rig<T> {
    pub fn new(new: Constructor<T>, addresses: &[IpAddr], limits: IoLimits) -> Self {
        let sockets = bind_sockets(addresses, 0, &SocketOptions::default()).unwrap();
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let (wake, stats) = (EventFd::new().unwrap(), Arc::new(WorkerStats::default()));
        Self { io: new(sockets, wake.clone(), limits, stats.clone()).unwrap(), addresses, wake, stats }
    }

    pub fn simple(new: Constructor<T>) -> Self {
        Self::new(new, &[V4], IoLimits::default())
    }

    pub fn send(&mut self, path: Path, data: &[u8]) {
        let (_, tx) = self.io.parts();
        tx.slot().expect("a free slot")[..data.len()].copy_from_slice(data);
        tx.commit(data.len(), path);
    }

    pub fn flush(&mut self) {
        self.io.parts().1.flush().unwrap();
    }

    /// Receives until `count` datagrams are there; fails when they do not come.
    pub fn collect(&mut self, count: usize) -> Vec<(Path, Vec<u8>)> {
        let deadline = Instant::now() + LONG;
        let mut all = Vec::new();
        while all.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} datagrams came", all.len());
            let received = self.io.receive(Duration::from_millis(100)).unwrap();
            let (batch, _) = self.io.parts();
            assert_eq!(batch.len(), received);
            all.extend((0..received).map(|i| {
                let datagram = batch.get(i).unwrap();
                (datagram.path, datagram.data.to_vec())
            }));
            assert!(batch.get(received).is_none());
        }
        assert_eq!(all.len(), count);
        all
    }

    /// Sends back everything that comes until `count` datagrams are echoed.
    pub fn echo(&mut self, count: usize) {
        let deadline = Instant::now() + LONG;
        let mut echoed = 0;
        while echoed < count {
            assert!(Instant::now() < deadline, "{echoed} of {count} datagrams came");
            let received = self.io.receive(Duration::from_millis(100)).unwrap();
            let (batch, tx) = self.io.parts();
            for i in 0..received {
                let datagram = batch.get(i).unwrap();
                tx.slot().unwrap()[..datagram.data.len()].copy_from_slice(datagram.data);
                tx.commit(datagram.data.len(), datagram.path);
            }
            tx.flush().unwrap();
            echoed += received;
        }
    }
}

pub fn peer() -> (UdpSocket, SocketAddr) {
    peer_at(V4)
}

pub fn peer_at(ip: IpAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    // The default one does not hold what these tests send at once.
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

pub fn read(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 4096];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => return (buffer[..len].to_vec(), from),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("no datagram: {error}"),
        }
    }
}

/// Recognisable bytes.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + seed * 31) as u8).collect()
}

/// Whether io_uring can be tested here.
pub fn uring_allowed() -> bool {
    match probe(IoChoice::Uring, IoExtras::default()) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("skipped: {error}");
            false
        }
    }
}

pub fn zero_copy(
    sockets: Vec<UdpSocket>,
    wake: EventFd,
    limits: IoLimits,
    stats: Arc<WorkerStats>,
) -> Result<Uring, IoError> {
    let extras = IoExtras { zero_copy: true, ..limits.extras };
    Uring::new(sockets, wake, IoLimits { extras, ..limits }, stats)
}

pub fn sqpoll(
    sockets: Vec<UdpSocket>,
    wake: EventFd,
    limits: IoLimits,
    stats: Arc<WorkerStats>,
) -> Result<Uring, IoError> {
    let extras = IoExtras { sqpoll: true, ..limits.extras };
    Uring::new(sockets, wake, IoLimits { extras, ..limits }, stats)
}

/// Whether the kernel has what a constructor asks for.
pub fn allowed<T: PacketIo>(new: Constructor<T>) -> bool {
    let sockets = bind_sockets(&[V4], 0, &SocketOptions::default()).unwrap();
    let made = new(sockets, EventFd::new().unwrap(), IoLimits::default(), Arc::default());
    made.inspect_err(|error| eprintln!("skipped: {error}")).is_ok()
}

pub fn v6_allowed() -> bool {
    let allowed = UdpSocket::bind((V6, 0)).is_ok();
    if !allowed {
        eprintln!("skipped: this host has no IPv6 loopback");
    }
    allowed
}

/// Each of these tests on every backend.
macro_rules! on_both_backends {
    ($($name:ident),* $(,)?) => {
        mod mmsg { $(#[test] fn $name() { super::$name(super::Mmsg::new) })* }
        mod uring { $(#[test] fn $name() { if super::uring_allowed() { super::$name(super::Uring::new) } })* }
        mod uring_with_zero_copy {
            $(#[test] fn $name() { if super::allowed(super::zero_copy) { super::$name(super::zero_copy) } })*
        }
        mod uring_with_sqpoll {
            $(#[test] fn $name() { if super::allowed(super::sqpoll) { super::$name(super::sqpoll) } })*
        }
    };
}
