//! Who is inside: connections by address, and who has to go when there are too many.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::bounds::{Bounds, origin};
use super::counters::{DoorCounters, Refused};

/// So many connections are let in between two turns of those inside, while a door is crowded.
pub(super) const CROWD: usize = 8;

/// One connection that is no WebSocket.
#[derive(Debug)]
struct Guest {
    /// Ends the connection.
    evict: oneshot::Sender<()>,
    /// A request of it is being answered.
    serving: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Inside {
    /// In the order in which they came.
    guests: HashMap<IpAddr, BTreeMap<u64, Guest>>,
    guest_count: usize,
    /// With the WebSockets.
    connections: usize,
    next: u64,
}

impl Inside {
    fn remove(&mut self, address: IpAddr, number: u64) -> Option<Guest> {
        let from = self.guests.get_mut(&address)?;
        let removed = from.remove(&number)?;
        if from.is_empty() {
            self.guests.remove(&address);
        }
        self.guest_count -= 1;
        Some(removed)
    }

    /// Closes the oldest connection of this address, one that waits before one that is being answered. What those brought who came
    /// last, nobody has read yet: they do not count as waiting.
    fn evict(&mut self, address: IpAddr) -> bool {
        let Some(from) = self.guests.get(&address) else { return false };
        let settled = from.len() - CROWD.min(from.len() / 4);
        let idle = from.iter().take(settled).find(|(_, guest)| !guest.serving.load(Ordering::Relaxed));
        let Some(number) = idle.or(from.iter().next()).map(|(number, _)| *number) else { return false };
        // Its pass is still out and counts until the connection is really gone.
        self.remove(address, number).is_some_and(|guest| guest.evict.send(()).is_ok())
    }

    /// Of whoever has most.
    fn evict_any(&mut self) -> bool {
        let most = self.guests.iter().max_by_key(|(_, from)| from.len()).map(|(address, _)| *address);
        most.is_some_and(|address| self.evict(address))
    }
}

/// All connections of one door.
#[derive(Debug, Clone)]
pub(super) struct Guests {
    bounds: Bounds,
    counters: Arc<DoorCounters>,
    inside: Arc<Mutex<Inside>>,
}

/// What a connection is let in with.
#[derive(Debug)]
pub(super) struct Admission {
    pub pass: Pass,
    /// Resolves when it has to go.
    pub evicted: oneshot::Receiver<()>,
}

impl Guests {
    pub fn new(bounds: Bounds, counters: Arc<DoorCounters>) -> Self {
        Self { bounds, counters, inside: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing under the lock panics half-way.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in; another one may have to go for it.
    pub fn admit(&self, address: IpAddr) -> Option<Admission> {
        let address = origin(address);
        let mut inside = self.lock();
        let mut evicted = false;
        if inside.guests.get(&address).is_some_and(|from| from.len() >= self.bounds.guests_per_address) {
            evicted = inside.evict(address);
        } else if inside.guest_count >= self.bounds.guests || inside.connections >= self.bounds.connections {
            evicted = inside.evict_any();
        }
        if evicted {
            self.counters.refuse(Refused::Evicted);
        } else if inside.connections >= self.bounds.connections {
            self.counters.refuse(Refused::Full);
            return None;
        }
        let number = inside.next;
        inside.next += 1;
        inside.guest_count += 1;
        inside.connections += 1;
        let (evict, evicted) = oneshot::channel();
        let serving = Arc::new(AtomicBool::new(false));
        let guest = Guest { evict, serving: Arc::clone(&serving) };
        inside.guests.entry(address).or_default().insert(number, guest);
        drop(inside);
        self.counters.enter();
        Some(Admission { pass: Pass { guests: self.clone(), address, number, serving }, evicted })
    }

    /// Whether those inside should be served before others are let in.
    pub fn crowded(&self) -> bool {
        self.lock().guest_count * 2 >= self.bounds.guests
    }

    /// Frees a descriptor, if there is a connection that can be closed.
    pub fn evict_oldest(&self) {
        if self.lock().evict_any() {
            self.counters.refuse(Refused::Evicted);
        }
    }
}

/// Counts a connection for as long as somebody holds this.
#[derive(Debug)]
pub struct Pass {
    guests: Guests,
    address: IpAddr,
    number: u64,
    serving: Arc<AtomicBool>,
}

impl Pass {
    pub(super) fn counters(&self) -> Arc<DoorCounters> {
        Arc::clone(&self.guests.counters)
    }

    /// From now on it is a WebSocket of somebody who is known, and gives way to nobody.
    pub fn promote(&self) {
        self.guests.lock().remove(self.address, self.number);
    }

    /// A request is being answered while somebody holds this.
    pub(super) fn serving(&self) -> Serving {
        self.serving.store(true, Ordering::Relaxed);
        Serving(Arc::clone(&self.serving))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.guests.lock();
        inside.remove(self.address, self.number);
        inside.connections -= 1;
        drop(inside);
        self.guests.counters.leave();
    }
}

pub(super) struct Serving(Arc<AtomicBool>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::bounds::Name;
    use super::*;

    fn door(guests: usize, guests_per_address: usize, connections: usize) -> Guests {
        let bounds = Bounds { guests, guests_per_address, connections, ..Bounds::new(Name::Pages, 1024) };
        Guests::new(bounds, Arc::new(DoorCounters::new(Name::Pages)))
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn gone(admission: &mut Admission) -> bool {
        admission.evicted.try_recv().is_ok()
    }

    #[test]
    fn whoever_has_most_gives_way() {
        let door = door(4, 10, 100);
        let mut single = door.admit(address(1)).expect("room");
        let mut many: Vec<_> = (0..3).map(|_| door.admit(address(2)).expect("room")).collect();
        let mut other = door.admit(address(3)).expect("one gives way");
        assert!(!gone(&mut single) && gone(&mut many[0]) && !gone(&mut many[1]) && !gone(&mut other));
        // A request that is being answered is not cut short while another waits.
        let serving = many[1].pass.serving();
        let _again = door.admit(address(3)).expect("one gives way");
        assert!(!gone(&mut many[1]) && gone(&mut many[2]));
        drop(serving);
    }

    #[test]
    fn one_address_pushes_out_its_own() {
        let door = door(100, 2, 100);
        let mut other = door.admit(address(1)).expect("room");
        let mut own: Vec<_> = (0..5).map(|_| door.admit(address(2)).expect("always")).collect();
        let evicted: Vec<bool> = own.iter_mut().map(gone).collect();
        assert_eq!(evicted, [true, true, true, false, false]);
        assert!(!gone(&mut other));
    }

    #[test]
    fn whoever_just_came_does_not_give_way_to_the_next() {
        let door = door(100, 32, 100);
        let mut held: Vec<_> = (0..32).map(|_| door.admit(address(1)).expect("room")).collect();
        // All of them have requests that do not end.
        let _serving: Vec<_> = held.iter().map(|one| one.pass.serving()).collect();
        let mut fresh: Vec<_> = (0..=CROWD).map(|_| door.admit(address(1)).expect("always")).collect();
        assert!(fresh.iter_mut().all(|one| !gone(one)), "they had no turn yet");
        assert!(held[..=CROWD].iter_mut().all(gone) && held[CROWD + 1..].iter_mut().all(|one| !gone(one)));
        let _next = door.admit(address(1)).expect("always");
        assert!(gone(&mut fresh[0]), "it had one, and asked nothing");
    }

    #[test]
    fn websockets_give_way_to_nobody() {
        let door = door(2, 10, 3);
        let mut sockets: Vec<_> = (0..3).map(|_| door.admit(address(1)).expect("room")).collect();
        for socket in &sockets[1..] {
            socket.pass.promote();
        }
        assert!(gone(&mut sockets[0]), "there may be two guests");
        assert!(door.admit(address(2)).is_none(), "and three connections, until one is really gone");
        drop(sockets.remove(0));
        let mut guest = door.admit(address(2)).expect("room again");
        let _next = door.admit(address(3)).expect("a guest gives way");
        assert!(gone(&mut guest));
        drop((sockets, guest, _next));
        let inside = door.lock();
        assert_eq!((inside.guest_count, inside.connections, inside.guests.len()), (0, 0, 0));
    }
}
