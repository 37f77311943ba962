//! What can go wrong while the I/O of a worker is set up.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// An error of the set-up: names the thing, the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// Another socket has the port.
    #[error("UDP port {} of {} is taken by another process; stop it, or choose another one with --port", .0.port(), .0.ip())]
    PortTaken(SocketAddr),
    /// The address is not one of this host.
    #[error("{0} is no address of this host; give one that `ip address` lists, or 0.0.0.0 for all")]
    AddressUnknown(IpAddr),
    /// Ports below 1024 need a privilege.
    #[error("UDP port {} of {} may not be bound by this user; grant CAP_NET_BIND_SERVICE or choose a --port above 1023", .0.port(), .0.ip())]
    PortForbidden(SocketAddr),
    /// Any other failure of a socket.
    #[error("cannot set up the UDP socket {address}: {step}: {source}")]
    Socket {
        /// Local address.
        address: SocketAddr,
        /// What failed.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// More sockets than a path can name, or none.
    #[error("{0} local addresses given; a worker takes 1 to 64")]
    SocketCount(usize),
    /// The core is not one that this process may use.
    #[error(
        "cannot pin a worker to core {core}: {source}; this process may use cores {allowed:?}, choose from them with --cores"
    )]
    Core {
        /// The core asked for.
        core: usize,
        /// What is allowed.
        allowed: Vec<usize>,
        /// Why.
        source: io::Error,
    },
    /// io_uring is needed but does not work here.
    #[error("io_uring cannot be used: {step}: {source}; {}", uring_remedy(source))]
    Uring {
        /// What failed.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not take the steering program.
    #[error("cannot steer packets to their workers: {step}: {source}; {}", steering_remedy(source))]
    Steering {
        /// What failed.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Asked for with mmsg.
    #[error("I/O option {0} is one of io_uring; add --io uring, or leave it out")]
    NeedsUring(&'static str),
    /// The kernel does not busy-poll.
    #[error(
        "cannot poll the network card busily: {0}; it needs CAP_NET_ADMIN, with io_uring Linux 6.9; leave out the I/O option busy-poll"
    )]
    BusyPoll(io::Error),
    /// A limit is out of range.
    #[error("{name} is {value}; it must be between {min} and {max}")]
    Limit {
        /// Which limit.
        name: &'static str,
        /// Its value.
        value: usize,
        /// Smallest.
        min: usize,
        /// Largest.
        max: usize,
    },
    /// Memory or descriptors.
    #[error("cannot allocate {what}: {source}; raise the memory or descriptor limit of this process")]
    Allocate {
        /// What for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn steering_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) | Some(libc::EACCES) => {
            "grant CAP_BPF (AmbientCapabilities=CAP_BPF in the unit); until then workers hand packets to each other"
        }
        _ => "workers hand packets to each other instead",
    }
}

fn uring_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) | Some(libc::EACCES) => {
            "allow it (sysctl kernel.io_uring_disabled=0, the container's seccomp profile) or use --io mmsg"
        }
        Some(libc::ENOSYS) => "this kernel or sandbox has none; use --io mmsg",
        Some(libc::EINVAL) => "it needs Linux 6.0 or later; use --io mmsg",
        Some(libc::ENOMEM) => "raise the locked-memory limit (ulimit -l) or use --io mmsg",
        _ => "use --io mmsg",
    }
}
