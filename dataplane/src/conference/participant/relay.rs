//! The connection to another bridge, beside what it has in common with an endpoint: to which mesh it belongs, and what those
//! behind it want.

use hashbrown::{Equivalent, HashMap};

use crate::ids::{EndpointId, MeshId};
use crate::limits::MAX_RELAY_DEMANDS;
use crate::media::Limit;

/// The owner and the name of a source, to look it up.
#[derive(Hash)]
struct Named<'a>(EndpointId, &'a str);

impl Equivalent<(EndpointId, String)> for Named<'_> {
    fn equivalent(&self, (owner, name): &(EndpointId, String)) -> bool {
        self.0 == *owner && self.1 == name
    }
}

/// What only relays have.
#[derive(Debug)]
pub struct Relay {
    mesh: MeshId,
    /// What those behind it want, by the owner and the name of the source: it may be said before the source is known.
    demands: HashMap<(EndpointId, String), Limit, foldhash::fast::RandomState>,
}

impl Relay {
    /// A relay of a mesh, of which nobody wants anything.
    pub fn new(mesh: MeshId) -> Self {
        Self { mesh, demands: HashMap::default() }
    }

    /// The mesh that it belongs to.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Notes what those behind it want of a source; false when there is no room for one more.
    pub fn set_demand(&mut self, owner: EndpointId, source: String, height: Limit) -> bool {
        let has_room = self.demands.len() < MAX_RELAY_DEMANDS;
        let key = (owner, source);
        let room = has_room || self.demands.contains_key(&key);
        if room {
            self.demands.insert(key, height);
        }
        room
    }

    /// What those behind it want of a source; none before they said so.
    pub fn demand(&self, owner: EndpointId, source: &str) -> Option<Limit> {
        self.demands.get(&Named(owner, source)).copied()
    }

    /// An endpoint is gone, and its sources with it.
    pub fn forget(&mut self, owner: EndpointId) {
        self.demands.retain(|(of, _), _| *of != owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_are_bounded_replaced_and_forgotten_with_their_owner() {
        let mut relay = Relay::new(MeshId(0));
        for n in 0..MAX_RELAY_DEMANDS as u32 {
            assert!(relay.set_demand(EndpointId(n % 2), n.to_string(), Limit::Unlimited));
        }
        assert!(!relay.set_demand(EndpointId(0), "more".to_owned(), Limit::Unlimited));
        assert!(relay.set_demand(EndpointId(0), "2".to_owned(), Limit::Off));
        assert_eq!((relay.demand(EndpointId(0), "2"), relay.demand(EndpointId(0), "more")), (Some(Limit::Off), None));
        relay.forget(EndpointId(1));
        assert_eq!((relay.demand(EndpointId(1), "3"), relay.demand(EndpointId(0), "2")), (None, Some(Limit::Off)));
        assert!(relay.set_demand(EndpointId(0), "more".to_owned(), Limit::Unlimited));
    }
}
