//! What one DTLS handshake costs the bridge: processor time and memory of its side alone.

use std::time::{Duration, Instant};

use ringbridge_controlplane::transport::{Certificate, DtlsError, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};
use ringbridge_dataplane::io::processor_time;
use serde::Serialize;

use crate::arena::Spread;

/// Handshakes that are measured.
const HANDSHAKES: usize = 200;

/// Of the side that waits for the ClientHello, as bridges do; the peer has a P-256 certificate as browsers have.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct HandshakeCost {
    /// Processor time, microseconds. The least is what it takes when nothing disturbs it.
    pub micros: Spread,
    /// The longest step (one datagram taken), microseconds.
    pub longest_step_micros: Spread,
    /// Bytes allocated at once at most, from the session's making to its keys.
    pub peak_bytes: i64,
    /// Bytes that are still allocated afterwards, for as long as the session lives.
    pub kept_bytes: i64,
    /// Allocations in all.
    pub allocations: u64,
}

/// Measures on this thread.
pub fn measure() -> Result<HandshakeCost, DtlsError> {
    let (own, peer) = (Certificate::generate()?, Certificate::generate()?);
    // The first one pays for what is made once.
    shake(&own, &peer, |step| step())?;
    let (mut sums, mut longest) = (Vec::new(), Vec::new());
    for _ in 0..HANDSHAKES {
        let (mut sum, mut most) = (Duration::ZERO, Duration::ZERO);
        shake(&own, &peer, |step| {
            let start = processor_time();
            step();
            let took = processor_time().saturating_sub(start);
            (sum, most) = (sum + took, most.max(took));
        })?;
        sums.push(sum.as_nanos() as f64 / 1e3);
        longest.push(most.as_nanos() as f64 / 1e3);
    }
    let (mut live, mut peak, mut allocations) = (0, 0, 0);
    shake(&own, &peer, |step| {
        let info = allocation_counter::measure(step);
        peak = peak.max(live + i64::try_from(info.bytes_max).unwrap_or(i64::MAX));
        live += info.bytes_current;
        allocations += info.count_total;
    })?;
    let none = Spread { median: 0.0, min: 0.0, max: 0.0 };
    Ok(HandshakeCost {
        micros: Spread::of(sums).unwrap_or(none),
        longest_step_micros: Spread::of(longest).unwrap_or(none),
        peak_bytes: peak,
        kept_bytes: live,
        allocations,
    })
}

/// One handshake. Every step of the server is run by `server`, those of the client beside it.
fn shake(own: &Certificate, peer: &Certificate, mut server: impl FnMut(&mut dyn FnMut())) -> Result<(), DtlsError> {
    let of = |certificate: &Certificate| {
        vec![Fingerprint { hash: "sha-256".into(), value: certificate.fingerprint().to_owned() }]
    };
    let now = Instant::now();
    let mut client = DtlsSession::new(now, peer, DtlsRole::Client, of(own))?;
    let mut session = Err(DtlsError::Timeout);
    server(&mut || session = DtlsSession::new(now, own, DtlsRole::Server, of(peer)));
    let mut session = session?;
    loop {
        let (to_server, _) = drain(&mut client)?;
        if to_server.is_empty() {
            return Err(DtlsError::Timeout);
        }
        for datagram in to_server {
            let mut said = Ok((Vec::new(), false));
            server(&mut || {
                session.handle_datagram(Instant::now(), &datagram);
                said = drain(&mut session);
            });
            let (mut answers, connected) = said?;
            answers.iter().for_each(|answer| client.handle_datagram(Instant::now(), answer));
            // As when the worker has sent them.
            server(&mut || drop(std::mem::take(&mut answers)));
            if connected {
                return Ok(());
            }
        }
    }
}

/// What a side has to send, and whether it has keys.
fn drain(session: &mut DtlsSession) -> Result<(Vec<Vec<u8>>, bool), DtlsError> {
    let (mut datagrams, mut connected) = (Vec::new(), false);
    while let Some(output) = session.poll_output() {
        match output {
            DtlsOutput::Datagram(datagram) => datagrams.push(datagram),
            DtlsOutput::Connected(_) => connected = true,
            DtlsOutput::ApplicationData(_) => {}
            DtlsOutput::Failed(error) => return Err(error),
        }
    }
    Ok((datagrams, connected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_costs_something_and_keeps_less_than_it_took() {
        let cost = measure().unwrap();
        assert!(cost.micros.min > 10.0 && cost.longest_step_micros.min <= cost.micros.max, "{cost:?}");
        assert!(cost.kept_bytes > 1000 && cost.kept_bytes <= cost.peak_bytes, "{cost:?}");
        // 100 handshakes at once are still little beside the media's buffers.
        assert!(cost.peak_bytes < 100 << 10 && cost.allocations > 10, "{cost:?}");
    }
}
