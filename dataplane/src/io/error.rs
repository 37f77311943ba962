//! What can go wrong while the I/O of a worker is set up.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// An error of the set-up: names the thing, the value, and what the host lacks. What a program offers against it, such as
/// another port, its caller knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// Another socket has the port.
    #[error("UDP port {} of {} is taken by another process", .0.port(), .0.ip())]
    PortTaken(SocketAddr),
    /// The address is not one of this host.
    #[error("{0} is not an address of this host")]
    AddressUnknown(IpAddr),
    /// Ports below 1024 need a privilege.
    #[error("UDP port {} of {} may not be bound by this user: it takes CAP_NET_BIND_SERVICE", .0.port(), .0.ip())]
    PortForbidden(SocketAddr),
    /// Any other failure of a socket.
    #[error("cannot set up the UDP socket {address}: {step}: {source}")]
    Socket {
        /// Local address.
        address: SocketAddr,
        /// The step that failed.
        step: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// More sockets than a path can name, or none.
    #[error("{0} local addresses given; a worker takes 1 to 64")]
    SocketCount(usize),
    /// A worker has been handed as many sockets as it takes.
    #[error("the worker has {0} sockets of relays, as many as it takes")]
    HandedSockets(usize),
    /// Every port of a range is taken.
    #[error("all UDP ports from {first} to {last} of {ip} are taken: widen the range")]
    PortsTaken {
        /// Local address.
        ip: IpAddr,
        /// The first port of the range.
        first: u16,
        /// The last one.
        last: u16,
    },
    /// The core is not one that this process may use.
    #[error("cannot pin a worker to core {core}: {source}; this process may use cores {allowed:?}")]
    Core {
        /// The core asked for.
        core: usize,
        /// What is allowed.
        allowed: Vec<usize>,
        /// The error of the operating system.
        source: io::Error,
    },
    /// io_uring is needed but does not work here.
    #[error("io_uring cannot be used: {step}: {source}{}", UringFault::of(source).cause())]
    Uring {
        /// The step that failed.
        step: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The kernel does not take the steering program.
    #[error(
        "cannot steer packets to their workers: {step}: {source}{}; {}",
        last_lines(log),
        steering_remedy(source, log)
    )]
    Steering {
        /// The step that failed.
        step: &'static str,
        /// The error of the operating system.
        source: io::Error,
        /// What the kernel's verifier said of the program; empty where it was not asked.
        log: String,
    },
    /// Asked for with mmsg.
    #[error("I/O option {0} exists with io_uring only")]
    NeedsUring(&'static str),
    /// The kernel does not busy-poll.
    #[error(
        "busy polling of the network card cannot be enabled: {0}; it needs CAP_NET_ADMIN, and with io_uring Linux 6.9"
    )]
    BusyPoll(io::Error),
    /// A limit is out of range.
    #[error("{name} is {value}; it must be between {min} and {max}")]
    Limit {
        /// Name of the limit.
        name: &'static str,
        /// The value that was given.
        value: usize,
        /// The smallest that is allowed.
        min: usize,
        /// The largest that is allowed.
        max: usize,
    },
    /// Memory or descriptors.
    #[error("cannot allocate {what}: {source}; raise the memory or descriptor limit of this process")]
    Allocate {
        /// What the memory was for.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

fn steering_remedy(source: &io::Error, log: &str) -> &'static str {
    match source.raw_os_error() {
        // The verifier refuses with EACCES, too.
        Some(libc::EPERM | libc::EACCES) if log.is_empty() => {
            "grant CAP_BPF (AmbientCapabilities=CAP_BPF in the unit); until then workers hand packets to each other"
        }
        _ => "workers hand packets to each other instead",
    }
}

/// Lines of the verifier's log that go into an error's text: what is wrong stands at the end.
const LOG_LINES: usize = 4;

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    if last.is_empty() { String::new() } else { format!(" (the verifier: {})", last.join(" | ")) }
}

/// Why io_uring does not work on a host, as far as the error shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UringFault {
    /// Forbidden by `kernel.io_uring_disabled`, or by a container's seccomp profile.
    Forbidden,
    /// This kernel or sandbox has none.
    Missing,
    /// This kernel's lacks what is used of it.
    TooOld,
    /// The limit of locked memory is too low.
    LockedMemory,
    /// Something else.
    Other,
}

impl UringFault {
    /// What an error of io_uring means.
    pub fn of(source: &io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) | Some(libc::EACCES) => Self::Forbidden,
            Some(libc::ENOSYS) => Self::Missing,
            Some(libc::EINVAL) => Self::TooOld,
            Some(libc::ENOMEM) => Self::LockedMemory,
            _ => Self::Other,
        }
    }

    /// To be appended to the error.
    fn cause(self) -> &'static str {
        match self {
            Self::Forbidden => "; sysctl kernel.io_uring_disabled or a seccomp profile forbids it",
            Self::Missing => "; this kernel or sandbox has none",
            Self::TooOld => "; it needs Linux 6.0 or later",
            Self::LockedMemory => "; the locked-memory limit (ulimit -l) is too low",
            Self::Other => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_told() {
        let error = |log: &str| IoError::Steering {
            step: "loading the program",
            source: io::Error::from_raw_os_error(libc::EACCES),
            log: log.to_owned(),
        };
        let text = error("0: R1=ctx()\n\n1: a\n2: b\n3: (bf) r0 = r5\nR5 !read_ok\n").to_string();
        assert!(text.contains("(the verifier: 1: a | 2: b | 3: (bf) r0 = r5 | R5 !read_ok)"), "{text}");
        assert!(!text.contains("CAP_BPF"), "{text}");
        let forbidden = error("").to_string();
        assert!(forbidden.contains("grant CAP_BPF") && !forbidden.contains("verifier"), "{forbidden}");
    }
}
