//! Receiving, queueing and flushing allocate nothing once the backend exists.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ringbridge_dataplane::io::{
    EventFd, Flush, IoChoice, IoError, IoExtras, IoLimits, Mmsg, PacketIo, PacketSink, RelayPorts, SocketOptions,
    SocketPool, Uring, bind_sockets, probe,
};
use ringbridge_dataplane::stats::WorkerStats;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Constructor<T> = fn(Vec<UdpSocket>, EventFd, IoLimits, Arc<WorkerStats>) -> Result<T, IoError>;

/// Echoes mixed sizes of several peers, with wake-ups, oversized and unsendable datagrams among them.
fn steady_state_allocates_nothing<T: PacketIo>(new: Constructor<T>) {
    let sockets = bind_sockets(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, &SocketOptions::default()).unwrap();
    let address = sockets[0].local_addr().unwrap();
    let wake = EventFd::new().unwrap();
    // Small limits: running into them must not allocate either.
    let limits = IoLimits { rx_buffers: 16, tx_slots: 32, batch: 8, offload: true, ..IoLimits::default() };
    let mut io = new(sockets, wake.clone(), limits, Arc::default()).unwrap();
    // And some sockets of their own.
    let mut handed = RelayPorts::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], None, SocketOptions::default());
    let mut addresses = vec![address];
    for _ in 0..3 {
        let socket = handed.bind().unwrap().remove(0);
        addresses.push(socket.address());
        io.parts().1.open(socket).unwrap();
    }
    let peers: Vec<_> = (0..5).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let payload = [7; 1600];
    let mut echoed = 0;
    let before = ALLOCATIONS.with(Cell::get);
    for round in 0..200 {
        for (i, peer) in peers.iter().enumerate() {
            for k in 0..20 {
                let len = if (round + k) % 7 == 0 { 100 + i * 50 + k } else { 1200 };
                peer.send_to(&payload[..len], addresses[(i + k) % addresses.len()]).unwrap();
            }
        }
        peers[0].send_to(&payload, address).unwrap();
        wake.notify();
        loop {
            io.coalesce(Duration::from_micros(20)).unwrap();
            let received = io.receive(Duration::from_millis(1)).unwrap();
            let (batch, tx) = io.parts();
            for i in 0..received {
                let datagram = batch.get(i).unwrap();
                let mut path = datagram.path;
                tx.slot().unwrap()[..datagram.data.len()].copy_from_slice(datagram.data);
                if i == 3 {
                    path.remote.set_port(0);
                }
                tx.commit(datagram.data.len(), path);
            }
            tx.flush().unwrap();
            echoed += received;
            if received == 0 && io.receive(Duration::from_millis(1)).unwrap() == 0 {
                break;
            }
        }
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert!(echoed > 10_000, "{echoed}");
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 1);
}

#[test]
fn mmsg() {
    steady_state_allocates_nothing(Mmsg::new);
}

#[test]
fn uring() {
    match probe(IoChoice::Uring, IoExtras::default()) {
        Ok(_) => steady_state_allocates_nothing(Uring::new),
        Err(error) => eprintln!("skipped: {error}"),
    }
}
