//! The nodes and links of a conference, and the requests that follow from their changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::colibri::elements::IceTransport;
use crate::focus::limits::IMPLAUSIBLE;

/// Endpoints in one request to a relay. A stanza of the whole conference would be longer than servers let pass.
pub(super) const ENDPOINTS_PER_REQUEST: usize = 40;

/// A bridge of the conference, for as long as it takes part without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(in crate::focus) struct NodeId(u64);

/// A relay between two bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(in crate::focus) struct LinkId(u64);

/// A full mesh of bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(in crate::focus) struct MeshId(u32);

impl MeshId {
    /// That of the bridges of participants.
    pub const CORE: Self = Self(0);

    /// As signalled to bridges.
    pub fn as_text(self) -> String {
        self.0.to_string()
    }
}

/// Where a bridge comes into the conference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::focus) enum Place {
    /// It is linked to every bridge of that mesh.
    Mesh(MeshId),
    /// It is linked to one bridge alone, in a mesh of their own.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the bridges of visitors, who share those of the others today")
    )]
    Beside(NodeId),
}

/// What a bridge is to be asked about one of its relays.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::focus) struct Order {
    /// The bridge.
    pub to: NodeId,
    /// The bridge at the other end, and the name under which it is reached.
    pub peer: NodeId,
    pub relay_id: String,
    pub link: LinkId,
    pub what: What,
}

/// What became of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::focus) enum Change {
    /// It is new.
    Create,
    /// It has other sources.
    Update,
    /// It is gone.
    Expire,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::focus) enum What {
    /// A new relay, with those who are behind it. The bridge answers with its transport.
    Create { mesh: MeshId, initiator: bool, endpoints: Vec<String> },
    /// The transport of the other end.
    Transport { initiator: bool, transport: Box<IceTransport> },
    /// Endpoints behind the relay that are new, have other sources, or are gone.
    Endpoints { change: Change, endpoints: Vec<String> },
    /// The end of the relay.
    Expire,
}

/// One side of a link.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct End {
    node: NodeId,
    /// The endpoints that were announced to its bridge on this relay; none before it was asked for the relay.
    announced: Option<BTreeSet<String>>,
}

/// A relay: the first end is the initiator.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Link {
    mesh: MeshId,
    ends: [End; 2],
}

impl Link {
    fn end(&self, node: NodeId) -> Option<usize> {
        self.ends.iter().position(|end| end.node == node)
    }

    fn peer(&self, node: NodeId) -> Option<NodeId> {
        self.end(node).map(|end| self.ends[1 - end].node)
    }
}

/// A bridge of the conference.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Node {
    /// Under which name other bridges reach it.
    relay_id: String,
    /// The mesh that it came into.
    home: MeshId,
    /// Who is on it and is to be known to the others.
    endpoints: BTreeSet<String>,
}

/// The bridges of one conference and their links.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(in crate::focus) struct Cascade {
    nodes: BTreeMap<NodeId, Node>,
    links: BTreeMap<LinkId, Link>,
    orders: VecDeque<Order>,
    next_node: u64,
    next_link: u64,
    next_mesh: u32,
}

impl Cascade {
    /// Whether links are between bridges that take part, and no number will be given out twice.
    pub fn is_sound(&self) -> bool {
        let nodes = self.nodes.last_key_value().is_none_or(|(node, _)| node.0 <= self.next_node);
        let links = self.links.last_key_value().is_none_or(|(link, _)| link.0 <= self.next_link);
        let meshes = self.links.values().map(|link| link.mesh).chain(self.nodes.values().map(|node| node.home));
        let ends = self.links.values().flat_map(|link| &link.ends);
        let counts = self.next_node < IMPLAUSIBLE && self.next_link < IMPLAUSIBLE && self.next_mesh < u32::MAX / 2;
        let mut meshes = meshes.map(|mesh| mesh.0);
        counts
            && nodes
            && links
            && meshes.all(|mesh| mesh <= self.next_mesh)
            && ends.map(|end| end.node).all(|node| self.nodes.contains_key(&node))
    }

    /// The next request, in the order in which they are to be sent.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// A bridge takes part from now on, with the endpoint `first` on it if that is to be known. Its conference has to be created
    /// before the requests that follow.
    pub fn add(&mut self, place: Place, relay_id: &str, first: Option<&str>) -> NodeId {
        self.next_node += 1;
        let id = NodeId(self.next_node);
        let (home, peers) = match place {
            Place::Mesh(mesh) => (mesh, self.mesh(mesh)),
            Place::Beside(node) => {
                self.next_mesh += 1;
                (MeshId(self.next_mesh), self.nodes.contains_key(&node).then_some(node).into_iter().collect())
            }
        };
        first.into_iter().for_each(|endpoint| self.take(endpoint));
        let endpoints = first.into_iter().map(str::to_owned).collect();
        self.nodes.insert(id, Node { relay_id: relay_id.to_owned(), home, endpoints });
        for peer in peers {
            self.insert_link(peer, id, home);
        }
        self.tell_all();
        id
    }

    /// Links a part that was cut off to another bridge, in a mesh of their own.
    pub fn connect(&mut self, initiator: NodeId, other: NodeId) {
        if initiator == other || self.component(initiator).contains(&other) || !self.nodes.contains_key(&other) {
            return;
        }
        self.next_mesh += 1;
        self.insert_link(initiator, other, MeshId(self.next_mesh));
        self.tell_all();
    }

    /// A bridge takes no part any more, and is not asked anything. Returns the parts that it held together, if there are
    /// several: they are to be linked anew.
    pub fn remove(&mut self, node: NodeId) -> Vec<BTreeSet<NodeId>> {
        let Some(Node { relay_id, .. }) = self.nodes.remove(&node) else { return Vec::new() };
        let of_it = |(id, link): (&LinkId, &Link)| Some((*id, link.peer(node)?));
        let gone: Vec<(LinkId, NodeId)> = self.links.iter().filter_map(of_it).collect();
        for (link, peer) in &gone {
            self.links.remove(link);
            self.orders.retain(|order| order.link != *link);
            let relay_id = relay_id.clone();
            self.orders.push_back(Order { to: *peer, peer: node, relay_id, link: *link, what: What::Expire });
        }
        self.tell_all();
        let mut parts: Vec<BTreeSet<NodeId>> = Vec::new();
        for (_, peer) in gone {
            if !parts.iter().any(|part| part.contains(&peer)) {
                parts.push(self.component(peer));
            }
        }
        if parts.len() > 1 { parts } else { Vec::new() }
    }

    /// An endpoint is on a bridge, and the others are to know it.
    pub fn place(&mut self, endpoint: &str, node: NodeId) {
        self.take(endpoint);
        let Some(home) = self.nodes.get_mut(&node) else { return };
        home.endpoints.insert(endpoint.to_owned());
        for (link, end) in self.paths_from(node) {
            if self.announced(link, end).is_some_and(|announced| announced.insert(endpoint.to_owned())) {
                self.order(link, end, Change::Create, vec![endpoint.to_owned()]);
            }
        }
    }

    /// An endpoint is on no bridge any more, or not to be known.
    pub fn take(&mut self, endpoint: &str) {
        let home = self.nodes.iter_mut().find_map(|(id, node)| node.endpoints.remove(endpoint).then_some(*id));
        let Some(node) = home else { return };
        for (link, end) in self.paths_from(node) {
            if self.announced(link, end).is_some_and(|announced| announced.remove(endpoint)) {
                self.order(link, end, Change::Expire, vec![endpoint.to_owned()]);
            }
        }
    }

    /// The sources of an endpoint are others now.
    pub fn changed(&mut self, endpoint: &str) {
        let home = self.nodes.iter().find(|(_, node)| node.endpoints.contains(endpoint)).map(|(id, _)| *id);
        let Some(node) = home else { return };
        for (link, end) in self.paths_from(node) {
            if self.announced(link, end).is_some_and(|announced| announced.contains(endpoint)) {
                self.order(link, end, Change::Update, vec![endpoint.to_owned()]);
            }
        }
    }

    /// The bridge `node` gave its transport for a link: the other end is to have it.
    pub fn answered(&mut self, link: LinkId, node: NodeId, transport: IceTransport) {
        let Some(known) = self.links.get(&link) else { return };
        let Some(end) = known.end(node) else { return };
        self.push(link, 1 - end, What::Transport { initiator: end == 1, transport: Box::new(transport) });
    }

    /// Whether a link still is.
    pub fn has_link(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// Whether no bridge takes part.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a mesh has bridges.
    #[cfg(test)]
    pub fn has_mesh(&self, mesh: MeshId) -> bool {
        !self.mesh(mesh).is_empty()
    }

    /// The bridges that a bridge is linked to.
    pub fn neighbours(&self, node: NodeId) -> BTreeSet<NodeId> {
        self.links.values().filter_map(|link| link.peer(node)).collect()
    }

    /// The bridges of a mesh; a lonely one is in that which it came into.
    fn mesh(&self, mesh: MeshId) -> BTreeSet<NodeId> {
        let linked = self.links.values().filter(|link| link.mesh == mesh).flat_map(|link| &link.ends);
        let home = self.nodes.iter().filter(|(_, node)| node.home == mesh).map(|(id, _)| *id);
        linked.map(|end| end.node).chain(home).collect()
    }

    fn insert_link(&mut self, initiator: NodeId, other: NodeId, mesh: MeshId) {
        self.next_link += 1;
        let link = LinkId(self.next_link);
        let end = |node| End { node, announced: None };
        self.links.insert(link, Link { mesh, ends: [end(initiator), end(other)] });
    }

    fn announced(&mut self, link: LinkId, end: usize) -> Option<&mut BTreeSet<String>> {
        self.links.get_mut(&link)?.ends.get_mut(end)?.announced.as_mut()
    }

    /// Everybody who is connected with a bridge.
    fn component(&self, node: NodeId) -> BTreeSet<NodeId> {
        let (mut seen, mut open) = (BTreeSet::from([node]), vec![node]);
        while let Some(node) = open.pop() {
            open.extend(self.neighbours(node).into_iter().filter(|next| seen.insert(*next)));
        }
        seen
    }

    /// The ends at which the endpoints of a bridge appear: a packet leaves no bridge by the mesh by which it came.
    fn paths_from(&self, node: NodeId) -> Vec<(LinkId, usize)> {
        let (mut ends, mut seen) = (Vec::new(), BTreeSet::from([node]));
        let mut open: Vec<(NodeId, Option<MeshId>)> = vec![(node, None)];
        while let Some((node, by)) = open.pop() {
            for (id, link) in self.links.iter().filter(|(_, link)| Some(link.mesh) != by) {
                let Some(end) = link.end(node) else { continue };
                let next = link.ends[1 - end].node;
                if seen.insert(next) {
                    ends.push((*id, 1 - end));
                    open.push((next, Some(link.mesh)));
                }
            }
        }
        ends
    }

    /// Brings what is announced to each bridge up to date, after links came or went.
    fn tell_all(&mut self) {
        let mut wanted: BTreeMap<(LinkId, usize), BTreeSet<String>> = BTreeMap::new();
        for (id, node) in &self.nodes {
            for at in self.paths_from(*id) {
                wanted.entry(at).or_default().extend(node.endpoints.iter().cloned());
            }
        }
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for at in links.into_iter().flat_map(|link| [(link, 0), (link, 1)]) {
            self.tell(at, wanted.remove(&at).unwrap_or_default());
        }
    }

    fn tell(&mut self, (link, end): (LinkId, usize), wanted: BTreeSet<String>) {
        let Some(known) = self.links.get_mut(&link) else { return };
        let mesh = known.mesh;
        let Some(at) = known.ends.get_mut(end) else { return };
        let before = at.announced.replace(wanted.clone());
        let missing = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
        match before {
            Some(before) => {
                self.order(link, end, Change::Expire, missing(&before, &wanted));
                self.order(link, end, Change::Create, missing(&wanted, &before));
            }
            None => {
                let mut endpoints: Vec<String> = wanted.into_iter().collect();
                let further = endpoints.split_off(endpoints.len().min(ENDPOINTS_PER_REQUEST));
                self.push(link, end, What::Create { mesh, initiator: end == 0, endpoints });
                self.order(link, end, Change::Create, further);
            }
        }
    }

    fn order(&mut self, link: LinkId, end: usize, change: Change, endpoints: Vec<String>) {
        for some in endpoints.chunks(ENDPOINTS_PER_REQUEST) {
            self.push(link, end, What::Endpoints { change, endpoints: some.to_vec() });
        }
    }

    fn push(&mut self, link: LinkId, end: usize, what: What) {
        let Some(ends) = self.links.get(&link).map(|link| &link.ends) else { return };
        let (Some(to), Some(peer)) = (ends.get(end), ends.get(1 - end)) else { return };
        let (to, peer) = (to.node, peer.node);
        let Some(relay_id) = self.nodes.get(&peer).map(|node| node.relay_id.clone()) else { return };
        self.orders.push_back(Order { to, peer, relay_id, link, what });
    }
}
