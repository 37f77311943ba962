//! A participant that floods the bridge channel of a conference in which nobody reads, against a real bridge and Prosody.

mod http;
mod jicofo;
mod prosody;

use ringbridge_dataplane::ids::WorkerId;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use jicofo::{Jicofo, create};
use prosody::Prosody;
use ringbridge_controlplane::bridge::run_on;
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_dataplane::link::links;
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// Resident memory of this process, which is the bridge too, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc(5)");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_to_thirty_that_do_not_read_costs_little() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let (link, mut worker) = links(WorkerId::new(0), 1024, 1024).unwrap();
    let stats = Arc::new(WorkerStats::default());
    let settings = server.bridge("ringbridge-1");
    let (rest, websocket) = (settings.rest_listen, settings.websocket_listen.expect("served"));
    let (_stop, stopped) = watch::channel(false);
    let counters = Arc::clone(&stats);
    tokio::spawn(async move {
        loop {
            counters.count(Counter::LoopTurns);
            while worker.poll_command().is_some() {}
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    tokio::spawn(run_on(settings, vec![(link, stats)], stopped));
    while jicofo.stat("healthy").await != "true" {}

    let mut clients = Vec::new();
    for n in 0..31 {
        let endpoints = vec![create(&format!("e{n}"))];
        let reply = jicofo.modify(ConferenceModify { create: n == 0, endpoints, ..ConferenceModify::new("m") }).await;
        let reply = reply.expect("allocated");
        let ice = reply.endpoints[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
        let path = ice.web_sockets[0].address().strip_prefix("ws://meet.test").expect("the configured base");
        clients.push(connect_async(format!("ws://{websocket}{path}")).await.expect("connects").0);
    }
    let before = resident();
    let mut flooding = clients.swap_remove(0);
    let flood = tokio::spawn(async move {
        let array = format!("[{}]", vec!["0"; 30_000].join(","));
        let text = format!(r#"{{"colibriClass":"EndpointMessage","to":"","msgPayload":{array}}}"#);
        let (mut sent, start) = (0, Instant::now());
        // 12 MB as fast as they are taken, then the same in small ones.
        while start.elapsed() < Duration::from_secs(7) {
            let message = if sent < 200 { text.clone() } else { r#"{"colibriClass":"EndpointStats"}"#.to_owned() };
            match timeout(Duration::from_millis(100), flooding.send(Message::text(message))).await {
                Ok(Ok(())) => sent += 1,
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => {}
            }
        }
        sent
    });
    let (mut most, mut slowest) = (0, Duration::ZERO);
    while !flood.is_finished() {
        let asked = Instant::now();
        assert!(http::get(rest, "/about/health").await.starts_with("HTTP/1.1 200"));
        slowest = slowest.max(asked.elapsed());
        most = most.max(resident().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sent = flood.await.expect("no panic");
    println!("{sent} messages taken, {} kB more at most, health after {slowest:?} at most", most / 1024);
    assert!(sent >= 20, "who floods is not cut off: {sent}");
    // With all that the sockets and clients of this process hold.
    assert!(most < 64 << 20, "{most} bytes more");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // Somebody who reads gets what is within the bounds.
    let mut reading = clients.pop().expect("one of thirty");
    let mut received = 0;
    while let Ok(Some(Ok(message))) = timeout(Duration::from_millis(500), reading.next()).await {
        received += usize::from(message.to_text().is_ok_and(|text| text.contains("EndpointMessage")));
    }
    assert!(received > 0);
}
