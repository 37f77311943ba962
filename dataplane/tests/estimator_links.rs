//! The estimator on thousands of seeded links, in virtual time.

mod link_sim;

use link_sim::{Demand, Link, Random, Sample, Simulation};

const SECOND: u64 = 1_000_000;

/// A link of 150 kbit/s to 12 Mbit/s, with whatever else links have.
fn any_link(random: &mut Random) -> Link {
    let rate = 150e3 * (80.0f64).powf(random.unit());
    Link {
        delay: random.below(100_000) + 2_000,
        queue: 150_000 + random.below(1_000_000),
        loss: if random.below(4) == 0 { random.between(0.0, 0.02) } else { 0.0 },
        ..Link::constant(rate)
    }
}

fn any_demand(random: &mut Random) -> Demand {
    let keyframes = (random.below(3) == 0).then(|| 100 + random.below(200));
    Demand { frame_rate: [15, 24, 30, 60][random.below(4) as usize], keyframes, ..Demand::GREEDY }
}

fn since(samples: &[Sample], at: u64) -> impl Iterator<Item = &Sample> {
    samples.iter().filter(move |s| s.at >= at)
}

/// Runs `check` on seeded links and says which failed; `RINGBRIDGE_LINKS=10` takes ten times as many.
fn on_links(count: u64, check: impl Fn(u64) -> Result<(), String>) {
    let times = std::env::var("RINGBRIDGE_LINKS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let count = count * times;
    let failed: Vec<(u64, String)> = (0..count).filter_map(|seed| check(seed).err().map(|e| (seed, e))).collect();
    for (seed, what) in failed.iter().take(12) {
        println!("seed {seed}: {what}");
    }
    assert!(failed.is_empty(), "{} of {count} links", failed.len());
}

/// Streams with keyframes five times as large as the other frames are a heavier burden: there the estimate may dip.
#[test]
fn a_constant_link_is_known_after_ten_seconds() {
    on_links(700, |seed| {
        let mut random = Random::new(seed);
        let (link, demand) = (any_link(&mut random), any_demand(&mut random));
        let rate = link.rate_at(0);
        let text = format!("{link:?} {demand:?}");
        let samples = Simulation::new(seed, link, demand).run(16 * SECOND);
        let shares = || since(&samples, 11 * SECOND).map(|s| s.estimate as f64 / rate);
        let (low, high) = (shares().fold(9.0, f64::min), shares().fold(0.0, f64::max));
        let mean = shares().sum::<f64>() / shares().count() as f64;
        let (least, least_mean) = if demand.keyframes.is_some() { (0.4, 0.6) } else { (0.6, 0.7) };
        // 105 %, in whole percent: on a slow link one packet of a window is more than one.
        if low >= least && mean >= least_mean && high < 1.055 {
            Ok(())
        } else {
            Err(format!("{low:.2} {mean:.2} {high:.2} {text}"))
        }
    });
}

/// Jitter blurs what there is to see: some probes look better than the path, some groups worse.
#[test]
fn a_jittery_link_is_known_roughly() {
    on_links(150, |seed| {
        let mut random = Random::new(seed + 5_000);
        let (link, demand) = (any_link(&mut random), any_demand(&mut random));
        let link = Link { jitter: random.below(30_000), ..link };
        let rate = link.rate_at(0);
        let text = format!("{link:?} {demand:?}");
        let samples = Simulation::new(seed, link, demand).run(16 * SECOND);
        let shares = || since(&samples, 11 * SECOND).map(|s| s.estimate as f64 / rate);
        let (low, high) = (shares().fold(9.0, f64::min), shares().fold(0.0, f64::max));
        let mean = shares().sum::<f64>() / shares().count() as f64;
        if low >= 0.4 && high <= 1.35 && (0.5..1.05).contains(&mean) {
            Ok(())
        } else {
            Err(format!("{low:.2} {mean:.2} {high:.2} {text}"))
        }
    });
}

#[test]
fn a_drop_is_followed_within_two_seconds_and_the_queue_drains_within_three() {
    on_links(300, |seed| {
        let mut random = Random::new(seed);
        let before = random.between(1.5e6, 6e6);
        let after = (before * random.between(0.1, 0.6)).max(200e3);
        let at = 12 * SECOND + random.below(SECOND);
        let link = Link {
            rate: vec![(0, before), (at, after)],
            delay: random.below(80_000) + 2_000,
            queue: 300_000 + random.below(1_200_000),
            ..Link::constant(0.0)
        };
        let demand = Demand { frame_rate: [15, 30][random.below(2) as usize], ..Demand::GREEDY };
        let text = format!("{link:?} {demand:?}");
        let samples = Simulation::new(seed, link, demand).run(20 * SECOND);
        let high = since(&samples, at + 2 * SECOND).map(|s| s.estimate as f64 / after).fold(0.0, f64::max);
        // A keyframe or a probe may make one frame wait.
        let queue: Vec<u64> = since(&samples, at + 3 * SECOND).map(|s| s.queue).collect();
        let standing: Vec<u64> = queue.windows(3).filter_map(|w| w.iter().min().copied()).collect();
        let (first, later) = standing.split_at(8);
        let most = |list: &[u64]| list.iter().max().copied().unwrap_or(0);
        let (first, later) = (most(first), most(later));
        if high <= 1.1 && first < 100_000 && later < 125_000 {
            Ok(())
        } else {
            Err(format!("{high:.2} {first} {later} {text}"))
        }
    });
}

/// A camera in layers beside three voices: once the link is narrow, what is left of it is found out and used.
#[test]
fn a_narrow_link_is_used_by_layers_beside_audio() {
    on_links(200, |seed| {
        let mut random = Random::new(seed);
        let audio = 1 + random.below(3);
        let at = 12 * SECOND + random.below(SECOND);
        let narrow = 300e3 + 96e3 + random.between(0.0, 300e3);
        let link = Link {
            rate: vec![(0, 3e6), (at, narrow)],
            delay: random.below(50_000) + 2_000,
            queue: 300_000 + random.below(600_000),
            ..Link::constant(0.0)
        };
        let free = narrow - 32e3 * audio as f64;
        let demand = Demand {
            audio,
            wanted: 2_300_000,
            frame_rate: 15,
            steps: &[60_000, 110_000, 160_000, 210_000, 260_000, 310_000, 500_000, 760_000, 2_100_000],
            ..Demand::GREEDY
        };
        let text = format!("{link:?} {demand:?}");
        let mut simulation = Simulation::new(seed, link, demand);
        simulation.run(at + 5 * SECOND - 1_000_000);
        let before = simulation.sent_bytes;
        let samples = simulation.run(12 * SECOND);
        let used = (simulation.sent_bytes - before) as f64 * 8.0 / 12.0 / free;
        let estimate = samples.iter().map(|s| s.estimate as f64).sum::<f64>() / samples.len() as f64 / free;
        if used >= 0.55 && estimate >= 0.7 {
            Ok(())
        } else {
            Err(format!("used {used:.2} estimate {estimate:.2} {text}"))
        }
    });
}

#[test]
fn the_return_of_a_link_is_found_within_ten_seconds() {
    on_links(200, |seed| {
        let mut random = Random::new(seed);
        let before = random.between(1e6, 4e6);
        let (down, up) = (10 * SECOND, 10 * SECOND + 8 * SECOND + random.below(10 * SECOND));
        let link = Link {
            rate: vec![(0, before), (down, before * random.between(0.1, 0.5)), (up, before)],
            delay: random.below(60_000) + 2_000,
            ..Link::constant(0.0)
        };
        let text = format!("{link:?}");
        let demand = Demand { wanted: (before * 1.1) as u64, ..Demand::GREEDY };
        let samples = Simulation::new(seed, link, demand).run(up + 12 * SECOND);
        let found = samples.iter().find(|s| s.at > up && s.estimate as f64 > before * 0.8).map(|s| s.at - up);
        match found {
            Some(after) if after <= 10 * SECOND => Ok(()),
            found => Err(format!("{found:?} {text}")),
        }
    });
}

/// Half of the link is wanted, and that much is allowed, whatever jitter and reordering do.
#[test]
fn jitter_and_reordering_cause_no_false_decrease() {
    on_links(200, |seed| {
        let mut random = Random::new(seed);
        let rate = random.between(1.2e6, 8e6);
        let link =
            Link { jitter: 50_000, reordered: 0.02, delay: 2_000 + random.below(80_000), ..Link::constant(rate) };
        let available = (rate * 0.5) as u64;
        let demand = Demand { wanted: available, available, ..Demand::GREEDY };
        let text = format!("{link:?}");
        let samples = Simulation::new(seed, link, demand).run(40 * SECOND);
        let low = since(&samples, 15 * SECOND).map(|s| s.budget as f64 / available as f64).fold(9.0, f64::min);
        if low >= 0.85 { Ok(()) } else { Err(format!("{low:.2} {text}")) }
    });
}

/// A camera on a wide link, when 50 ms of jitter begin: packets of a picture wait for the latest of them, so that each picture
/// is late by about as much, from one to the next.
#[test]
fn jitter_that_begins_is_no_queue() {
    on_links(300, |seed| {
        let mut random = Random::new(seed);
        let at = 6 * SECOND + random.below(2 * SECOND);
        let link = Link {
            jitter: 20_000 + random.below(30_001),
            jitter_from: at,
            in_order: random.below(4) != 0,
            reordered: 0.02,
            delay: 2_000 + random.below(80_000),
            ..Link::constant(20e6)
        };
        let available = 1_000_000 + random.below(1_200_000);
        let frame_rate = [15, 30][random.below(2) as usize];
        let demand = Demand { wanted: available, available, frame_rate, ..Demand::GREEDY };
        let text = format!("{link:?} {demand:?}");
        let samples = Simulation::new(seed, link, demand).run(30 * SECOND);
        // A camera's rate goes up and down by a quarter.
        let low = since(&samples, at).map(|s| s.budget as f64 / available as f64).fold(9.0, f64::min);
        if low >= 1.1 { Ok(()) } else { Err(format!("{low:.2} {text}")) }
    });
}

#[test]
fn random_loss_slows_down_as_little_as_it_does_goog_cc() {
    for (loss, least) in [(0.02, 0.7), (0.05, 0.55), (0.1, 0.25)] {
        on_links(60, |seed| {
            let mut random = Random::new(seed);
            let rate = random.between(0.5e6, 3e6);
            let link = Link { loss, delay: 2_000 + random.below(60_000), ..Link::constant(rate) };
            let samples = Simulation::new(seed, link, Demand::GREEDY).run(40 * SECOND);
            let shares: Vec<f64> = since(&samples, 15 * SECOND).map(|s| s.estimate as f64 / rate).collect();
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let low = shares.iter().fold(9.0, |a: f64, b| a.min(*b));
            if mean >= least { Ok(()) } else { Err(format!("{loss}: mean {mean:.2} low {low:.2} of {rate:.0}")) }
        });
    }
}

#[test]
fn a_short_outage_is_forgotten_at_once() {
    on_links(150, |seed| {
        let mut random = Random::new(seed);
        let rate = random.between(1e6, 5e6);
        let at = 12 * SECOND + random.below(SECOND);
        let link =
            Link { outage: Some((at, at + 300_000)), delay: 2_000 + random.below(60_000), ..Link::constant(rate) };
        let available = (rate * 0.6) as u64;
        let demand = Demand { wanted: available, available, ..Demand::GREEDY };
        let samples = Simulation::new(seed, link, demand).run(20 * SECOND);
        let late = since(&samples, at + 1_300_000).find(|s| s.budget < available * 9 / 10);
        match late {
            None => Ok(()),
            Some(s) => Err(format!("{} of {available} at {}", s.budget, s.at - at)),
        }
    });
}

/// A queue that others keep full does not starve a receiver.
#[test]
fn a_path_that_gets_longer_is_believed() {
    let mut simulation =
        Simulation::new(3, Link::constant(3e6), Demand { available: 1_000_000, wanted: 1_000_000, ..Demand::GREEDY });
    simulation.run(10 * SECOND);
    simulation.link.delay += 150_000;
    simulation.run(8 * SECOND);
    let samples = simulation.run(10 * SECOND);
    assert!(samples.iter().all(|s| s.budget >= 900_000), "{:?}", samples.iter().map(|s| s.budget).min());
}

#[test]
fn silence_of_the_feedback_lowers_the_rate() {
    let mut simulation = Simulation::new(3, Link::constant(3e6), Demand::GREEDY);
    simulation.run(5 * SECOND);
    let before = simulation.estimator.estimate().get();
    simulation.link.outage = Some((0, u64::MAX));
    simulation.run(2 * SECOND);
    let stuck = simulation.estimator.estimate().get();
    assert!(stuck < before * 7 / 10, "{before} {stuck}");
    simulation.link.outage = None;
    simulation.run(8 * SECOND);
    assert!(simulation.estimator.estimate().get() > 2_400_000, "{}", simulation.estimator.estimate().get());
}

/// What a pacer would bring: audio waits behind keyframes without one, and keyframes wait with one. The figures stand in
/// docs/decisions.md; the bridge has none.
#[test]
fn what_a_pacer_would_bring() {
    let mut rows = Vec::new();
    for pace in [None, Some(2.5), Some(1.25)] {
        let (mut audio, mut frames) = (Vec::new(), Vec::new());
        for seed in 0..40 {
            let rate = Random::new(seed).between(0.8e6, 4e6);
            let available = (rate * 0.7) as u64;
            let demand =
                Demand { keyframes: Some(150), audio: 1, pace, wanted: available, available, ..Demand::GREEDY };
            let mut simulation = Simulation::new(seed, Link::constant(rate), demand);
            simulation.run(10 * SECOND);
            simulation.audio_waits.clear();
            simulation.frame_times.clear();
            simulation.run(30 * SECOND);
            audio.append(&mut simulation.audio_waits);
            frames.append(&mut simulation.frame_times);
        }
        let at = |list: &mut Vec<u64>, share: f64| {
            list.sort_unstable();
            list[((list.len() - 1) as f64 * share) as usize] / 1000
        };
        let row = [
            at(&mut audio, 0.5),
            at(&mut audio, 0.95),
            at(&mut audio, 1.0),
            at(&mut frames, 0.5),
            at(&mut frames, 1.0),
        ];
        println!("pace {pace:?}: audio waits {:?} ms, frames take {:?} ms", &row[..3], &row[3..]);
        rows.push(row);
    }
    // Audio behind a keyframe: no more than the jitter that a browser's buffer takes in its stride.
    assert!(rows[0][1] < 60 && rows[0][2] < 250, "{rows:?}");
}
