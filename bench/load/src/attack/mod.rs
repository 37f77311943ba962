//! A media peer without manners: ICE, DTLS and SRTP as they should be, and on them whatever it is ordered to send.
//!
//! `tools/attack` does the signalling and gives the orders, one JSON object per line on standard input; what happens is
//! reported as lines of JSON on standard output. It talks to loopback only, and everything it sends is bounded.

mod flow;
mod peer;

use std::io::{BufRead, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use flow::{Flow, Source};
use peer::{Event, Peer};

/// A peer ends by itself after so long.
const MAX_LIFE: Duration = Duration::from_secs(180);

/// Longest rest between two looks at the clock.
const TICK: Duration = Duration::from_millis(1);

/// Datagrams that leave in one go, at most.
const BURST: u64 = 512;

/// Send a bridge on loopback whatever standard input says.
#[derive(Debug, Clone, Args)]
pub struct AttackArgs {
    /// Address of the bridge's media port; loopback only.
    #[arg(long)]
    pub remote: SocketAddr,
    /// The bridge's ufrag for this peer; without it there is no session, and only `plain` packets are sent.
    #[arg(long, requires_all = ["password", "fingerprint"])]
    pub ufrag: Option<String>,
    /// Its password.
    #[arg(long)]
    pub password: Option<String>,
    /// Its certificate's SHA-256 fingerprint.
    #[arg(long)]
    pub fingerprint: Option<String>,
}

/// A command, one JSON object per line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Order {
    /// RTP packets, sealed.
    Rtp(Flow),
    /// RTCP packets, sealed.
    Rtcp(Flow),
    /// Datagrams as they are.
    Plain(Flow),
    /// Application data of DTLS, such as SCTP packets.
    Data(Flow),
    /// Go on from another port.
    Move,
    /// Answer no more checks.
    Silence,
    /// Say how many datagrams and bytes came and went so far.
    Count,
    /// End the program.
    End,
}

/// Datagrams and bytes in both directions.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
struct Count {
    sent: u64,
    sent_bytes: u64,
    received: u64,
    received_bytes: u64,
    refused: u64,
}

fn tell(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    // Whoever does not listen any more has ended us.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

fn orders() -> Receiver<Order> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => {
                    if sender.send(order).is_err() {
                        return;
                    }
                }
                Err(error) => tell(&json!({ "event": "refused", "error": error.to_string() })),
            }
        }
    });
    receiver
}

fn bind() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Runs until it is ordered to end, or its input ends.
pub fn run(args: &AttackArgs) -> Result<bool, Box<dyn std::error::Error>> {
    if !args.remote.ip().is_loopback() {
        return Err(format!("--remote {}: this talks to loopback only, e.g. 127.0.0.1:10000", args.remote).into());
    }
    let start = Instant::now();
    let orders = orders();
    let mut socket = bind()?;
    let elsewhere = bind()?;
    let session = args.ufrag.as_ref().zip(args.password.as_ref()).zip(args.fingerprint.as_ref());
    let mut peer = match session {
        Some(((ufrag, password), fingerprint)) => Some(Peer::new(start, ufrag, password, fingerprint)?),
        None => None,
    };
    tell(&json!({ "event": "ready", "credentials": peer.as_ref().map(Peer::credentials) }));
    let mut flow: Option<(Order, Source)> = None;
    let mut count = Count::default();
    let mut buffer = [0; 2_048];
    loop {
        let now = Instant::now();
        if now - start > MAX_LIFE {
            return Ok(true);
        }
        if flow.is_none() {
            match orders.try_recv() {
                Ok(Order::End) | Err(TryRecvError::Disconnected) => return Ok(true),
                Ok(Order::Move) => {
                    socket = bind()?;
                    if let Some(peer) = &mut peer {
                        peer.check_now(now);
                    }
                    tell(&json!({ "event": "done" }));
                }
                Ok(Order::Silence) => {
                    if let Some(peer) = &mut peer {
                        peer.silence();
                    }
                    tell(&json!({ "event": "done" }));
                }
                Ok(Order::Count) => tell(&json!({ "event": "done", "count": count })),
                Ok(order @ (Order::Rtp(_) | Order::Rtcp(_) | Order::Plain(_) | Order::Data(_))) => {
                    let (Order::Rtp(plan) | Order::Rtcp(plan) | Order::Plain(plan) | Order::Data(plan)) = &order else {
                        continue;
                    };
                    match Source::new(plan, now) {
                        Ok(source) => flow = Some((order, source)),
                        Err(error) => tell(&json!({ "event": "refused", "error": error })),
                    }
                }
                Err(TryRecvError::Empty) => {}
            }
        }
        if let Some((order, source)) = &mut flow {
            let (repeat, elsewhere_too) = (source.repeat(), source.elsewhere());
            for _ in 0..source.due(now).min(BURST) {
                let Some(packet) = source.make() else { break };
                let sealed = match order {
                    Order::Rtp(_) => peer.as_mut().and_then(|peer| peer.seal_rtp(packet)),
                    Order::Rtcp(_) => peer.as_mut().and_then(|peer| peer.seal_rtcp(packet)),
                    Order::Data(_) => {
                        if let Some(peer) = &mut peer {
                            peer.send_data(now, packet);
                        }
                        count.sent += 1;
                        continue;
                    }
                    _ => Some(packet),
                };
                let Some(datagram) = sealed else {
                    count.refused += 1;
                    continue;
                };
                for _ in 0..repeat {
                    send(&socket, args.remote, datagram, &mut count);
                    if elsewhere_too {
                        send(&elsewhere, args.remote, datagram, &mut count);
                    }
                }
            }
            if source.is_done() {
                tell(&json!({ "event": "done", "count": count, "seconds": (now - source.start()).as_secs_f64() }));
                flow = None;
            }
        }
        let mut idle = true;
        for (socket, ours) in [(&socket, true), (&elsewhere, false)] {
            // Bounded, so that orders are obeyed under a flood of answers.
            for _ in 0..BURST {
                let Ok((length, _)) = socket.recv_from(&mut buffer) else { break };
                idle = false;
                count.received += 1;
                count.received_bytes += length as u64;
                if let Some(peer) = peer.as_mut().filter(|_| ours) {
                    peer.handle_datagram(now, args.remote, &buffer[..length]);
                }
            }
        }
        if let Some(peer) = &mut peer {
            peer.handle_timeout(now);
            while let Some(event) = peer.poll() {
                match event {
                    Event::Send(datagram) => send(&socket, args.remote, &datagram, &mut count),
                    Event::Connected => tell(&json!({ "event": "connected" })),
                    Event::Failed(error) => tell(&json!({ "event": "failed", "error": error })),
                }
            }
        }
        if idle {
            std::thread::sleep(TICK);
        }
    }
}

/// What the kernel has no room for is lost, as on a wire.
fn send(socket: &UdpSocket, to: SocketAddr, datagram: &[u8], count: &mut Count) {
    match socket.send_to(datagram, to) {
        Ok(length) => {
            count.sent += 1;
            count.sent_bytes += length as u64;
        }
        Err(_) => count.refused += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let order: Order =
            serde_json::from_str(r#"{"do":"rtcp","packets":["80c8"],"count":3,"per_second":100}"#).expect("an order");
        assert!(matches!(order, Order::Rtcp(_)));
        assert_eq!(serde_json::from_str::<Order>(r#"{"do":"end"}"#).expect("an order"), Order::End);
        assert!(serde_json::from_str::<Order>(r#"{"do":"rtp"}"#).is_err());
    }

    #[test]
    fn nothing_but_loopback() {
        let remote = "192.0.2.1:10000".parse().expect("an address");
        assert!(run(&AttackArgs { remote, ufrag: None, password: None, fingerprint: None }).is_err());
    }
}
