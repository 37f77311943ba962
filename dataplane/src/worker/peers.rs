//! Worker-to-worker rings: a datagram that the kernel gave to the wrong worker, and what the owner says of its path.

use crate::io::{MAX_DATAGRAM, Path};
use crate::ring::Wakeup;

/// One entry of a peer ring; every entry has room for a datagram.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(crate) enum PeerMessage {
    /// For an endpoint of the receiving worker.
    Datagram {
        /// How it came in.
        path: Path,
        /// Bytes that count.
        len: u16,
        /// The datagram.
        data: [u8; MAX_DATAGRAM],
    },
    /// The path belongs to an endpoint of the sending worker: hand its datagrams over.
    Claim {
        /// The path.
        path: Path,
        /// Proven by an answer to a check.
        round_trip: bool,
    },
    /// The path does not belong to an endpoint of the sending worker (any more).
    Release {
        /// The path.
        path: Path,
    },
}

/// One worker's ends of its rings to and from all others.
#[derive(Debug)]
pub(crate) struct Peers {
    to: Vec<Option<Outgoing>>,
    from: Vec<Option<rtrb::Consumer<PeerMessage>>>,
}

#[derive(Debug)]
struct Outgoing {
    ring: rtrb::Producer<PeerMessage>,
    wakeup: Wakeup,
    /// Something was queued since the last wake-up.
    dirty: bool,
}

/// Connects every worker with every other; `wakeups` are theirs, in order.
pub(crate) fn mesh(wakeups: &[Wakeup], capacity: usize) -> Vec<Peers> {
    let count = wakeups.len();
    let mut peers: Vec<Peers> = (0..count)
        .map(|_| Peers { to: (0..count).map(|_| None).collect(), from: (0..count).map(|_| None).collect() })
        .collect();
    for sender in 0..count {
        for (receiver, wakeup) in wakeups.iter().enumerate().filter(|(receiver, _)| *receiver != sender) {
            let (producer, consumer) = rtrb::RingBuffer::new(capacity);
            peers[sender].to[receiver] = Some(Outgoing { ring: producer, wakeup: wakeup.clone(), dirty: false });
            peers[receiver].from[sender] = Some(consumer);
        }
    }
    peers
}

impl Peers {
    /// Number of workers, this one included.
    pub fn workers(&self) -> usize {
        self.to.len()
    }

    /// Queues a message; false when the ring is full or there is no such worker.
    pub fn send(&mut self, worker: usize, message: PeerMessage) -> bool {
        let Some(Some(peer)) = self.to.get_mut(worker) else { return false };
        peer.dirty = true;
        peer.ring.push(message).is_ok()
    }

    /// Queues a datagram; false when the ring is full, there is no such worker, or the datagram is too long.
    pub fn send_datagram(&mut self, worker: usize, path: Path, datagram: &[u8]) -> bool {
        let mut data = [0; MAX_DATAGRAM];
        let Some(room) = data.get_mut(..datagram.len()) else { return false };
        room.copy_from_slice(datagram);
        self.send(worker, PeerMessage::Datagram { path, len: datagram.len() as u16, data })
    }

    /// The next message of `worker`.
    pub fn poll(&mut self, worker: usize) -> Option<PeerMessage> {
        self.from.get_mut(worker)?.as_mut()?.pop().ok()
    }

    /// Wakes the workers that got something: once per turn, not per datagram.
    pub fn wake(&mut self) {
        for peer in self.to.iter_mut().flatten().filter(|peer| peer.dirty) {
            peer.dirty = false;
            peer.wakeup.wake();
        }
    }
}
