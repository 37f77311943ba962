//! Which connection of an endpoint counts, and clients that do not read.

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::messages::Bandwidth;
use tokio::sync::mpsc::error::TryRecvError;

use super::Fixture;
use crate::bridge::messages::ToClient;
use crate::channel::limits::{QUEUED, QUEUED_OF_OTHERS};
use crate::channel::{ChannelOut, ClientMessage, Counted, outbox};

const A: EndpointId = EndpointId(1);

#[test]
fn a_new_connection_replaces_the_former_one() {
    let mut fixture = Fixture::new(0);
    fixture.insert(1, false);
    let ((old, mut first), (new, mut second)) = (outbox(), outbox());
    let hello = |fixture: &mut Fixture, connection| {
        fixture.actions();
        fixture.endpoints.handle_websocket_message(fixture.now, A, connection, ClientMessage::ClientHello);
        fixture.messages() == [(1, ToClient::ServerHello)]
    };
    fixture.open_with(A, 1, old);
    assert!(hello(&mut fixture, 1));
    fixture.open_with(A, 2, new);
    assert_eq!(first.try_recv(), Err(TryRecvError::Disconnected));
    fixture.endpoints.handle_websocket_closed(A, 1);
    assert!(!hello(&mut fixture, 1) && hello(&mut fixture, 2), "the former one has no say");
    assert_eq!(fixture.endpoints.counters().websocket_messages_received, 2);
    assert_eq!((fixture.endpoints.websockets(), fixture.endpoints.admitted()), (1, 1));
    // With the endpoint everything goes.
    fixture.endpoints.remove(A);
    assert_eq!(second.try_recv(), Ok(ChannelOut::Close));
    assert_eq!((fixture.endpoints.websockets(), fixture.endpoints.admitted()), (0, 0));
    // One that connected meanwhile finds nobody.
    let (late, mut third) = outbox();
    fixture.open_with(A, 3, late);
    assert_eq!(third.try_recv(), Ok(ChannelOut::Close));
    assert_eq!(fixture.actions(), []);
    assert_eq!(fixture.endpoints.inconsistency(), None);
}

#[test]
fn a_client_that_does_not_read_loses_others_first_then_its_connection() {
    let mut fixture = Fixture::new(0);
    fixture.insert(1, false);
    let (sender, mut client) = outbox();
    fixture.open_with(A, 1, sender);
    fixture.actions();
    let of_others = ToClient::Forwarded(Utf8Bytes::from("x".repeat(60_000)));
    let ours = ToClient::ForwardedSources(vec!["x".repeat(60_000)]);
    let endpoints = &mut fixture.endpoints;
    for _ in 0..1_000 {
        endpoints.send_over_websocket(A, of_others.clone());
    }
    let sent = endpoints.counters().websocket_messages_sent;
    assert!(sent as usize <= QUEUED_OF_OTHERS / 60_000 && endpoints.websockets() == 1);
    assert_eq!(endpoints.channel_counters.get(Counted::Unread), 1_000 - sent);
    endpoints.send_over_websocket(A, ToClient::ServerHello);
    assert_eq!(endpoints.counters().websocket_messages_sent, sent + 1, "what the bridge says still finds room");
    let cut = (0..1_000).take_while(|_| {
        endpoints.send_over_websocket(A, ours.clone());
        endpoints.websockets() == 1
    });
    assert!(cut.count() < 1_000, "cut off in the end");
    assert_eq!(endpoints.channel_counters.get(Counted::Stalled), 1);
    let kept = endpoints.counters().websocket_messages_sent as usize;
    assert!((kept - 1) * 60_000 <= QUEUED, "all but one of them are big");
    let mut received = 0;
    while client.try_recv().is_ok() {
        received += 1;
    }
    assert_eq!((received, client.try_recv()), (kept, Err(TryRecvError::Disconnected)));
}

#[test]
fn the_way_to_an_endpoint_that_expired_is_shown_no_more() {
    let mut fixture = Fixture::new(1);
    fixture.endpoints.handle_bandwidth(A, Bandwidth::default());
    assert_eq!(fixture.endpoints.take_bandwidths().and_then(|shown| Some(shown.as_array()?.len())), Some(1));
    fixture.endpoints.remove(A);
    assert_eq!(fixture.endpoints.take_bandwidths(), Some(serde_json::json!([])));
}
