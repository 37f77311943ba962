//! Notifies systemd that the service is ready and alive (sd_notify(3)); nothing happens where it did not start us.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

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
}
