//! Whether datagrams are to wait for each other on this host ([`super::IoExtras::coalesce`]), found out by trying: a model of many
//! small conferences, where each datagram comes alone, once without the wait and once with it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Flush, IoError, PacketIo, PacketSink, Path, SocketOptions, bind_sockets, processor_time, sleep_precisely};

/// The wait that is tried: what a datagram may be delayed by at most.
const BUDGET: Duration = Duration::from_micros(150);
/// What the wait has to save in the model, in the median and in every pair of windows: where waking up is nearly all there is.
/// Waiting delays all packets, of what it saves in the model less than half is left in a call, where packets are also opened and sealed,
/// and the load of a host when a bridge starts is not that of later (docs/decisions.md).
const WORTH: (f64, f64) = (0.75, 0.5);
/// Pairs of windows, how long each window is, and how long all of them are: 36 ms.
const PAIRS: usize = 3;
const WINDOW: Duration = Duration::from_millis(6);
pub(super) const TAKES: Duration = WINDOW.saturating_mul(2 * PAIRS as u32);
/// The model: a datagram comes every 50 us, as in a hundred rooms of three, and goes to two.
const GAP: Duration = Duration::from_micros(50);
const FAN_OUT: usize = 2;
const SIZE: usize = 1_000;
/// Fewer datagrams in a window say nothing.
const LEAST: u64 = 20;

/// Processor time of one datagram in the model, nanoseconds: without the wait, and with it.
pub(super) type Pair = (f64, f64);

/// How long datagrams wait for each other, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// Zero: not at all.
    pub(super) wait: Duration,
    /// In one line for the log.
    pub(super) reason: String,
}

/// Chooses by what was measured.
pub(super) fn choose(pairs: &[Pair]) -> Choice {
    let micros = BUDGET.as_micros();
    let mut saved: Vec<(f64, Pair)> = pairs
        .iter()
        .filter(|(without, with)| *without > 0.0 && with.is_finite())
        .map(|(without, with)| (1.0 - with / without, (*without, *with)))
        .collect();
    saved.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (Some((least, _)), Some((median, (without, with)))) = (saved.first(), saved.get(saved.len() / 2)) else {
        return Choice { wait: Duration::ZERO, reason: "no wait: too few datagrams came to measure it".to_owned() };
    };
    let (worth, at_least) = WORTH;
    let figures = format!(
        "waiting {micros} us for others saves {:.0} % of {without:.0} ns a packet in a model of small rooms ({with:.0}; at least {:.0} % of any)",
        100.0 * median,
        100.0 * least,
    );
    let waits = *median >= worth && *least >= at_least;
    let (verdict, wait) = if waits { ("is worth it", BUDGET) } else { ("is not worth the delay", Duration::ZERO) };
    Choice { wait, reason: format!("{figures}: {verdict}") }
}

/// Measures the model over a backend whose socket has this address.
pub(super) fn measure(io: &mut impl PacketIo, address: SocketAddr) -> Result<Vec<Pair>, IoError> {
    let failed = |source| IoError::Allocate { what: "a measurement of the wait", source };
    let options = SocketOptions { receive_buffer: 4 << 10, send_buffer: 256 << 10, check_port_free: false };
    // Nobody reads what goes there: the kernel drops it at the end of its way.
    let sinks = bind_sockets(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, &options)?;
    let sink = sinks.first().map_or(Ok(address), UdpSocket::local_addr).map_err(failed)?;
    let path = Path { local: 0, remote: sink };
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.connect(address).map(|()| socket));
    let (sender, stop) = (sender.map_err(failed)?, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| send(&sender, &stop));
        let window = |io: &mut _, wait| window(io, path, wait);
        let pairs: io::Result<_> = (0..PAIRS).map(|_| Ok((window(io, Duration::ZERO)?, window(io, BUDGET)?))).collect();
        stop.store(true, Ordering::Relaxed);
        pairs
    })
    .map_err(failed)
}

/// Sends a datagram after the other.
fn send(socket: &UdpSocket, stop: &AtomicBool) {
    sleep_precisely();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // What a full socket drops does not count.
        let _ = socket.send(&[0x80; SIZE]);
        let now = Instant::now();
        next = (next + GAP).max(now);
        std::thread::sleep(next - now);
    }
}

/// Turns of a worker's loop; processor time per datagram in nanoseconds, none where hardly any came.
fn window(io: &mut impl PacketIo, path: Path, wait: Duration) -> io::Result<f64> {
    let (start, mut before, mut received) = (Instant::now(), None, 0);
    let mut pause = Duration::ZERO;
    while start.elapsed() < WINDOW {
        if !pause.is_zero() {
            io.coalesce(pause)?;
        }
        let count = io.receive(Duration::from_millis(1))?;
        let turn = Instant::now();
        let (rx, tx) = io.parts();
        for i in 0..count {
            let Some(datagram) = rx.get(i) else { continue };
            for _ in 0..FAN_OUT {
                if let Some(slot) = tx.slot() {
                    let len = datagram.data.len().min(slot.len());
                    slot[..len].copy_from_slice(&datagram.data[..len]);
                    tx.commit(len, path);
                }
            }
        }
        tx.flush()?;
        // What had come before the window began is not of its pace.
        match before {
            None => before = Some(processor_time()),
            Some(_) => received += count as u64,
        }
        pause = wait.saturating_sub(turn.elapsed());
    }
    let used = before.map_or(Duration::ZERO, |before| processor_time().saturating_sub(before));
    Ok(if received < LEAST { f64::NAN } else { used.as_nanos() as f64 / received as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_taken_only_where_it_saves_much_each_time() {
        let wait = |pairs: &[Pair]| choose(pairs).wait;
        let none = Duration::ZERO;
        for (pairs, chosen) in [
            (&[(10_000.0, 2_000.0), (10_000.0, 2_400.0), (10_000.0, 1_000.0)][..], BUDGET),
            // Three quarters in the median, but once less than half.
            (&[(10_000.0, 2_000.0), (10_000.0, 2_400.0), (10_000.0, 5_500.0)], none),
            (&[(10_000.0, 3_000.0), (10_000.0, 3_400.0), (10_000.0, 2_000.0)], none),
            (&[(10_000.0, 12_000.0), (10_000.0, 11_000.0), (10_000.0, 10_000.0)], none),
            // Windows in which hardly anything came do not count; one that counts is enough to choose by.
            (&[(f64::NAN, 2_000.0), (10_000.0, f64::NAN), (10_000.0, 2_000.0)], BUDGET),
            (&[(f64::NAN, f64::NAN), (0.0, 5.0)], none),
            (&[], none),
        ] {
            assert_eq!(wait(pairs), chosen, "{pairs:?}");
        }
        let reason = choose(&[(10_000.0, 9_000.0)]).reason;
        assert!(reason.contains("150 us") && reason.contains("10 %") && reason.contains("not worth"), "{reason}");
        assert!(choose(&[]).reason.contains("too few"));
    }
}
