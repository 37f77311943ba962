//! The state machine against bridges that do what they are asked, and refuse what a bridge would refuse.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::graph::{Change, ENDPOINTS_PER_REQUEST, Order};
use super::{Cascade, LinkId, MeshId, NodeId, Place, What};
use crate::colibri::elements::IceTransport;

/// What a bridge knows of one of its relays.
#[derive(Debug)]
struct Relay {
    link: LinkId,
    mesh: MeshId,
    initiator: bool,
    /// Who gave the transport of the other side, and in which role.
    transport: Option<(NodeId, bool)>,
    /// Endpoints behind it, and which sources of theirs are known.
    endpoints: BTreeMap<String, u32>,
}

/// The focus's state machine and bridges that apply its requests.
#[derive(Default)]
struct World {
    cascade: Cascade,
    /// Relays by the bridge at the other end.
    bridges: BTreeMap<NodeId, BTreeMap<NodeId, Relay>>,
    /// Where everybody is, and which sources they have.
    endpoints: BTreeMap<String, (NodeId, u32)>,
    /// Answers of bridges that are under way.
    answers: Vec<(LinkId, NodeId)>,
    requests: usize,
}

impl World {
    fn settle(&mut self) {
        while let Some(order) = self.cascade.poll_order() {
            self.requests += 1;
            self.apply(order);
        }
    }

    fn apply(&mut self, order: Order) {
        let relays = self.bridges.get_mut(&order.to).expect("only bridges of the conference are asked");
        let version = |endpoint: &String| self.endpoints.get(endpoint).map_or(0, |(_, version)| *version);
        match order.what {
            What::Create { mesh, initiator, endpoints } => {
                assert!(endpoints.len() <= ENDPOINTS_PER_REQUEST);
                let endpoints = endpoints.into_iter().map(|id| (id.clone(), version(&id))).collect();
                let relay = Relay { link: order.link, mesh, initiator, transport: None, endpoints };
                assert!(relays.insert(order.peer, relay).is_none(), "conflict: that relay exists");
                self.answers.push((order.link, order.to));
            }
            What::Transport { initiator, .. } => {
                let relay = relays.get_mut(&order.peer).expect("a relay that exists");
                assert_eq!((relay.link, relay.initiator), (order.link, initiator));
                relay.transport = Some((order.peer, initiator));
            }
            What::Endpoints { change, endpoints } => {
                assert!((1..=ENDPOINTS_PER_REQUEST).contains(&endpoints.len()));
                let relay = relays.get_mut(&order.peer).expect("a relay that exists");
                for id in endpoints {
                    let known = relay.endpoints.contains_key(&id);
                    assert_eq!(known, change != Change::Create, "{change:?} of {id}");
                    match change {
                        Change::Expire => relay.endpoints.remove(&id),
                        _ => relay.endpoints.insert(id.clone(), version(&id)),
                    };
                }
            }
            What::Expire => assert!(relays.remove(&order.peer).is_some(), "that relay exists"),
        }
    }

    fn add(&mut self, place: Place) -> NodeId {
        let node = self.cascade.add(place, "relay", None);
        self.bridges.insert(node, BTreeMap::new());
        self.settle();
        node
    }

    fn place(&mut self, endpoint: &str, node: NodeId) {
        self.endpoints.insert(endpoint.to_owned(), (node, 1));
        self.cascade.place(endpoint, node);
        self.settle();
    }

    fn leave(&mut self, endpoint: &str) {
        self.endpoints.remove(endpoint);
        self.cascade.take(endpoint);
        self.settle();
    }

    fn change(&mut self, endpoint: &str) {
        if let Some((_, version)) = self.endpoints.get_mut(endpoint) {
            *version += 1;
            self.cascade.changed(endpoint);
            self.settle();
        }
    }

    /// A bridge fails; what it held together is linked anew, each part to the first one.
    fn fail(&mut self, node: NodeId) {
        self.bridges.remove(&node);
        self.endpoints.retain(|_, (home, _)| *home != node);
        let parts = self.cascade.remove(node);
        self.settle();
        if let Some((first, others)) = parts.split_first() {
            for other in others {
                self.cascade.connect(*first.first().expect("a bridge"), *other.first().expect("a bridge"));
                self.settle();
            }
        }
    }

    fn answer(&mut self, which: usize) {
        if self.answers.is_empty() {
            return;
        }
        let (link, node) = self.answers.remove(which % self.answers.len());
        self.cascade.answered(link, node, IceTransport::default());
        self.settle();
    }

    /// Every bridge knows exactly the others' endpoints, each once, with the sources that they have.
    fn check(&self) {
        for (node, relays) in &self.bridges {
            let mut known: BTreeMap<&String, u32> = BTreeMap::new();
            for (peer, relay) in relays {
                let back = &self.bridges[peer][node];
                assert_eq!((back.link, back.mesh), (relay.link, relay.mesh), "both ends are of one link");
                assert_ne!(back.initiator, relay.initiator, "one of both begins");
                for (id, version) in &relay.endpoints {
                    assert!(known.insert(id, *version).is_none(), "{id} is behind one relay");
                }
            }
            let others = self.endpoints.iter().filter(|(_, (home, _))| home != node);
            assert_eq!(known, others.map(|(id, (_, version))| (id, *version)).collect(), "at {node:?}");
        }
    }

    /// All answers arrived: every relay has the other side's transport.
    fn check_transports(&mut self) {
        while !self.answers.is_empty() {
            self.answer(0);
        }
        for relays in self.bridges.values() {
            for (peer, relay) in relays {
                assert_eq!(relay.transport, Some((*peer, relay.initiator)));
            }
        }
    }
}

#[test]
fn the_second_bridge_is_linked_to_the_first() {
    let mut cascade = Cascade::default();
    let first = cascade.add(Place::Mesh(MeshId::CORE), "one", None);
    cascade.place("a", first);
    cascade.place("b", first);
    assert_eq!(cascade.poll_order(), None, "one bridge alone is asked nothing");
    let second = cascade.add(Place::Mesh(MeshId::CORE), "two", Some("c"));
    let orders = |cascade: &mut Cascade| std::iter::from_fn(|| cascade.poll_order()).collect::<Vec<_>>();
    let asked = orders(&mut cascade);
    let create = |initiator, endpoints: &[&str]| What::Create {
        mesh: MeshId::CORE,
        initiator,
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
    };
    // The one that was there first begins.
    let told: Vec<_> = asked.iter().map(|order| (order.to, order.peer, order.what.clone())).collect();
    assert_eq!(told, [(first, second, create(true, &["c"])), (second, first, create(false, &["a", "b"]))]);
    assert_eq!((asked[0].relay_id.as_str(), asked[1].relay_id.as_str()), ("two", "one"));
    cascade.place("d", second);
    let new = orders(&mut cascade);
    let endpoints = vec!["d".to_owned()];
    assert_eq!((new.len(), new[0].to), (1, first));
    assert_eq!(new[0].what, What::Endpoints { change: Change::Create, endpoints });
    // Its answer goes to the other one.
    cascade.answered(asked[0].link, first, IceTransport::default());
    let passed = orders(&mut cascade);
    assert_eq!((passed[0].to, passed[0].peer), (second, first));
    assert!(matches!(passed[0].what, What::Transport { initiator: false, .. }));
    // A late one goes nowhere.
    assert!(cascade.remove(second).is_empty());
    assert_eq!(orders(&mut cascade).iter().map(|order| &order.what).collect::<Vec<_>>(), [&What::Expire]);
    cascade.answered(asked[1].link, second, IceTransport::default());
    assert_eq!(cascade.poll_order(), None);
}

#[test]
fn a_bridge_between_two_meshes_passes_on_and_is_replaced() {
    let mut world = World::default();
    let core: Vec<NodeId> = (0..3).map(|_| world.add(Place::Mesh(MeshId::CORE))).collect();
    for (index, node) in core.iter().enumerate() {
        world.place(&format!("p{index}"), *node);
    }
    let edge = world.add(Place::Beside(core[1]));
    let far = world.add(Place::Beside(edge));
    world.place("v", far);
    world.check();
    assert_eq!(world.cascade.neighbours(edge), BTreeSet::from([core[1], far]));
    assert_eq!(world.bridges[&far][&edge].endpoints.len(), 3);
    assert_eq!(world.bridges[&core[0]][&core[1]].endpoints.len(), 2);
    // Those behind it are found again by another way.
    world.fail(core[1]);
    world.check();
    world.check_transports();
    assert_eq!(world.endpoints.len(), 3);
    world.fail(edge);
    world.check();
    world.check_transports();
}

#[test]
fn many_endpoints_are_told_in_several_requests() {
    let mut world = World::default();
    let first = world.add(Place::Mesh(MeshId::CORE));
    for index in 0..ENDPOINTS_PER_REQUEST * 3 + 1 {
        world.place(&format!("p{index}"), first);
    }
    assert_eq!(world.requests, 0);
    let second = world.add(Place::Mesh(MeshId::CORE));
    world.check();
    assert_eq!(world.requests, 2 + 3);
    world.fail(first);
    assert!(world.bridges[&second].is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Add(bool, usize),
    Join(u8, usize),
    Move(u8, usize),
    Leave(u8),
    Change(u8),
    Fail(usize),
    Answer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<bool>(), 0..8_usize).prop_map(|(beside, which)| Step::Add(beside, which)),
        6 => (0..12_u8, 0..8_usize).prop_map(|(who, which)| Step::Join(who, which)),
        1 => (0..12_u8, 0..8_usize).prop_map(|(who, which)| Step::Move(who, which)),
        3 => (0..12_u8).prop_map(Step::Leave),
        3 => (0..12_u8).prop_map(Step::Change),
        2 => (0..8_usize).prop_map(Step::Fail),
        4 => (0..8_usize).prop_map(Step::Answer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever comes, goes and fails, in whatever order bridges answer.
    #[test]
    fn every_bridge_knows_exactly_the_others(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::default();
        for step in steps {
            let nodes: Vec<NodeId> = world.bridges.keys().copied().collect();
            let node = |which: usize| nodes.get(which % nodes.len().max(1)).copied();
            match step {
                Step::Add(..) if nodes.len() >= 7 => {}
                Step::Add(true, which) if !nodes.is_empty() => {
                    world.add(Place::Beside(node(which).expect("a bridge")));
                }
                // The core may be gone; then one that is there stands in.
                Step::Add(_, which) => {
                    let core = world.cascade.is_empty() || world.cascade.has_mesh(MeshId::CORE);
                    world.add(if core { Place::Mesh(MeshId::CORE) } else { Place::Beside(node(which).expect("a bridge")) });
                }
                Step::Join(who, which) | Step::Move(who, which) => {
                    let id = format!("p{who}");
                    let there = world.endpoints.contains_key(&id);
                    if let Some(node) = node(which).filter(|_| !there || matches!(step, Step::Move(..))) {
                        world.place(&id, node);
                    }
                }
                Step::Leave(who) => world.leave(&format!("p{who}")),
                Step::Change(who) => world.change(&format!("p{who}")),
                Step::Fail(which) => {
                    if let Some(node) = node(which) {
                        world.fail(node);
                    }
                }
                Step::Answer(which) => world.answer(which),
            }
            world.check();
        }
        world.check_transports();
    }
}
