//! The servers that visitors are sent to: which are there, and which is the emptiest.

use jid::BareJid;

use crate::focus::settings::{VisitorNode, VisitorSettings};
use crate::focus::state_error::FocusStateError;

/// One of the visitor nodes, by its index in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct NodeId(usize);

/// What is known of one.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Node {
    online: bool,
    /// Visitors of all conferences.
    visitors: usize,
}

/// The visitor nodes; none where there are no visitors.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Nodes {
    #[serde(skip)]
    settings: Option<VisitorSettings>,
    nodes: Vec<Node>,
}

impl Nodes {
    /// None is online yet.
    pub fn new(settings: Option<VisitorSettings>) -> Self {
        let count = settings.as_ref().map_or(0, |settings| settings.nodes.len());
        Self { settings, nodes: vec![Node::default(); count] }
    }

    /// Goes on with the nodes as another process knows them.
    pub fn go_on_with(&mut self, other: Self) -> Result<(), FocusStateError> {
        let Self { settings: _, nodes } = self;
        if nodes.len() != other.nodes.len() {
            return Err(FocusStateError::Contradiction("there are other visitor nodes".to_owned()));
        }
        *nodes = other.nodes;
        Ok(())
    }

    /// How visitors are dealt with; none where there are none.
    pub fn settings(&self) -> Option<&VisitorSettings> {
        self.settings.as_ref()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, &VisitorNode)> {
        let nodes = self.settings.iter().flat_map(|settings| &settings.nodes);
        nodes.enumerate().map(|(place, node)| (NodeId(place), node))
    }

    /// One of them.
    pub fn get(&self, id: NodeId) -> Option<&VisitorNode> {
        self.settings.as_ref()?.nodes.get(id.0)
    }

    /// The one whose MUC service has that name.
    pub fn of_service(&self, domain: &str) -> Option<NodeId> {
        self.all().find(|(_, node)| node.service.domain().as_str() == domain).map(|(id, _)| id)
    }

    /// A main room's counterpart on a node.
    pub fn room_on(&self, id: NodeId, main: &BareJid) -> Option<BareJid> {
        Some(BareJid::from_parts(main.node(), self.get(id)?.service.domain()))
    }

    /// Whether we are connected to it.
    pub fn is_online(&self, id: NodeId) -> bool {
        self.nodes.get(id.0).is_some_and(|node| node.online)
    }

    /// It came or went.
    pub fn set_online(&mut self, id: NodeId, online: bool) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.online = online;
        }
    }

    /// Visitors of all conferences on it.
    pub fn visitors(&self, id: NodeId) -> usize {
        self.nodes.get(id.0).map_or(0, |node| node.visitors)
    }

    /// A visitor of some conference came to it.
    pub fn visitor_came(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.visitors += 1;
        }
    }

    /// Visitors of some conference are gone from it.
    pub fn visitors_left(&mut self, id: NodeId, count: usize) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.visitors = node.visitors.saturating_sub(count);
        }
    }

    /// Which node the next visitor of a conference is sent to. `used` are those that it has visitors on, or on their way to,
    /// with their number; `tried` are out of the question.
    ///
    /// As long as the emptiest one that it uses has room, that; then one that it does not use, the emptiest over all
    /// conferences; then again the emptiest that it uses: the bound of a node is a soft one.
    pub fn choose(&self, used: &[(NodeId, usize)], tried: &[NodeId]) -> Option<NodeId> {
        let most = self.settings.as_ref()?.max_per_node;
        let serves = |id: NodeId| self.is_online(id) && !tried.contains(&id);
        let emptiest = used.iter().filter(|(id, _)| serves(*id)).min_by_key(|(id, count)| (*count, *id));
        if let Some((id, _)) = emptiest.filter(|(_, count)| *count < most) {
            return Some(*id);
        }
        let unused = self.all().map(|(id, _)| id).filter(|id| serves(*id) && used.iter().all(|(other, _)| other != id));
        unused.min_by_key(|id| (self.visitors(*id), *id)).or(emptiest.map(|(id, _)| *id))
    }

    /// Its state, for operators.
    pub fn to_json(&self) -> serde_json::Value {
        let of = |(id, node): (NodeId, &VisitorNode)| {
            let state = serde_json::json!({ "online": self.is_online(id), "visitors": self.visitors(id) });
            (node.name.clone(), state)
        };
        self.all().map(of).collect::<serde_json::Map<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::xmpp::{Security, XmppSettings};

    fn nodes(count: usize) -> Nodes {
        let node = |place: usize| VisitorNode {
            name: format!("v{place}"),
            service: format!("conference.v{place}.meet.test").parse().expect("a service"),
            xmpp: XmppSettings {
                host: "127.0.0.1".into(),
                port: 5222,
                jid: format!("focus@auth.v{place}.meet.test").parse().expect("an account"),
                password: String::new(),
                resource: None,
                security: Security::Disabled,
                verify_certificate: true,
                ca_file: None,
                resumption: true,
            },
        };
        let mut nodes = Nodes::new(Some(VisitorSettings {
            max_participants: 1,
            max_per_node: 10,
            notification_interval: Duration::from_secs(15),
            join_latency: Duration::from_secs(60),
            broadcast: true,
            require_room_flag: false,
            live_room: false,
            nodes: (0..count).map(node).collect(),
        }));
        (0..count).for_each(|place| nodes.set_online(NodeId(place), true));
        nodes
    }

    #[test]
    fn the_emptiest_that_serves() {
        let mut nodes = nodes(3);
        let [a, b, c] = [NodeId(0), NodeId(1), NodeId(2)];
        (0..3).for_each(|_| nodes.visitor_came(a));
        assert_eq!(nodes.choose(&[], &[]), Some(b), "the emptiest of all");
        assert_eq!(nodes.choose(&[(a, 9)], &[]), Some(a), "a node in use, while it has room");
        assert_eq!(nodes.choose(&[(a, 9), (b, 2)], &[]), Some(b), "the emptiest of those in use");
        assert_eq!(nodes.choose(&[(a, 10)], &[]), Some(b), "then another");
        assert_eq!(nodes.choose(&[(a, 12), (b, 11), (c, 15)], &[]), Some(b), "then the emptiest, although it is full");
        nodes.set_online(b, false);
        assert_eq!(nodes.choose(&[(a, 12), (b, 11), (c, 15)], &[]), Some(a));
        assert_eq!(nodes.choose(&[(b, 1)], &[]), Some(c), "a node that is lost takes nobody");
        assert_eq!(nodes.choose(&[(b, 1)], &[c, a]), None);
        nodes.set_online(a, false);
        nodes.set_online(c, false);
        assert_eq!(nodes.choose(&[(a, 0)], &[]), None);
        assert_eq!(Nodes::new(None).choose(&[], &[]), None);
    }

    #[test]
    fn rooms_and_their_counterparts() {
        let nodes = nodes(2);
        let main = "room@conference.meet.test".parse().expect("a room");
        let there = nodes.room_on(NodeId(1), &main).expect("a node");
        assert_eq!(there.to_string(), "room@conference.v1.meet.test");
        assert_eq!(nodes.of_service(there.domain().as_str()), Some(NodeId(1)));
        assert_eq!(nodes.of_service("conference.meet.test"), None);
        assert_eq!(nodes.room_on(NodeId(2), &main), None);
    }
}
