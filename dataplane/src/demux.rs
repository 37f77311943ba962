//! Which endpoint a datagram belongs to: by first byte (RFC 7983), ufrag, and verified address pair.

use serde::{Deserialize, Serialize};

use crate::datagram::Path;
use crate::ids::{WorkerId, WorkerSet};

/// Digits of a worker's tag, one character each.
const TAGS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Most workers that one bridge can have: one tag character each.
pub const MAX_WORKERS: usize = TAGS.len();

/// First character of every local ICE ufrag of an endpoint that lives on `worker`.
///
/// Workers past [`MAX_WORKERS`] do not exist; asking for one wraps around.
pub fn ufrag_prefix(worker: WorkerId) -> char {
    TAGS[worker.index() % TAGS.len()] as char
}

/// The worker that owns the endpoint with this local ufrag.
pub fn worker_of_ufrag(ufrag: &str) -> Option<WorkerId> {
    let tag = ufrag.as_bytes().first()?;
    TAGS.iter().position(|t| t == tag).map(WorkerId::from_index)
}

/// What the first byte of a datagram says (RFC 7983 section 7); RTP and RTCP are distinguished by RFC 5761 section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// STUN.
    Stun,
    /// A DTLS record.
    Dtls,
    /// SRTP.
    Rtp,
    /// SRTCP.
    Rtcp,
}

impl Protocol {
    /// The protocol of a datagram; `None` for ZRTP, TURN channels, QUIC, and an empty datagram.
    #[inline]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match *datagram {
            [0..=3, ..] => Some(Self::Stun),
            [20..=63, ..] => Some(Self::Dtls),
            [128..=191, 192..=223, ..] => Some(Self::Rtcp),
            [128..=191, _, ..] => Some(Self::Rtp),
            _ => None,
        }
    }
}

/// Index of an endpoint in its worker's table.
pub type EndpointIndex = u32;

/// Who gets what comes over a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// An endpoint of this worker.
    Endpoint(EndpointIndex),
    /// Another worker.
    Worker(WorkerId),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Entry {
    owner: Owner,
    /// Proven by an answer to a check: nobody else's mere request takes it away.
    round_trip: bool,
    /// Workers that steer this path to us.
    steered_by: WorkerSet,
}

/// The table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFull;

/// Paths that verified STUN has shown to belong to an endpoint, here or on another worker. Bounded.
#[derive(Debug, Serialize, Deserialize)]
pub struct AddressTable {
    #[serde(with = "crate::carry::map")]
    entries: hashbrown::HashMap<Path, Entry, foldhash::fast::RandomState>,
    /// The configuration's, also of whoever takes over.
    #[serde(skip)]
    capacity: usize,
}

impl AddressTable {
    /// An empty table for at most `capacity` paths, allocated now.
    pub fn new(capacity: usize) -> Self {
        Self { entries: hashbrown::HashMap::with_capacity_and_hasher(capacity, Default::default()), capacity }
    }

    /// Bounds it by another number, before it is used; false when it has more already.
    pub(crate) fn set_capacity(&mut self, capacity: usize) -> bool {
        let fits = self.entries.len() <= capacity;
        if fits {
            self.capacity = capacity;
            self.entries.reserve(capacity.saturating_sub(self.entries.len()));
        }
        fits
    }

    /// Who owns a path.
    #[inline]
    pub fn get(&self, path: &Path) -> Option<Owner> {
        self.entries.get(path).map(|entry| entry.owner)
    }

    /// Gives a path to an owner. A path that another owner has proven by a round trip changes hands only when the new
    /// one proves it too: a request alone may come from a forged address. True when the owner has it now.
    pub fn learn(&mut self, path: Path, owner: Owner, round_trip: bool) -> Result<bool, TableFull> {
        if let Some(entry) = self.entries.get_mut(&path) {
            if entry.owner == owner {
                entry.round_trip |= round_trip;
                return Ok(true);
            }
            if entry.round_trip && !round_trip {
                return Ok(false);
            }
            *entry = Entry { owner, round_trip, steered_by: WorkerSet::default() };
            return Ok(true);
        }
        if self.entries.len() >= self.capacity {
            return Err(TableFull);
        }
        self.entries.insert(path, Entry { owner, round_trip, steered_by: WorkerSet::default() });
        Ok(true)
    }

    /// Whether an owner has a path and has proven it by a round trip.
    pub fn is_proven(&self, path: &Path, owner: Owner) -> bool {
        self.entries.get(path).is_some_and(|entry| entry.owner == owner && entry.round_trip)
    }

    /// The paths of endpoints here that were proven by a round trip.
    pub(crate) fn proven(&self) -> impl Iterator<Item = Path> {
        let ours =
            self.entries.iter().filter(|(_, entry)| entry.round_trip && matches!(entry.owner, Owner::Endpoint(_)));
        ours.map(|(path, _)| *path)
    }

    /// Records that `worker` steers this path to us.
    pub fn note_steered(&mut self, path: &Path, worker: WorkerId) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.steered_by.insert(worker);
        }
    }

    /// Removes a path if `owner` has it; the workers that steer it to us.
    pub fn forget(&mut self, path: &Path, owner: Owner) -> Option<WorkerSet> {
        let entry = self.entries.get(path).filter(|entry| entry.owner == owner)?;
        let steered_by = entry.steered_by;
        self.entries.remove(path);
        Some(steered_by)
    }

    /// Number of paths.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(port: u16) -> Path {
        Path { local: 0, remote: ([127, 0, 0, 1], port).into() }
    }

    #[test]
    fn a_ufrag_names_its_worker() {
        for worker in (0..MAX_WORKERS).map(WorkerId::from_index) {
            assert_eq!(worker_of_ufrag(&format!("{}rest", ufrag_prefix(worker))), Some(worker));
        }
        for ufrag in ["", "Zx", "+", "é"] {
            assert_eq!(worker_of_ufrag(ufrag), None, "{ufrag}");
        }
    }

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let expected = |first: u8, second: u8| match (first, second) {
            (0..=3, _) => Some(Protocol::Stun),
            (20..=63, _) => Some(Protocol::Dtls),
            (128..=191, 192..=223) => Some(Protocol::Rtcp),
            (128..=191, _) => Some(Protocol::Rtp),
            _ => None,
        };
        for first in 0..=255 {
            for second in 0..=255 {
                assert_eq!(Protocol::of(&[first, second]), expected(first, second), "{first} {second}");
            }
        }
        assert_eq!(Protocol::of(&[]), None);
        assert_eq!(Protocol::of(&[128]), None);
    }

    #[test]
    fn a_proven_path_is_not_taken_by_a_mere_request() {
        let mut table = AddressTable::new(4);
        let (victim, thief) = (Owner::Endpoint(1), Owner::Endpoint(2));
        assert_eq!(table.learn(path(1), victim, false), Ok(true));
        assert_eq!(table.learn(path(1), thief, false), Ok(true), "neither has proven anything");
        assert_eq!(table.learn(path(1), victim, true), Ok(true));
        assert!(table.is_proven(&path(1), victim) && !table.is_proven(&path(1), thief));
        assert_eq!(table.learn(path(1), thief, false), Ok(false));
        assert_eq!(table.get(&path(1)), Some(victim));
        assert_eq!(table.learn(path(1), thief, true), Ok(true), "the address moved on");
        assert_eq!(table.forget(&path(1), victim), None, "no longer the victim's to remove");
        table.note_steered(&path(1), WorkerId::new(3));
        assert_eq!(table.forget(&path(1), thief), Some([WorkerId::new(3)].into_iter().collect()));
        assert!(table.is_empty());
    }

    proptest! {
        #[test]
        fn the_table_never_outgrows_its_bound(steps in prop::collection::vec((0..40u16, 0..4u32, any::<bool>(), any::<bool>()), 0..300)) {
            let mut table = AddressTable::new(8);
            for (port, owner, round_trip, forget) in steps {
                let owner = Owner::Endpoint(owner);
                let known = table.get(&path(port)).is_some();
                let full = table.len() == 8;
                if forget {
                    let owned = table.get(&path(port)) == Some(owner);
                    prop_assert_eq!(table.forget(&path(port), owner).is_some(), owned);
                } else {
                    let learnt = table.learn(path(port), owner, round_trip);
                    prop_assert_eq!(learnt.is_err(), full && !known);
                    if learnt == Ok(true) { prop_assert_eq!(table.get(&path(port)), Some(owner)); }
                }
                prop_assert!(table.len() <= 8);
            }
        }

        #[test]
        fn any_ufrag_is_read_without_panic(ufrag in ".*") {
            if let Some(worker) = worker_of_ufrag(&ufrag) { prop_assert!(worker.index() < MAX_WORKERS); }
        }
    }
}
