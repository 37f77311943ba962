//! The connection to another bridge, beside what it has in common with an endpoint: to which mesh it belongs, what those behind
//! it want, and which SSRCs go there.

use hashbrown::{Equivalent, HashMap};
use serde::{Deserialize, Serialize};

use crate::ids::{EndpointId, MeshId, SourceId, Ssrc};
use crate::limits::{MAX_RELAY_DEMANDS, RelayRtcpWork};
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
#[derive(Debug, Serialize, Deserialize)]
pub struct Relay {
    mesh: MeshId,
    /// What its RTCP may cost.
    rtcp_work: RelayRtcpWork,
    /// What those behind it want, by the owner and the name of the source: it may be said before the source is known.
    #[serde(with = "crate::carry::map")]
    demands: HashMap<(EndpointId, String), Limit, foldhash::fast::RandomState>,
    /// The sources that go there by all of their SSRCs, media and retransmission: no two may share one.
    #[serde(with = "crate::carry::map")]
    claimed: HashMap<Ssrc, SourceId, foldhash::fast::RandomState>,
}

impl Relay {
    /// A relay of a mesh, of which nobody wants anything.
    pub fn new(mesh: MeshId) -> Self {
        Self { mesh, rtcp_work: RelayRtcpWork::new(), demands: HashMap::default(), claimed: HashMap::default() }
    }

    /// What its RTCP may cost.
    pub fn rtcp_work(&mut self) -> &mut RelayRtcpWork {
        &mut self.rtcp_work
    }

    /// The mesh that it belongs to.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Records what those behind it want of a source; false when there is no room for one more.
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

    /// The source that goes there with an SSRC among its own.
    pub fn source_with(&self, ssrc: Ssrc) -> Option<SourceId> {
        self.claimed.get(&ssrc).copied()
    }

    /// Takes SSRCs for a source; false, and nothing is taken, when one of them is another source's, or named twice.
    pub fn claim(&mut self, source: SourceId, ssrcs: &[Ssrc]) -> bool {
        let taken = |(at, ssrc): (usize, &Ssrc)| {
            self.claimed.contains_key(ssrc) || ssrcs.get(..at).is_some_and(|before| before.contains(ssrc))
        };
        let free = !ssrcs.iter().enumerate().any(taken);
        if free {
            self.claimed.extend(ssrcs.iter().map(|ssrc| (*ssrc, source)));
        }
        free
    }

    /// A source does not go there any more.
    pub fn release(&mut self, source: SourceId) {
        self.claimed.retain(|_, of| *of != source);
    }

    /// An endpoint is gone, and its sources with it.
    pub fn forget(&mut self, owner: EndpointId) {
        self.demands.retain(|(of, _), _| *of != owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;

    #[test]
    fn no_two_sources_share_an_ssrc() {
        let mut relay = Relay::new(MeshId(0));
        let [one, two] = [0, 1].map(SourceId::new);
        let ssrcs = |list: &[u32]| -> Vec<Ssrc> { list.iter().copied().map(Ssrc::new).collect() };
        assert!(relay.claim(one, &ssrcs(&[1, 2])));
        assert!(!relay.claim(two, &ssrcs(&[3, 2])) && relay.source_with(Ssrc::new(3)).is_none());
        assert!(!relay.claim(two, &ssrcs(&[3, 4, 3])));
        relay.release(one);
        assert!(relay.claim(two, &ssrcs(&[3, 2])));
        assert_eq!((relay.source_with(Ssrc::new(2)), relay.source_with(Ssrc::new(1))), (Some(two), None));
    }

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
