//! The data channel between two bridges, in virtual time: one is the client, the other the server.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_controlplane::channel::{DataChannel, DataChannelOutput, NotSent};

const STEP: Duration = Duration::from_millis(20);

struct World {
    now: Instant,
    /// The client, the server.
    bridges: [DataChannel; 2],
    /// What each of them reported, packets apart.
    outputs: [Vec<DataChannelOutput>; 2],
    /// Share of packets that are lost.
    loss: f64,
    rng: StdRng,
}

impl World {
    fn new(loss: f64, seed: u64) -> Self {
        let mut world = Self {
            now: Instant::now(),
            bridges: [DataChannel::client(Default::default()), DataChannel::new(Default::default())],
            outputs: Default::default(),
            loss,
            rng: StdRng::seed_from_u64(seed),
        };
        world.bridges.iter_mut().for_each(|bridge| bridge.start(world.now));
        world
    }

    /// Lets time pass until `done`, for so many seconds at most.
    fn run(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            for from in 0..2 {
                while let Some(output) = self.bridges[from].poll_output() {
                    match output {
                        DataChannelOutput::Packet(packet) => {
                            if !self.rng.random_bool(self.loss) {
                                self.bridges[1 - from].handle_packet(self.now, &packet);
                            }
                        }
                        other => self.outputs[from].push(other),
                    }
                }
            }
            if done(self) {
                return true;
            }
            self.now += STEP;
            for bridge in &mut self.bridges {
                if bridge.poll_timeout().is_some_and(|at| at <= self.now) {
                    bridge.handle_timeout(self.now);
                }
            }
        }
        false
    }

    fn open(&self) -> bool {
        self.bridges.iter().all(DataChannel::is_open)
    }

    fn say(&mut self, from: usize, text: &str) {
        self.bridges[from].send(text).expect("open");
        self.bridges[from].handle_timeout(self.now);
    }

    fn heard(&self, by: usize, text: &str) -> bool {
        self.outputs[by].contains(&DataChannelOutput::Text(text.as_bytes().to_vec()))
    }
}

#[test]
fn either_side_is_told_when_it_is_open_and_messages_pass_both_ways() {
    let mut world = World::new(0.0, 0);
    assert_eq!(world.bridges[0].send("early"), Err(NotSent::Closed));
    assert!(world.run(1, |world| world.outputs.iter().all(|outputs| !outputs.is_empty())));
    assert_eq!(world.outputs, [vec![DataChannelOutput::Opened], vec![DataChannelOutput::Opened]]);
    world.say(0, "from the client");
    world.say(1, "from the server");
    assert!(world.run(1, |world| world.heard(1, "from the client") && world.heard(0, "from the server")));
    // Starting again changes nothing.
    let now = world.now;
    world.bridges.iter_mut().for_each(|bridge| bridge.start(now));
    assert!(!world.run(3, |world| !world.open()));
}

#[test]
fn loss_delays_it() {
    for seed in 0..10 {
        let mut world = World::new(0.3, seed);
        assert!(world.run(60, World::open), "seed {seed}");
        for n in 0..20 {
            world.say(n % 2, &format!("message {n}"));
        }
        let all = |world: &World| (0..20).all(|n| world.heard(1 - n % 2, &format!("message {n}")));
        assert!(world.run(120, all), "seed {seed}: {:?}", world.outputs);
    }
}

#[test]
fn the_client_waits_until_it_is_told_to_start() {
    let mut client = DataChannel::client(Default::default());
    assert_eq!((client.poll_output(), client.poll_timeout()), (None, None));
    client.handle_timeout(Instant::now());
    assert_eq!(client.poll_output(), None);
}

#[test]
fn a_server_that_is_there_later_is_found() {
    let mut world = World::new(1.0, 0);
    assert!(!world.run(20, World::open));
    world.loss = 0.0;
    assert!(world.run(5, World::open), "an INIT is repeated every three seconds at least");
}

#[test]
fn what_ends_is_begun_anew_by_the_client() {
    for case in ["the server forgets", "the server closes", "the client closes", "the client forgets"] {
        let mut world = World::new(0.0, 0);
        assert!(world.run(1, World::open));
        world.outputs = Default::default();
        match case {
            "the server forgets" => {
                world.bridges[1] = DataChannel::new(Default::default());
                // What the client says next finds nobody.
                world.say(0, "into the void");
            }
            "the server closes" => {
                world.bridges[1].close();
                let now = world.now;
                world.bridges[1].handle_timeout(now);
            }
            "the client closes" => {
                world.bridges[0].close();
                let now = world.now;
                world.bridges[0].handle_timeout(now);
            }
            _ => {
                world.bridges[0] = DataChannel::client(Default::default());
                let now = world.now;
                world.bridges[0].start(now);
            }
        }
        let again = |world: &World| world.open() && world.outputs[1].contains(&DataChannelOutput::Opened);
        assert!(world.run(40, again), "{case}: {:?}", world.outputs);
        let say = |world: &mut World, from: usize| world.say(from, case);
        say(&mut world, 0);
        say(&mut world, 1);
        assert!(world.run(2, |world| world.heard(0, case) && world.heard(1, case)), "{case}");
    }
}

#[test]
fn two_clients_do_not_meet_and_cost_little() {
    let mut world = World::new(0.0, 0);
    world.bridges[1] = DataChannel::client(Default::default());
    let now = world.now;
    world.bridges[1].start(now);
    assert!(!world.run(60, |world| world.bridges.iter().any(DataChannel::is_open)));
    assert_eq!(world.outputs, [vec![], vec![]]);
}
