//! Which local socket is whose: those of the shared port are everybody's, and a relay to another bridge may have its own, where
//! nobody else is found and over which nobody else's checks go.

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::datagram::LocalSocket;
use crate::ids::EndpointId;

/// Most endpoints whose sockets were refused and that nobody asked to create since. Whoever has sockets refused asks at once.
const MAX_REFUSED: usize = 1_024;

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LocalSockets {
    #[serde(with = "crate::carry::shared_list")]
    shared: Arc<[LocalSocket]>,
    /// What each endpoint has of its own; nothing where that was refused.
    #[serde(with = "own")]
    own: FastMap<EndpointId, Arc<[LocalSocket]>>,
    #[serde(with = "crate::carry::map")]
    owners: FastMap<u16, EndpointId>,
    #[serde(with = "crate::carry::checked")]
    refused: usize,
    /// Sockets that nobody uses any more.
    closed: Vec<u16>,
}

/// The sockets of endpoints on their way.
mod own {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Arc, EndpointId, FastMap, LocalSocket};
    use crate::carry::shared_list::{Borrowed, Owned};

    type Own = FastMap<EndpointId, Arc<[LocalSocket]>>;

    pub fn serialize<S: Serializer>(own: &Own, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list: Vec<(EndpointId, Borrowed<'_, LocalSocket>)> =
            own.iter().map(|(endpoint, sockets)| (*endpoint, Borrowed(sockets))).collect();
        list.sort_unstable_by_key(|(endpoint, _)| *endpoint);
        list.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Own, D::Error> {
        let list = Vec::<(EndpointId, Owned<LocalSocket>)>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|(endpoint, sockets)| (endpoint, sockets.0)).collect())
    }
}

impl LocalSockets {
    pub fn new(shared: &[SocketAddr]) -> Self {
        let shared = LocalSocket::numbered(shared);
        Self { shared, own: FastMap::default(), owners: FastMap::default(), refused: 0, closed: Vec::new() }
    }

    /// Whether the shared ones are these, in this order.
    pub fn shares(&self, shared: &[SocketAddr]) -> bool {
        self.shared.iter().map(|socket| socket.address).eq(shared.iter().copied())
    }

    /// Whether a socket is one of the shared port.
    pub fn is_shared(&self, local: u16) -> bool {
        usize::from(local) < self.shared.len()
    }

    /// Sockets that belong to one endpoint each.
    pub fn held(&self) -> usize {
        self.owners.len()
    }

    /// Endpoints that must not be created, as they could not have their sockets.
    #[cfg(test)]
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// Gives sockets to an endpoint that is about to be created; none says that it must not be, as they were refused. False when it
    /// was given some, or none, before.
    pub fn give(&mut self, endpoint: EndpointId, sockets: &[LocalSocket]) -> bool {
        if self.own.contains_key(&endpoint) || sockets.is_empty() && self.refused >= MAX_REFUSED {
            return false;
        }
        self.refused += usize::from(sockets.is_empty());
        self.owners.extend(sockets.iter().map(|socket| (socket.local, endpoint)));
        self.own.insert(endpoint, sockets.into());
        true
    }

    /// These are to be closed.
    pub fn close(&mut self, sockets: &[LocalSocket]) {
        self.closed.extend(sockets.iter().map(|socket| socket.local));
    }

    /// What an endpoint may use: its own, or else the shared ones; nothing where its own were refused.
    pub fn of(&self, endpoint: EndpointId) -> Arc<[LocalSocket]> {
        Arc::clone(self.own.get(&endpoint).unwrap_or(&self.shared))
    }

    /// Whether an endpoint may use a socket.
    pub fn may_use(&self, endpoint: EndpointId, local: u16) -> bool {
        if self.is_shared(local) {
            !self.own.contains_key(&endpoint)
        } else {
            self.owners.get(&local) == Some(&endpoint)
        }
    }

    /// An endpoint has gone, or was not created: its own sockets are to be closed.
    pub fn take_back(&mut self, endpoint: EndpointId) -> bool {
        let Some(own) = self.own.remove(&endpoint) else { return false };
        self.refused -= usize::from(own.is_empty());
        for socket in own.iter() {
            self.owners.remove(&socket.local);
        }
        self.close(&own);
        true
    }

    /// A socket that nobody uses any more.
    pub fn poll_closed(&mut self) -> Option<u16> {
        self.closed.pop()
    }
}
