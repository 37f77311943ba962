//! The UDP sockets of one worker.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::IoError;
use super::sockets::MAX_SHARED;

/// How sockets are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Wanted kernel receive buffer, bytes.
    pub receive_buffer: usize,
    /// Wanted kernel send buffer, bytes.
    pub send_buffer: usize,
    /// Whether the port must be free. True for the first worker of a process: sockets share the port between
    /// workers (`SO_REUSEPORT`), which would also share it silently with another bridge of the same user.
    pub check_port_free: bool,
}

impl Default for SocketOptions {
    /// 4 MiB each way, port checked.
    fn default() -> Self {
        Self { receive_buffer: 4 << 20, send_buffer: 4 << 20, check_port_free: true }
    }
}

/// Binds one socket per address, all on one port, shared with the other workers; the index in the result is
/// [`super::Path::local`]. Port 0 takes one that is free on all addresses.
pub fn bind_sockets(addresses: &[IpAddr], port: u16, options: &SocketOptions) -> Result<Vec<UdpSocket>, IoError> {
    /// A port that is free on the first address may be taken on the next, or by the time that it is bound again.
    const ATTEMPTS: usize = 16;
    if addresses.is_empty() || addresses.len() > MAX_SHARED {
        return Err(IoError::SocketCount(addresses.len()));
    }
    if port != 0 {
        if options.check_port_free {
            hold(addresses, port)?;
        }
        return share(addresses, port, options);
    }
    let attempt = || share(addresses, hold(addresses, 0)?, options);
    let mut result = attempt();
    for _ in 1..ATTEMPTS {
        if !matches!(result, Err(IoError::PortTaken(_))) {
            break;
        }
        result = attempt();
    }
    result
}

/// The port, or the one that the kernel chose for 0, once it was held on every address by this socket alone: where
/// sockets may share, the kernel also gives out for 0 what another bridge of the same user has (`SO_REUSEPORT`).
fn hold(addresses: &[IpAddr], mut port: u16) -> Result<u16, IoError> {
    let mut held = Vec::with_capacity(addresses.len());
    for &ip in addresses {
        let address = SocketAddr::new(ip, port);
        let socket = open(address)?;
        socket.bind(&address.into()).map_err(|source| bind_error(address, source))?;
        let socket = UdpSocket::from(socket);
        port = socket.local_addr().map_err(|source| IoError::Socket { address, step: "getsockname", source })?.port();
        held.push(socket);
    }
    Ok(port)
}

/// Binds the port on every address so that other workers may bind it too.
fn share(addresses: &[IpAddr], port: u16, options: &SocketOptions) -> Result<Vec<UdpSocket>, IoError> {
    let mut sockets = Vec::with_capacity(addresses.len());
    for &ip in addresses {
        let address = SocketAddr::new(ip, port);
        let failed = |step| move |source| IoError::Socket { address, step, source };
        let socket = open(address)?;
        socket.set_reuse_port(true).map_err(failed("SO_REUSEPORT"))?;
        socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
        warn_of_small_buffers(address, options, grow_buffers(&socket, options));
        socket.bind(&address.into()).map_err(|source| bind_error(address, source))?;
        sockets.push(UdpSocket::from(socket));
    }
    Ok(sockets)
}

/// Binds a socket like the shared ones, whose port is shared with nobody.
pub(super) fn bind_alone(address: SocketAddr, options: &SocketOptions) -> Result<UdpSocket, IoError> {
    let socket = open(address)?;
    socket.set_nonblocking(true).map_err(|source| IoError::Socket { address, step: "O_NONBLOCK", source })?;
    // That they are smaller than wanted was said when the shared ones were bound.
    grow_buffers(&socket, options);
    socket.bind(&address.into()).map_err(|source| bind_error(address, source))?;
    Ok(UdpSocket::from(socket))
}

fn open(address: SocketAddr) -> Result<Socket, IoError> {
    let failed = |step| move |source| IoError::Socket { address, step, source };
    let socket =
        Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(failed("socket"))?;
    if address.is_ipv6() {
        // IPv4 has sockets of its own, so that a path says which address a packet really used.
        socket.set_only_v6(true).map_err(failed("IPV6_V6ONLY"))?;
    }
    Ok(socket)
}

/// `setsockopt` of an int.
pub(super) fn set_option(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the value pointer is valid for reads of the size given.
    let result =
        unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), size_of::<libc::c_int>() as u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn bind_error(address: SocketAddr, source: io::Error) -> IoError {
    match source.kind() {
        io::ErrorKind::AddrInUse => IoError::PortTaken(address),
        io::ErrorKind::AddrNotAvailable => IoError::AddressUnknown(address.ip()),
        io::ErrorKind::PermissionDenied => IoError::PortForbidden(address),
        _ => IoError::Socket { address, step: "bind", source },
    }
}

/// Asks for large buffers, and returns the bytes of those for receiving and for sending that the kernel gave: it silently gives less
/// than asked for.
fn grow_buffers(socket: &Socket, options: &SocketOptions) -> (usize, usize) {
    let _ = socket.set_recv_buffer_size(options.receive_buffer);
    let _ = socket.set_send_buffer_size(options.send_buffer);
    // Linux doubles the number for its own bookkeeping and reports the doubled one.
    (socket.recv_buffer_size().unwrap_or(0) / 2, socket.send_buffer_size().unwrap_or(0) / 2)
}

fn warn_of_small_buffers(address: SocketAddr, options: &SocketOptions, (receive, send): (usize, usize)) {
    if receive < options.receive_buffer {
        tracing::warn!(
            %address, wanted = options.receive_buffer, got = receive,
            "UDP receive buffer is smaller than wanted: bursts may be lost; raise sysctl net.core.rmem_max"
        );
    }
    if send < options.send_buffer {
        tracing::warn!(
            %address, wanted = options.send_buffer, got = send,
            "UDP send buffer is smaller than wanted: bursts may be lost; raise sysctl net.core.wmem_max"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn workers_share_a_port_but_a_second_bridge_does_not() {
        let first = bind_sockets(&[LOOPBACK], 0, &SocketOptions::default()).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let next = SocketOptions { check_port_free: false, ..Default::default() };
        let second = bind_sockets(&[LOOPBACK], port, &next).unwrap();
        assert_eq!(second[0].local_addr().unwrap().port(), port);
        let error = bind_sockets(&[LOOPBACK], port, &SocketOptions::default()).unwrap_err();
        assert!(matches!(error, IoError::PortTaken(address) if address.port() == port));
        let text = error.to_string();
        assert!(text.contains(&port.to_string()) && text.contains("127.0.0.1"), "{text}");
    }

    #[test]
    fn a_port_that_the_kernel_chooses_is_shared_with_nobody() {
        // Of the 14,000 or so that it chooses among first, this many would have had some in common.
        let bind = |_| {
            bind_sockets(
                &[LOOPBACK],
                0,
                &SocketOptions { receive_buffer: 4096, send_buffer: 4096, check_port_free: true },
            )
        };
        let held: Vec<_> = (0..600).map(|n| bind(n).unwrap()).collect();
        let ports: std::collections::HashSet<u16> =
            held.iter().map(|set| set[0].local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), held.len());
    }

    #[test]
    fn bad_addresses_are_named() {
        let error = bind_sockets(&["192.0.2.1".parse().unwrap()], 0, &SocketOptions::default()).unwrap_err();
        assert!(matches!(error, IoError::AddressUnknown(ip) if ip.to_string() == "192.0.2.1"), "{error}");
        assert!(matches!(bind_sockets(&[], 0, &SocketOptions::default()), Err(IoError::SocketCount(0))));
        assert!(matches!(bind_sockets(&[LOOPBACK; 65], 0, &SocketOptions::default()), Err(IoError::SocketCount(65))));
    }

    #[test]
    fn several_addresses_get_one_port() {
        let addresses = [LOOPBACK, "127.0.0.2".parse().unwrap()];
        let sockets = bind_sockets(&addresses, 0, &SocketOptions::default()).unwrap();
        assert_eq!(sockets.len(), 2);
        assert_eq!(sockets[0].local_addr().unwrap().port(), sockets[1].local_addr().unwrap().port());
        assert_eq!(sockets[1].local_addr().unwrap().ip(), addresses[1]);
    }
}
