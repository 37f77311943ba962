//! Which backend to use on this host, found out by trying.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    EventFd, Flush, IoChoice, IoError, IoExtras, IoLimits, Mmsg, PacketIo, PacketSink, Path, SocketOptions, Uring,
    bind_sockets, sleep_precisely, wait, wake_promptly,
};
use crate::stats::WorkerStats;

/// A concrete backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// [`Uring`].
    Uring,
    /// [`Mmsg`].
    Mmsg,
}

impl Backend {
    /// `uring` or `mmsg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// A choice and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What to use.
    pub backend: Backend,
    /// Why, in one line for the log.
    pub reason: String,
    /// Microseconds that a datagram is to wait at most for others, unless it was said ([`super::IoExtras::coalesce`]).
    pub coalesce: u32,
}

/// How long each backend is measured.
const MEASURE: Duration = Duration::from_millis(50);
/// What the last burst of a measurement may take beyond that on a host that is busy with others.
const LAST_BURST: Duration = Duration::from_millis(10);
/// A start takes less than 200 ms longer for it; what a busy host does meanwhile comes on top.
const _: () = assert!(2 * (MEASURE.as_millis() + LAST_BURST.as_millis()) + wait::TAKES.as_millis() < 200);
/// Datagrams per burst and their size while measuring.
const BURST: usize = 32;
const SIZE: usize = 1200;
/// io_uring must be this much faster to be chosen: below it, the difference is noise.
const MARGIN: f64 = 1.05;

/// Turns a choice into a backend. `Auto` tries io_uring on a loopback socket and, when it works, measures both for 50 ms each; then,
/// unless `extras` says how long, whether datagrams are to wait for each other, in 36 ms. An error when io_uring is asked for and does
/// not work.
pub fn probe(choice: IoChoice, extras: IoExtras) -> Result<Probed, IoError> {
    let Probed { backend, reason, coalesce } = probe_backend(choice)?;
    let choice = match (choice, extras.coalesce) {
        (_, Some(micros)) => return Ok(Probed { backend, reason, coalesce: micros }),
        (IoChoice::Uring | IoChoice::Mmsg, None) => return Ok(Probed { backend, reason, coalesce }),
        (IoChoice::Auto, None) => match probe_wait(backend) {
            Ok(pairs) => wait::choose(&pairs),
            Err(error) => wait::Choice { wait: Duration::ZERO, reason: format!("no wait: {error}") },
        },
    };
    Ok(Probed { backend, reason: format!("{reason}; {}", choice.reason), coalesce: choice.wait.as_micros() as u32 })
}

/// Tries the wait over a backend, on a thread of its own that waits as a worker does.
fn probe_wait(backend: Backend) -> Result<Vec<wait::Pair>, IoError> {
    let measure = || {
        sleep_precisely();
        // Where it cannot be asked for, workers do without it, too.
        let _ = wake_promptly();
        match backend {
            Backend::Uring => {
                to_itself(Uring::new, true).and_then(|(mut io, path)| wait::measure(&mut io, path.remote))
            }
            Backend::Mmsg => to_itself(Mmsg::new, true).and_then(|(mut io, path)| wait::measure(&mut io, path.remote)),
        }
    };
    let died = |_| IoError::Allocate { what: "a measurement of the wait", source: io::ErrorKind::Other.into() };
    std::thread::scope(|scope| scope.spawn(measure).join()).map_err(died)?
}

fn probe_backend(choice: IoChoice) -> Result<Probed, IoError> {
    let chosen = |backend, reason: String| Ok(Probed { backend, reason, coalesce: 0 });
    match choice {
        IoChoice::Mmsg => chosen(Backend::Mmsg, "asked for".into()),
        IoChoice::Uring => {
            try_uring()?;
            chosen(Backend::Uring, "asked for, works on this host".into())
        }
        IoChoice::Auto => {
            let start = Instant::now();
            if let Err(error) = try_uring() {
                return chosen(Backend::Mmsg, error.to_string());
            }
            let (uring, mmsg) = match (measure(Uring::new), measure(Mmsg::new)) {
                (Ok(uring), Ok(mmsg)) => (uring, mmsg),
                (Err(error), _) => return chosen(Backend::Mmsg, format!("measuring io_uring failed: {error}")),
                (_, Err(error)) => return chosen(Backend::Mmsg, format!("measuring failed: {error}")),
            };
            let (uring_thousands, mmsg_thousands, took) = (uring / 1e3, mmsg / 1e3, start.elapsed().as_millis());
            let figures =
                format!("on loopback io_uring {uring_thousands:.0}k, mmsg {mmsg_thousands:.0}k packets/s in {took} ms");
            if uring > mmsg * MARGIN {
                chosen(Backend::Uring, format!("{figures}: io_uring is faster"))
            } else {
                chosen(Backend::Mmsg, format!("{figures}: io_uring is not faster by 5 %"))
            }
        }
    }
}

type Constructor<T> = fn(Vec<std::net::UdpSocket>, EventFd, IoLimits, Arc<WorkerStats>) -> Result<T, IoError>;

/// A backend with one loopback socket, and the path to itself.
fn to_itself<T>(new: Constructor<T>, offload: bool) -> Result<(T, Path), IoError> {
    let options = SocketOptions { receive_buffer: 256 << 10, send_buffer: 256 << 10, check_port_free: false };
    let sockets = bind_sockets(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, &options)?;
    let remote = sockets.first().and_then(|socket| socket.local_addr().ok());
    let remote = remote.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let limits = IoLimits { rx_buffers: 64, tx_slots: BURST, offload, ..Default::default() };
    Ok((new(sockets, EventFd::new()?, limits, Arc::default())?, Path { local: 0, remote }))
}

/// Really receives something by multishot into a provided buffer.
fn try_uring() -> Result<(), IoError> {
    let failed = |source| IoError::Uring { step: "receiving on a loopback socket", source };
    let (mut io, path) = to_itself(Uring::new, true)?;
    burst(&mut io, path, 2).map_err(failed)?;
    let deadline = Instant::now() + Duration::from_millis(100);
    let mut received = 0;
    while received < 2 {
        received += io.receive(Duration::from_millis(20)).map_err(failed)?;
        if Instant::now() > deadline {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
    }
    Ok(())
}

fn burst(io: &mut impl PacketIo, path: Path, count: usize) -> io::Result<()> {
    let (_, tx) = io.parts();
    for i in 0..count {
        if let Some(slot) = tx.slot() {
            slot[0] = i as u8;
            tx.commit(SIZE, path);
        }
    }
    tx.flush()
}

/// Packets per second that go out and come in again.
fn measure<T: PacketIo>(new: Constructor<T>) -> Result<f64, IoError> {
    let failed = |source| IoError::Allocate { what: "a loopback measurement", source };
    // Without runs: a conference's packets go to many destinations, so one message carries few of them.
    let (mut io, path) = to_itself(new, false)?;
    let start = Instant::now();
    let mut received = 0;
    while start.elapsed() < MEASURE {
        burst(&mut io, path, BURST).map_err(failed)?;
        let mut missing = BURST;
        while missing > 0 && start.elapsed() < MEASURE + LAST_BURST {
            match io.receive(Duration::from_millis(5)).map_err(failed)? {
                0 => break,
                n => missing = missing.saturating_sub(n),
            }
        }
        received += BURST - missing;
    }
    Ok(received as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_decides_and_says_why() {
        let start = Instant::now();
        let probed = probe(IoChoice::Auto, IoExtras::default()).unwrap();
        assert!(!probed.reason.is_empty() && !probed.reason.contains('\n'), "{}", probed.reason);
        assert!(probed.reason.contains("waiting 150 us") || probed.reason.contains("no wait"), "{}", probed.reason);
        eprintln!("{} after {:?}: {}", probed.backend.name(), start.elapsed(), probed.reason);
        let asked = probe(IoChoice::Mmsg, IoExtras::default()).unwrap();
        assert_eq!((asked.backend, asked.coalesce), (Backend::Mmsg, 0), "only auto measures");
        let said = IoExtras { coalesce: Some(70), ..IoExtras::default() };
        for choice in [IoChoice::Mmsg, IoChoice::Auto] {
            let probed = probe(choice, said).unwrap();
            assert_eq!(probed.coalesce, 70, "what is said is not measured");
            assert!(!probed.reason.contains("wait"), "{}", probed.reason);
        }
    }

    /// Forbids io_uring_setup to the calling thread, as containers do.
    fn forbid_uring() {
        let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut filter = [
            // The number of the system call is the first word of what the filter sees.
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
            statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: takes plain numbers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
        let mode = libc::SECCOMP_MODE_FILTER as libc::c_ulong;
        // SAFETY: the program and its four statements live during the call, which copies them.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }, 0);
    }

    #[test]
    fn forbidden_uring_is_noticed() {
        std::thread::spawn(|| {
            forbid_uring();
            let start = Instant::now();
            let probed = probe(IoChoice::Auto, IoExtras::default()).unwrap();
            assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
            assert_eq!(probed.backend, Backend::Mmsg);
            assert!(probed.reason.contains("io_uring") && probed.reason.contains("seccomp"), "{}", probed.reason);
            let error = probe(IoChoice::Uring, IoExtras::default()).unwrap_err().to_string();
            assert!(error.contains("creating a ring") && error.contains("seccomp"), "{error}");
        })
        .join()
        .unwrap();
    }
}
