//! Two conferences at once, up to twenty participants in each, joins and leaves in any order: after every step every client knows
//! the sources of all others, every room has one owner, and a real colibri2 state machine agrees; at the end nothing is left.

mod focus_world;

use std::collections::{BTreeMap, BTreeSet};

use focus_world::{World, owners};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_controlplane::colibri::bridge::{ColibriBridge, ColibriConfig, Output};
use ringbridge_controlplane::colibri::debug::{View, conferences};
use ringbridge_controlplane::colibri::transport::LocalTransport;
use ringbridge_dataplane::ice::IceState;

const ROOMS: [&str; 2] = ["one@conference.meet.test", "two@conference.meet.test"];
const MOST: usize = 20;
const JOINS: usize = 30;

struct Churn {
    world: World,
    /// What the requests of the focus come to.
    bridge: ColibriBridge,
    /// Requests that it was given.
    given: usize,
    /// Participants by room, in the order in which they came.
    present: BTreeMap<&'static str, Vec<String>>,
    joined: usize,
}

impl Churn {
    fn new() -> Self {
        let mut world = World::new();
        world.add_bridge("jvb1", &[]);
        let transport = LocalTransport {
            local_addresses: vec!["192.0.2.1".parse().expect("an address")],
            public_addresses: Vec::new(),
            advertise_private: true,
            port: 10_000,
            fingerprint: "AB:CD".to_owned(),
            websocket_base_url: "ws://192.0.2.1".to_owned(),
            relay_websocket_base_url: "ws://192.0.2.1".to_owned(),
            websocket_server_id: "jvb1".to_owned(),
        };
        let config = ColibriConfig {
            transport,
            workers: 2,
            spill_endpoints: 50,
            capacity: Default::default(),
            audio_ssrcs: 50,
            video_ssrcs: 50,
            sctp: true,
            relay: None,
            ice_restart: true,
            ufrag_prefix: |worker| worker.to_string(),
        };
        let bridge = ColibriBridge::new(world.now, config);
        Self { world, bridge, given: 0, present: ROOMS.map(|room| (room, Vec::new())).into(), joined: 0 }
    }

    fn join(&mut self, room: &'static str) {
        self.joined += 1;
        let nick = format!("p{}", self.joined);
        self.world.join(room, &nick, |_| {});
        self.present.get_mut(room).expect("a room").push(nick);
    }

    fn leave(&mut self, room: &'static str, index: usize) {
        let nick = self.present.get_mut(room).expect("a room").remove(index);
        self.world.leave(room, &nick);
    }

    fn pass(&mut self, seconds: u64) {
        self.world.pass(seconds);
    }

    /// The bridge's answer to everything that the focus asked of it since.
    fn follow(&mut self) {
        let requests = self.world.bridge("jvb1").requests[self.given..].to_vec();
        self.given += requests.len();
        for request in requests {
            self.bridge.handle(self.world.now, &request).unwrap_or_else(|refusal| panic!("{refusal:?}: {request:?}"));
        }
        self.bridge.handle_timeout(self.world.now);
        assert_eq!(self.bridge.inconsistency(), None);
        while let Some(output) = self.bridge.poll_output() {
            // Everybody connects and sends at once; who never does is expired after a minute.
            if let Output::EndpointCreated { endpoint, .. } = output {
                self.bridge.handle_ice(self.world.now, endpoint.id, IceState::Connected);
                self.bridge.handle_activity(self.world.now, endpoint.id, true);
            }
        }
    }

    /// Whose sources a client knows, by what was signalled to it.
    fn known(&mut self, room: &str, nick: &str) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        for jingle in &self.world.client(room, nick).jingles {
            match jingle.action.as_str() {
                "session-initiate" => known = owners(jingle).into_keys().collect(),
                "source-add" => known.extend(owners(jingle).into_keys()),
                "session-terminate" => known.clear(),
                "source-remove" => panic!("nobody took a source back"),
                _ => {}
            }
        }
        known.remove("jvb");
        known
    }

    /// Everything is as it should be.
    fn check(&mut self, what: &str) {
        self.follow();
        let (mut participants, mut rooms) = (0, 0);
        let shown = conferences(&self.bridge, View { full: true, ..View::default() }, |_| None).expect("all");
        for room in ROOMS {
            let present = self.present[room].clone();
            participants += present.len();
            rooms += usize::from(!present.is_empty());
            let owning: Vec<_> =
                present.iter().filter(|nick| self.world.client(room, nick).affiliation == "owner").collect();
            assert_eq!(owning.len(), usize::from(!present.is_empty()), "{what}: owners of {room}: {owning:?}");
            let here = shown.values().find(|conference| conference["name"] == room);
            let endpoints: BTreeSet<String> = here
                .map(|conference| conference["endpoints"].as_object().expect("a map").keys().cloned().collect())
                .unwrap_or_default();
            let all: BTreeSet<String> = present.iter().cloned().collect();
            if present.len() >= 2 {
                assert_eq!(endpoints, all, "{what}: endpoints of {room}");
            } else {
                // Who is left alone is kept for a while.
                assert!(endpoints.is_subset(&all), "{what}: {endpoints:?} of {room}");
            }
            for nick in &present {
                let mut others = all.clone();
                others.remove(nick);
                let known: BTreeSet<_> = self.known(room, nick).intersection(&others).cloned().collect();
                assert_eq!(known, others, "{what}: what {nick} knows of {room}");
                if let Some(endpoint) = here.map(|conference| &conference["endpoints"][nick]).filter(|e| !e.is_null()) {
                    let kinds: Vec<_> =
                        endpoint["sources"].as_array().expect("a list").iter().map(|s| &s["type"]).collect();
                    assert_eq!(kinds.len(), 2, "{what}: sources of {nick}: {kinds:?}");
                }
            }
        }
        let stats = self.world.focus.stats(self.world.now);
        assert_eq!((&stats["participants"], &stats["conferences"]), (&participants.into(), &rooms.into()), "{what}");
        assert_eq!(stats["total_participants"], self.joined, "{what}");
        let totals = self.bridge.totals();
        let endpoints: usize = shown.values().map(|c| c["endpoints"].as_object().expect("a map").len()).sum();
        assert_eq!((totals.conferences, totals.endpoints), (shown.len(), endpoints), "{what}");
        assert_eq!(totals.endpoints_sending_video, endpoints, "{what}");
        assert_eq!(totals.endpoints_sending_audio, endpoints, "{what}");
    }

    /// All that focus and bridge hold, timers included, with every number made equal.
    fn held(&self) -> String {
        let text = format!("{:?} {:?}", self.world.focus, self.bridge);
        // When endpoints were added within ten seconds; cleared with the next one.
        let (before, list) = text.split_once("added: [").expect("a bridge");
        let text = before.to_owned() + list.split_once(']').expect("an end").1;
        let mut held = String::new();
        for character in text.chars() {
            match character {
                '0'..='9' if held.ends_with('#') => {}
                '0'..='9' => held.push('#'),
                other => held.push(other),
            }
        }
        held
    }

    /// Thirty joins in each room and as many leaves, and time between them.
    fn round(&mut self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut left: BTreeMap<&'static str, usize> = ROOMS.map(|room| (room, JOINS)).into();
        let mut step = 0;
        loop {
            let able: Vec<_> =
                ROOMS.into_iter().filter(|room| left[room] > 0 || !self.present[room].is_empty()).collect();
            let Some(room) = able.get(random.random_range(0..able.len().max(1))).copied() else { break };
            step += 1;
            let count = self.present[room].len();
            // Rooms fill up before they empty.
            let join = left[room] > 0 && count < MOST && (count == 0 || random.random_bool(0.75));
            let what = if join {
                self.join(room);
                left.entry(room).and_modify(|left| *left -= 1);
                "a join"
            } else {
                self.leave(room, random.random_range(0..count));
                "a leave"
            };
            self.check(&format!("seed {seed}, step {step}, {what}"));
            if random.random_bool(0.2) {
                self.pass(random.random_range(0..40));
                self.check(&format!("seed {seed}, step {step}, a while later"));
            }
        }
        // Whatever is kept for a while.
        self.pass(600);
        self.check(&format!("seed {seed}, at the end"));
        let totals = self.bridge.totals();
        assert_eq!((totals.conferences, totals.endpoints), (0, 0));
        assert_eq!(totals.conferences_created, totals.conferences_completed);
    }
}

#[test]
fn any_order_of_joins_and_leaves_is_followed_and_leaves_nothing() {
    let mut churn = Churn::new();
    churn.round(0);
    let (held, largest) = (churn.held(), churn.world.clients.len());
    assert_eq!(largest, 0, "all have left");
    for seed in 1..6 {
        churn.round(seed);
        assert_eq!(churn.held(), held, "seed {seed}: more or less than after the first round");
    }
}

#[test]
fn a_page_that_is_reloaded_is_a_newcomer_to_all() {
    let mut churn = Churn::new();
    let room = ROOMS[0];
    for _ in 0..4 {
        churn.join(room);
    }
    churn.check("four are there");
    for turn in 0..8 {
        // The new page comes before the server misses the old one, or after.
        if turn % 2 == 0 {
            churn.join(room);
            churn.check("beside its former self");
            churn.leave(room, 0);
        } else {
            churn.leave(room, 0);
            churn.join(room);
        }
        churn.check("reloaded");
        assert_eq!(churn.present[room].len(), 4);
    }
}
