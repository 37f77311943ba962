//! `ringbridge top` without a terminal and without a bridge: pages and keys go in, the screen is compared.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ringbridge_controlplane::top::{Key, Model, Pages, Reading, Snapshot, View, draw, report};
use serde_json::{Value, json};

/// Counters of two workers that have run for so many seconds: worker 0 with 1,000 packets/s in, 3,000 out, a fifth of its
/// time; worker 1 idle. Drops: 2 unknown addresses a second on worker 0, 5 replays once on worker 1.
fn metrics(seconds: u64) -> Value {
    let mut all = serde_json::Map::new();
    let mut set = |name: &str, worker: usize, reason: &str, value: u64| {
        all.insert(format!("ringbridge_{name}{{worker=\"{worker}\",reason=\"{reason}\"}}"), value.into());
    };
    set("packets_received", 0, "", 1_000 * seconds);
    set("packets_sent", 0, "", 3_000 * seconds);
    set("bytes_received", 0, "", 125_000 * seconds);
    set("bytes_sent", 0, "", 375_000 * seconds);
    set("busy_nanoseconds", 0, "", 200_000_000 * seconds);
    set("syscalls", 0, "", 80 * seconds);
    set("handovers", 0, "", 0);
    set("shedding_level", 0, "", 0);
    set("dropped", 0, "unknown_address", 2 * seconds);
    set("dropped", 0, "srtp_replay", 0);
    set("dropped", 0, "no_path", 0);
    for name in ["packets_received", "packets_sent", "bytes_received", "bytes_sent", "busy_nanoseconds"] {
        set(name, 1, "", 0);
    }
    set("dropped", 1, "unknown_address", 0);
    set("dropped", 1, "srtp_replay", 5);
    all.insert("jitsi_jvb_conferences".to_owned(), 1.into());
    all.into()
}

fn endpoint(number: u64, stats_id: &str, more: Value) -> Value {
    let mut all = json!({
        "id": "ignored", "stats_id": stats_id, "number": number, "worker": 0, "active": true,
        "ice_connected": true, "dtls_connected": true, "channel": { "used": "WebSocket" },
        "sources": [{ "type": "audio" }, { "type": "video" }], "forwarded_sources": ["x-v0"],
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    all
}

fn relay(dead_for_seconds: Value, channel: bool, endpoints: Value) -> Value {
    json!({ "id": "ignored", "number": 9, "worker": 1, "mesh_id": "0", "ice_established": true, "ice_connected": true,
            "dtls_connected": true, "channel": channel, "dead_for_seconds": dead_for_seconds, "endpoints": endpoints })
}

fn behind(wanted: Value) -> Value {
    json!({ "id": "ignored", "sources": [], "connection": { "active": true, "wanted_of_it": wanted } })
}

/// A call of three of which one is silent and one has only begun.
fn pages(seconds: u64) -> Pages {
    let debug = json!({
        "shutdown_state": "RUNNING", "drain": false,
        "load_management": { "stress": "0.25" },
        "health": { "success": true, "message": null },
        "conferences": {
            "1f2e": {
                "name": "standup@conference.meet.test", "meeting_id": "m-1", "workers": [0, 1],
                "endpoints": {
                    "aaaa1111": endpoint(1, "Ann-x1", json!({})),
                    "bbbb2222": endpoint(2, "Bob-y2", json!({ "active": false })),
                    "cccc3333": endpoint(3, "Cid-z3", json!({
                        "active": null, "ice_connected": true, "dtls_connected": false,
                        "channel": { "used": null }, "sources": [], "forwarded_sources": [], "worker": 1,
                    })),
                },
            },
            "77ab": {
                "name": null, "meeting_id": "m-2", "workers": [1], "endpoints": {},
                "relays": {
                    "jvb2": relay(json!(null), true, json!({
                        "dddd4444": behind(json!({ "dddd4444-v0": 720, "dddd4444-v1": 0 })),
                        "eeee5555": behind(json!({ "eeee5555-v0": -1 })),
                    })),
                    "jvb3": relay(json!(17), true, json!({})),
                },
            },
        },
    });
    let path = |number: u64, estimate: Option<u64>, sent: u64, rtt: Option<u64>, loss: f64| {
        json!({ "number": number, "conference": "c1", "endpoint": "x", "estimate_bps": estimate,
                "target_bps": 1_500_000, "ideal_bps": 3_000_000, "sent_bps": sent, "rtt_ms": rtt, "loss": loss })
    };
    Pages {
        stats: json!({ "version": "9.8.7", "muc_clients_connected": 1, "muc_clients_configured": 2 }),
        metrics: metrics(seconds),
        debug,
        bandwidth: json!([path(1, Some(2_400_000), 1_200_000, Some(23), 0.012), path(2, None, 0, None, 0.25)]),
    }
}

fn reading(seconds: u64) -> Reading {
    Reading::new(pages(seconds)).expect("pages of ours")
}

/// A model that saw the bridge at 10 and at 12 seconds.
fn model() -> (Model, Instant) {
    let now = Instant::now();
    let mut model = Model::new("127.0.0.1:8080");
    model.handle_reading(now, Ok(reading(10)));
    model.handle_reading(now + Duration::from_secs(2), Ok(reading(12)));
    (model, now + Duration::from_secs(2))
}

fn screen(model: &Model, now: Instant) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(132, 12)).expect("a terminal in memory");
    terminal.draw(|frame| draw(frame, model, now)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..buffer.area.height).map(line).collect()
}

#[test]
fn workers_and_the_rates_between_two_readings() {
    let (model, now) = model();
    let screen = screen(&model, now);
    assert_eq!(screen[0], "ringbridge 9.8.7 at 127.0.0.1:8080  healthy  stress 0.25  xmpp 1/2");
    let traffic = "conferences 2  endpoints 3  in 1.00k p/s 1.00M bit/s  out 3.00k p/s 3.00M bit/s  drops 2/s";
    assert!(screen[1].starts_with(traffic), "{}", screen[1]);
    assert_eq!(screen[2], " 1 workers   2 drops   3 conferences   4 endpoints   5 relays");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(screen[3].trim_start().starts_with("worker^"), "{}", screen[3]);
    assert_eq!(words(&screen[4]), ["0", "20.0", "1.00k", "3.00k", "1.00M", "3.00M", "2.0", "0", "0.020", "0"]);
    assert_eq!(words(&screen[5]), ["1", "0.0", "0", "0", "0", "0", "0", "0", "-", "0"]);
}

#[test]
fn drops_conferences_and_endpoints() {
    let (mut model, now) = model();
    model.handle_key(Key::NextView);
    let drops = screen(&model, now);
    let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(row(&drops[3]), "reason per sv total most on worker");
    // The largest rate comes first; what never happened is not there.
    assert_eq!(row(&drops[4]), "unknown_address 2.0 24 0 (100 %)");
    assert_eq!(row(&drops[5]), "srtp_replay 0 5 1 (100 %)");
    assert_eq!(drops[6], "");
    model.handle_key(Key::NextView);
    let conferences = screen(&model, now);
    assert_eq!(row(&conferences[4]), "standup@conference.meet.test 1f2e 3 1 2 2 1.20M 2.40M 0,1");
    assert_eq!(row(&conferences[5]), "m-2 77ab 0 0 0 0 0 0 1");
    model.handle_key(Key::View(View::Endpoints));
    let endpoints = screen(&model, now);
    assert_eq!(row(&endpoints[4]), "aaaa1111 Ann-x1 1f2e 0 media ws 1+1 1 1.20M 1.50M 3.00M 2.40M 23 1.2");
    assert_eq!(row(&endpoints[5]), "bbbb2222 Bob-y2 1f2e 0 silent ws 1+1 1 0 1.50M 3.00M - - 25.0");
    assert_eq!(row(&endpoints[6]), "cccc3333 Cid-z3 1f2e 1 ice none 0+0 0 - - - - - -");
    // The dead one comes first; what is wanted with height 0 is not wanted.
    model.handle_key(Key::NextView);
    let relays = screen(&model, now);
    assert_eq!(row(&relays[3]), "relay conference mesh worker state channel behind wanted dead sv");
    assert_eq!(row(&relays[4]), "jvb3 77ab 0 1 dead open 0 0 17");
    assert_eq!(row(&relays[5]), "jvb2 77ab 0 1 media open 2 2 -");
    assert_eq!(relays[6], "");
}

#[test]
fn how_far_a_relay_got() {
    let shown = |relay: Value| {
        let mut pages = pages(10);
        pages.debug["conferences"] =
            json!({ "1": { "meeting_id": "m", "endpoints": {}, "relays": { "jvb2": relay } } });
        let reading = Reading::new(pages).expect("pages of ours");
        let row = Snapshot::new(None, Instant::now(), &reading).relays.remove(0);
        (row.state, row.channel)
    };
    assert_eq!(shown(json!({ "worker": 0 })), ("new", false));
    assert_eq!(shown(json!({ "worker": 0, "ice_connected": true, "channel": false })), ("ice", false));
    assert_eq!(shown(relay(json!(null), false, json!({}))), ("media", false));
    assert_eq!(shown(relay(json!(8), true, json!({}))), ("dead", true));
    assert_eq!(shown(json!({ "worker": 0, "channel": { "used": "WebSocket" } })), ("new", true));
}

#[test]
fn keys_sort_move_and_end() {
    let (mut model, _) = model();
    model.handle_key(Key::View(View::Endpoints));
    let first = |model: &Model| model.rows()[0][0].text.clone();
    assert_eq!((first(&model), model.order()), ("aaaa1111".to_owned(), (0, false)));
    model.handle_key(Key::Reverse);
    assert_eq!(first(&model), "cccc3333");
    model.handle_key(Key::PreviousColumn); // around, to the last: loss, the largest first
    assert_eq!((first(&model), model.order()), ("bbbb2222".to_owned(), (13, true)));
    model.handle_key(Key::NextColumn);
    assert_eq!(model.order(), (0, true));
    // Every view keeps its own order and row.
    model.handle_key(Key::Up);
    assert_eq!(model.selected(), 0);
    model.handle_key(Key::Down);
    model.handle_key(Key::PageDown);
    assert_eq!(model.selected(), 2, "not beyond the last");
    model.handle_key(Key::PreviousView);
    assert_eq!((model.view(), model.selected(), model.order()), (View::Conferences, 0, (2, true)));
    model.handle_key(Key::View(View::Endpoints));
    assert_eq!((model.selected(), model.order()), (2, (0, true)));
    assert!(!model.ended());
    model.handle_key(Key::Quit);
    assert!(model.ended());
}

#[test]
fn a_selection_does_not_outlive_its_rows() {
    let (mut model, now) = model();
    model.handle_key(Key::View(View::Endpoints));
    model.handle_key(Key::PageDown);
    let mut left = pages(14);
    left.debug["conferences"] = json!({});
    model.handle_reading(now, Reading::new(left).map_err(|error| error.to_string()));
    assert_eq!((model.selected(), model.rows().len()), (0, 0));
    assert!(screen(&model, now)[4].is_empty());
}

#[test]
fn a_bridge_that_cannot_be_read_is_one_line_and_what_was_seen_stays() {
    let now = Instant::now();
    let mut model = Model::new("127.0.0.1:8080");
    model.handle_reading(now, Err("cannot read http://127.0.0.1:8080/metrics: connection refused".to_owned()));
    let empty = screen(&model, now);
    assert_eq!(empty[0], "ringbridge at 127.0.0.1:8080: nothing read yet");
    assert_eq!(empty[10], "cannot read http://127.0.0.1:8080/metrics: connection refused");
    let (mut model, now) = self::model();
    model.handle_reading(now, Err("gone".to_owned()));
    let stale = screen(&model, now + Duration::from_secs(7));
    assert!(stale[0].starts_with("ringbridge 9.8.7"), "{}", stale[0]);
    assert_eq!(stale[10], "gone (what is shown is 7 s old)");
    model.handle_reading(now + Duration::from_secs(8), Ok(reading(20)));
    assert_eq!(screen(&model, now)[10], "");
}

#[test]
fn held_means_held() {
    let (mut model, now) = model();
    model.handle_key(Key::Pause);
    model.handle_reading(now, Err("gone".to_owned()));
    model.handle_reading(now, Ok(reading(90)));
    assert_eq!(screen(&model, now)[10], "held; space goes on");
    model.handle_key(Key::Pause);
    // The rates are those of the whole time since.
    model.handle_reading(now + Duration::from_secs(4), Ok(reading(16)));
    assert_eq!(model.shown().and_then(|shown| shown.total.packets_in), Some(1_000.0));
}

#[test]
fn a_bridge_that_began_anew_has_no_rates_at_first() {
    let (mut model, now) = model();
    model.handle_reading(now + Duration::from_secs(1), Ok(reading(1)));
    let total = model.shown().map(|shown| shown.total).expect("read");
    assert_eq!((total.packets_in, total.bits_out), (None, None));
    model.handle_reading(now + Duration::from_secs(2), Ok(reading(2)));
    assert_eq!(model.shown().and_then(|shown| shown.total.packets_in), Some(1_000.0));
    // And one with another number of workers is another one, whatever it counts.
    let mut other = pages(50);
    let of_worker_1 = |name: &String| name.contains("worker=\"1\"");
    other.metrics.as_object_mut().expect("an object").retain(|name, _| !of_worker_1(name));
    model.handle_reading(now + Duration::from_secs(3), Ok(Reading::new(other).expect("pages of ours")));
    assert_eq!(model.shown().and_then(|shown| shown.total.packets_in), None);
}

#[test]
fn what_is_wrong_stands_out() {
    let now = Instant::now();
    let mut sick = pages(10);
    sick.debug["health"] = json!({ "success": false, "message": "worker 1 has not turned for 8 s" });
    sick.debug["drain"] = json!(true);
    sick.debug["shutdown_state"] = json!("GRACEFUL_SHUTDOWN");
    let mut model = Model::new("bridge:8080");
    model.handle_reading(now, Reading::new(sick).map_err(|error| error.to_string()));
    let line = &screen(&model, now)[0];
    for word in ["unhealthy: worker 1 has not turned for 8 s", "draining", "GRACEFUL_SHUTDOWN"] {
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn once_as_text_and_as_json() {
    let now = Instant::now();
    let shown = Snapshot::new(Some(&(now, reading(10))), now + Duration::from_secs(2), &reading(12));
    let text = report("127.0.0.1:8080", &shown);
    assert!(
        text.starts_with("ringbridge 9.8.7 at 127.0.0.1:8080  healthy  RUNNING  stress 0.25  xmpp 1/2\n"),
        "{text}"
    );
    for part in [
        "\nworkers:\nworker  load %",
        "\ndrops:\nreason",
        "\nunknown_address    2.0     24  0 (100 %)\n",
        "\nconferences:\n",
        "\nendpoints:\n",
        "\nrelays:\nrelay  conference  mesh  worker  state  channel  behind  wanted  dead s\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json = serde_json::to_value(&shown).expect("JSON");
    assert_eq!(json["workers"][0]["load"], 0.2);
    assert_eq!(json["workers"][0]["packets_out"], 3_000.0);
    assert_eq!(
        json["drops"][1],
        json!({ "reason": "unknown_address", "per_second": 2.0, "total": 24.0, "most": [0, 24.0] })
    );
    assert_eq!(json["endpoints"][0]["estimate_bps"], 2_400_000.0);
    assert_eq!(json["total"]["packets_in"], 1_000.0);
}

#[test]
fn it_can_be_drawn_at_any_size() {
    let (mut model, now) = model();
    for view in View::ALL {
        model.handle_key(Key::View(view));
        for (width, height) in [(1, 1), (10, 3), (80, 24), (300, 5), (40, 200)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
            terminal.draw(|frame| draw(frame, &model, now)).expect("drawn");
        }
    }
}
