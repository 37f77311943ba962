//! What an operator can do when the media workers do not start. The data plane reports what is wrong; flags are known here.

use ringbridge_dataplane::StartError;
use ringbridge_dataplane::io::{IoError, UringFault};

/// To be appended to the error; empty where the error says all there is to say.
pub(super) fn of_start(error: &StartError) -> &'static str {
    match error {
        StartError::Workers(_) => "; choose another number with --workers",
        StartError::Cores { .. } => "; give one core per worker with --cores, or none",
        StartError::Io(error) => of_io(error),
        _ => "",
    }
}

fn of_io(error: &IoError) -> &'static str {
    match error {
        IoError::PortTaken(_) => "; stop it, or choose another one with --port",
        IoError::AddressUnknown(_) => "; give one that `ip address` lists, or 0.0.0.0 for all, with --local-address",
        IoError::PortForbidden(_) => "; grant it, or choose a --port above 1023",
        IoError::SocketCount(_) => "; choose with --local-address",
        IoError::Core { .. } => "; choose from them with --cores",
        IoError::NeedsUring(_) => "; add --io uring, or leave it out of --io-options",
        IoError::BusyPoll(_) => "; leave busy-poll out of --io-options",
        IoError::Uring { source, .. } => match UringFault::of(source) {
            UringFault::Forbidden => {
                "; allow it (sysctl kernel.io_uring_disabled=0, the container's seccomp profile) or use --io mmsg"
            }
            UringFault::LockedMemory => "; raise it, or use --io mmsg",
            _ => "; use --io mmsg",
        },
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use super::super::BridgeError;
    use super::*;
    use crate::config::keys::KEYS;

    #[test]
    fn errors_of_the_start_name_the_flags_that_help() {
        let address: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let from_errno = io::Error::from_raw_os_error;
        let uring = |errno| IoError::Uring { step: "creating a ring", source: from_errno(errno) }.into();
        let cases: [(StartError, &[&str]); 12] = [
            (StartError::Workers(99), &["99 workers", "--workers"]),
            (StartError::Cores { workers: 3, cores: 2 }, &["3 workers", "2 cores", "--cores, or none"]),
            (IoError::PortTaken(address).into(), &["UDP port 80 of 192.0.2.1 is taken", "; stop it, or", "--port"]),
            (IoError::AddressUnknown(address.ip()).into(), &["192.0.2.1 is not an address", "`ip address`", "0.0.0.0"]),
            (IoError::PortForbidden(address).into(), &["UDP port 80", "CAP_NET_BIND_SERVICE", "--port above 1023"]),
            (IoError::SocketCount(65).into(), &["65 local addresses", "--local-address"]),
            (
                IoError::Core { core: 9, allowed: vec![1, 2], source: from_errno(22) }.into(),
                &["core 9", "[1, 2]", "choose from them with --cores"],
            ),
            (IoError::NeedsUring("sqpoll").into(), &["sqpoll", "--io uring", "--io-options"]),
            (IoError::BusyPoll(from_errno(1)).into(), &["CAP_NET_ADMIN", "leave busy-poll out of --io-options"]),
            (uring(1), &["creating a ring", "seccomp", "kernel.io_uring_disabled=0", "--io mmsg"]),
            (uring(38), &["this kernel or sandbox has none", "--io mmsg"]),
            (uring(12), &["ulimit -l", "raise it", "--io mmsg"]),
        ];
        for (error, parts) in cases {
            let text = BridgeError::Dataplane(error).to_string();
            for part in parts {
                assert!(text.contains(part), "{part} in {text}");
            }
            // Every flag that is named exists.
            for flag in text.split("--").skip(1) {
                let flag: String = flag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
                assert!(KEYS.iter().any(|key| key.flag == flag), "--{flag} in {text}");
            }
        }
    }
}
