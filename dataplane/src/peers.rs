//! Worker-to-worker rings: datagrams that the kernel gave to the wrong worker, what the owner says of their path, and
//! the media and feedback of conferences that several workers share.

use std::collections::VecDeque;

use crate::datagram::{MAX_DATAGRAM, Path};
use crate::ids::{EndpointId, PayloadType, Ssrc, WorkerId};
use crate::link::Wakeup;
use crate::media::Limit;

/// Signals that wait for room in one ring; further ones are refused.
const MAX_WAITING: usize = 4096;

/// What goes with a packet that its home gives to another worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrossWorkerHeader {
    /// Who sent it.
    pub endpoint: EndpointId,
    /// Extended sequence number, discarded packets closed up.
    pub sequence: i64,
    /// How often the source's numbering has started anew.
    pub restarts: u32,
    /// The payload type that it came under, if it came as a retransmission.
    pub repeated_as: Option<PayloadType>,
}

/// What workers that share a conference send each other beside media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerSignal {
    /// To the home of `endpoint`: receivers here need a keyframe of its encoding `ssrc`.
    KeyframeRequest {
        /// The endpoint that sends it.
        endpoint: EndpointId,
        /// Its encoding.
        ssrc: Ssrc,
    },
    /// To the home of `endpoint`: the largest height that receivers here want of a source.
    Demand {
        /// The endpoint that sends it.
        endpoint: EndpointId,
        /// SSRC of the source's first encoding.
        ssrc: Ssrc,
        /// Pixels.
        height: Limit,
    },
    /// From the home of `endpoint`, which has new sources: repeat your demands.
    RepeatDemand {
        /// The endpoint that sends it.
        endpoint: EndpointId,
    },
    /// From the home of `endpoint`: a sender report arrived.
    SenderReport {
        /// The endpoint that sends it.
        endpoint: EndpointId,
        /// Its encoding.
        ssrc: Ssrc,
        /// NTP time of the report.
        ntp: u64,
        /// RTP time of the same moment.
        rtp: u32,
    },
}

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
    /// An opened packet, for all receivers that live on the receiving worker.
    Media {
        /// What it is.
        header: CrossWorkerHeader,
        /// Bytes that count.
        len: u16,
        /// RTP, retransmission undone, padding cut.
        data: [u8; MAX_DATAGRAM],
    },
    /// About a conference that both workers take part in.
    Signal(PeerSignal),
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
    worker: WorkerId,
    to: Vec<Option<Outgoing>>,
    from: Vec<Option<rtrb::Consumer<PeerMessage>>>,
}

#[derive(Debug)]
struct Outgoing {
    ring: rtrb::Producer<PeerMessage>,
    wakeup: Wakeup,
    /// Something was queued since the last wake-up.
    dirty: bool,
    /// Signals that found the ring full. They must not get lost: nothing would repeat them.
    waiting: VecDeque<PeerSignal>,
}

impl Outgoing {
    fn send(&mut self, message: PeerMessage) -> bool {
        self.dirty = true;
        self.ring.push(message).is_ok()
    }

    /// Sends what waits; true when nothing waits any more.
    fn retry(&mut self) -> bool {
        while let Some(signal) = self.waiting.front().copied() {
            if !self.send(PeerMessage::Signal(signal)) {
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }
}

/// Connects every worker with every other; `wakeups` are theirs, in order.
pub(crate) fn mesh(wakeups: &[Wakeup], capacity: usize) -> Vec<Peers> {
    let count = wakeups.len();
    let nobody =
        |worker| Peers { worker, to: (0..count).map(|_| None).collect(), from: (0..count).map(|_| None).collect() };
    let mut peers: Vec<Peers> = (0..count).map(WorkerId::from_index).map(nobody).collect();
    for sender in 0..count {
        for (receiver, wakeup) in wakeups.iter().enumerate().filter(|(receiver, _)| *receiver != sender) {
            let (producer, consumer) = rtrb::RingBuffer::new(capacity);
            let outgoing =
                Outgoing { ring: producer, wakeup: wakeup.clone(), dirty: false, waiting: VecDeque::with_capacity(64) };
            peers[sender].to[receiver] = Some(outgoing);
            peers[receiver].from[sender] = Some(consumer);
        }
    }
    peers
}

impl Peers {
    /// The ends of a worker that is the only one.
    pub fn none() -> Self {
        Self { worker: WorkerId::default(), to: vec![None], from: vec![None] }
    }

    /// This worker.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// All workers, this one included.
    pub fn all(&self) -> impl Iterator<Item = WorkerId> + use<> {
        (0..self.to.len()).map(WorkerId::from_index)
    }

    /// Whether there is such a worker beside this one.
    pub fn has_other(&self, worker: WorkerId) -> bool {
        worker != self.worker && worker.index() < self.to.len()
    }

    /// Queues a message; false when the ring is full or there is no such worker.
    pub fn send(&mut self, worker: WorkerId, message: PeerMessage) -> bool {
        let Some(Some(peer)) = self.to.get_mut(worker.index()) else { return false };
        peer.send(message)
    }

    /// Queues a datagram; false when half of the ring is full, there is no such worker, or the datagram is too long. The other
    /// half is for media that was authenticated: anybody may send datagrams that look like another worker's.
    pub fn send_datagram(&mut self, worker: WorkerId, path: Path, datagram: &[u8]) -> bool {
        let ring = self.to.get(worker.index()).and_then(Option::as_ref).map(|peer| &peer.ring);
        if ring.is_none_or(|ring| ring.slots() * 2 <= ring.buffer().capacity()) {
            return false;
        }
        let mut data = [0; MAX_DATAGRAM];
        let Some(room) = data.get_mut(..datagram.len()) else { return false };
        room.copy_from_slice(datagram);
        self.send(worker, PeerMessage::Datagram { path, len: datagram.len() as u16, data })
    }

    /// Queues an opened packet; false as above.
    pub fn send_media(&mut self, worker: WorkerId, header: CrossWorkerHeader, packet: &[u8]) -> bool {
        let mut data = [0; MAX_DATAGRAM];
        let Some(room) = data.get_mut(..packet.len()) else { return false };
        room.copy_from_slice(packet);
        self.send(worker, PeerMessage::Media { header, len: packet.len() as u16, data })
    }

    /// Queues a signal; it waits when the ring is full. False when too many wait, or there is no such worker.
    pub fn send_signal(&mut self, worker: WorkerId, signal: PeerSignal) -> bool {
        let Some(Some(peer)) = self.to.get_mut(worker.index()) else { return false };
        if peer.retry() && peer.send(PeerMessage::Signal(signal)) {
            return true;
        }
        let room = peer.waiting.len() < MAX_WAITING;
        if room {
            peer.waiting.push_back(signal);
        }
        room
    }

    /// The next message of `worker`.
    pub fn poll(&mut self, worker: WorkerId) -> Option<PeerMessage> {
        self.from.get_mut(worker.index())?.as_mut()?.pop().ok()
    }

    /// Sends what waits and wakes the workers that got something: once per turn, not per datagram.
    pub fn wake(&mut self) {
        for peer in self.to.iter_mut().flatten() {
            peer.retry();
            if std::mem::take(&mut peer.dirty) {
                peer.wakeup.wake();
            }
        }
    }

    /// Whether others queued anything for this worker.
    pub fn has_messages(&self) -> bool {
        self.from.iter().flatten().any(|ring| !ring.is_empty())
    }

    /// Whether signals wait for room.
    pub fn backlog(&self) -> bool {
        self.to.iter().flatten().any(|peer| !peer.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(height: u32) -> PeerSignal {
        PeerSignal::Demand { endpoint: EndpointId(1), ssrc: Ssrc::new(1), height: Limit::Max(height) }
    }

    #[test]
    fn datagrams_leave_half_of_a_ring_to_media() {
        let wakeups = [Wakeup::new().unwrap(), Wakeup::new().unwrap()];
        let mut peers = mesh(&wakeups, 64);
        let path = Path { local: 0, remote: ([127, 0, 0, 1], 9).into() };
        assert_eq!((0..1_000).filter(|_| peers[0].send_datagram(WorkerId::new(1), path, &[0; 100])).count(), 32);
        let header = CrossWorkerHeader { endpoint: EndpointId(1), sequence: 1, restarts: 0, repeated_as: None };
        assert_eq!((0..1_000).filter(|_| peers[0].send_media(WorkerId::new(1), header, &[0; 100])).count(), 32);
        assert!(
            peers[1].poll(WorkerId::new(0)).is_some() && !peers[0].send_datagram(WorkerId::new(1), path, &[0; 100])
        );
        assert!(!peers[0].send_datagram(WorkerId::new(7), path, &[0; 100]), "no such worker");
    }

    #[test]
    fn signals_wait_for_room_in_order_and_media_does_not() {
        let wakeups = [Wakeup::new().unwrap(), Wakeup::new().unwrap()];
        let mut peers = mesh(&wakeups, 2);
        let [a, b] = &mut peers[..] else { panic!() };
        let header = CrossWorkerHeader { endpoint: EndpointId(1), sequence: 1, restarts: 0, repeated_as: None };
        assert!(a.send_media(WorkerId::new(1), header, &[1; 1500]));
        assert!(!a.send_media(WorkerId::new(1), header, &[1; 1501]), "too long");
        assert!((0..4).all(|height| a.send_signal(WorkerId::new(1), demand(height))));
        assert!(!a.send_media(WorkerId::new(1), header, &[1; 10]));
        assert!(a.backlog());
        let mut seen = Vec::new();
        for _ in 0..3 {
            while let Some(message) = b.poll(WorkerId::new(0)) {
                seen.extend(match message {
                    PeerMessage::Signal(signal) => Some(signal),
                    _ => None,
                });
            }
            a.wake();
        }
        assert_eq!(seen, [demand(0), demand(1), demand(2), demand(3)]);
        assert!(!a.backlog());
        assert!(!a.send_signal(WorkerId::new(7), demand(0)), "no such worker");
    }
}
