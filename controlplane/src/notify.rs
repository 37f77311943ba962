//! Notifies systemd that the service is ready and alive (sd_notify(3)); nothing happens where it did not start us.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};

/// How long systemd may take to read what it was sent.
const BARRIER: Duration = Duration::from_secs(2);

/// The socket that systemd listens on.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it wants to hear from us, if at all.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub fn from_environment() -> Option<Self> {
        let watchdog = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        Self::new(&std::env::var("NOTIFY_SOCKET").ok()?, watchdog)
    }

    fn new(name: &str, watchdog_micros: Option<u64>) -> Option<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let watchdog = watchdog_micros.filter(|micros| *micros > 0).map(Duration::from_micros);
        Some(Self { socket: UnixDatagram::unbound().ok()?, address: address.ok()?, watchdog })
    }

    /// Half the time that systemd would wait for a sign of life.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    /// The service is up.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The service lives.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The service ends in order.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Another process is the service's main one from here on, and speaks for it. When this returns systemd knows, so that this
    /// process may end: who has ended is not believed.
    pub fn hand_over(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
        if let Err(error) = self.wait_until_read() {
            tracing::warn!(%error, pid, "systemd may not know the new main process");
        }
    }

    /// sd_notify_barrier(3): systemd closes the descriptor when it comes to this message.
    fn wait_until_read(&self) -> io::Result<()> {
        let (mut closed, open) = io::pipe()?;
        let address = match (self.address.as_pathname(), self.address.as_abstract_name()) {
            (Some(path), _) => SocketAddrUnix::new(path)?,
            (_, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
            _ => return Ok(()),
        };
        let descriptors = [open.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg_addr(&self.socket, &address, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::NOSIGNAL)?;
        drop(open);
        let (read, seen) = mpsc::channel();
        std::thread::spawn(move || read.send(closed.read(&mut [0])));
        seen.recv_timeout(BARRIER).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(drop)
    }

    fn send(&self, state: &str) {
        if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address) {
            tracing::debug!(%error, state, "systemd not notified");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_arrive() {
        let name = format!("ringbridge-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an abstract name");
        let systemd = UnixDatagram::bind_addr(&address).expect("bound");
        let notifier = Notifier::new(&format!("@{name}"), Some(20_000_000)).expect("a socket");
        assert_eq!(notifier.interval(), Some(Duration::from_secs(10)));
        let mut buffer = [0; 64];
        for (send, expected) in [
            (Notifier::ready as fn(&Notifier), "READY=1"),
            (Notifier::alive, "WATCHDOG=1"),
            (Notifier::stopping, "STOPPING=1"),
        ] {
            send(&notifier);
            let length = systemd.recv(&mut buffer).expect("received");
            assert_eq!(std::str::from_utf8(&buffer[..length]), Ok(expected));
        }
        assert_eq!(Notifier::new("@x", Some(0)).and_then(|notifier| notifier.interval()), None);
    }

    #[test]
    fn the_main_process_is_another_once_systemd_has_read_so() {
        use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

        let name = format!("ringbridge-test-barrier-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an abstract name");
        let systemd = UnixDatagram::bind_addr(&address).expect("bound");
        let notifier = Notifier::new(&format!("@{name}"), None).expect("a socket");
        let told = std::thread::spawn(move || notifier.hand_over(4711));
        let mut buffer = [0; 64];
        let length = systemd.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"MAINPID=4711");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [io::IoSliceMut::new(&mut buffer)];
        let received = recvmsg(&systemd, &mut into, &mut control, RecvFlags::empty()).expect("received");
        assert!(!told.is_finished(), "not before it is read");
        // Closes the descriptor.
        drop(control);
        told.join().expect("no panic");
        assert_eq!(&buffer[..received.bytes], b"BARRIER=1");
    }
}
