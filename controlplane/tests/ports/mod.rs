//! Ports on which a test has a program listen.

#![allow(dead_code)] // Each test binary uses its own part of it.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Above the usual ones of bridges, and below those that the kernel gives to sockets without one, which a connection of another test could
/// take meanwhile.
const PORTS: Range<u32> = 12_000..32_000;

/// A port that was free a moment ago, over TCP and UDP; not one that this process or one begun shortly before or after it got already.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let free =
        |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    PORTS
        .map(|_| std::process::id().wrapping_mul(100).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)))
        .map(|number| (PORTS.start + number % PORTS.len() as u32) as u16)
        .find(free)
        .expect("a free loopback port")
}

/// The same on loopback.
pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
