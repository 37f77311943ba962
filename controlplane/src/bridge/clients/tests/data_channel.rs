//! The bridge channel over SCTP, with a client of its own.

use super::*;

/// A client with DTLS and SCTP of its own; the other end of endpoint 1.
struct Browser {
    dtls: DtlsSession,
    sctp: sctp_proto::Endpoint,
    handle: sctp_proto::AssociationHandle,
    association: sctp_proto::Association,
    secured: bool,
    received: Vec<String>,
}

impl Browser {
    fn new(fixture: &mut Fixture) -> Self {
        let id = EndpointId(1);
        let certificate = Certificate::generate().unwrap();
        let ours = fingerprints(&fixture.endpoints.certificate);
        let dtls = DtlsSession::new(fixture.now, &certificate, DtlsRole::Client, ours).unwrap();
        fixture.endpoints.handle_ice(fixture.now, id, IceState::Connected, false);
        fixture.endpoints.set_remote_dtls(fixture.now, id, Some(Setup::Active), fingerprints(&certificate));
        let mut sctp = sctp_proto::Endpoint::new(Default::default(), None);
        let peer = "127.0.0.1:5000".parse().unwrap();
        let (handle, association) = sctp.connect(sctp_proto::ClientConfig::new(), peer).unwrap();
        Self { dtls, sctp, handle, association, secured: false, received: Vec::new() }
    }

    fn write(&mut self, kind: sctp_proto::PayloadProtocolIdentifier, content: &[u8]) {
        if self.association.stream(0).is_err() {
            self.association.open_stream(0, kind).unwrap();
        }
        self.association.stream(0).unwrap().write_with_ppi(content, kind).unwrap();
    }

    /// Moves datagrams both ways for some time.
    fn run(&mut self, fixture: &mut Fixture, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        use sctp_proto::{DatagramEvent, Event, Payload, PayloadProtocolIdentifier, StreamEvent};
        let id = EndpointId(1);
        for _ in 0..200 {
            fixture.endpoints.flush(fixture.now);
            for action in fixture.actions() {
                if let Action::Command { command: Command::SendDtls { datagram, .. }, .. } = action {
                    assert!(datagram.len() <= 1_200, "{} bytes", datagram.len());
                    self.dtls.handle_datagram(fixture.now, &datagram);
                }
            }
            while let Some(output) = self.dtls.poll_output() {
                match output {
                    DtlsOutput::Datagram(datagram) => fixture.endpoints.handle_dtls(fixture.now, id, datagram),
                    DtlsOutput::Connected(_) => self.secured = true,
                    DtlsOutput::ApplicationData(packet) => {
                        let peer = "127.0.0.1:5000".parse().unwrap();
                        let event = self.sctp.handle(fixture.now, peer, None, None, packet.into());
                        if let Some((_, DatagramEvent::AssociationEvent(event))) = event {
                            self.association.handle_event(event);
                        }
                    }
                    DtlsOutput::Failed(error) => panic!("{error}"),
                }
            }
            while let Some(event) = self.association.poll_endpoint_event() {
                let _ = self.sctp.handle_event(self.handle, event);
            }
            while let Some(event) = self.association.poll() {
                let Event::Stream(StreamEvent::Readable { id }) = event else { continue };
                let mut stream = self.association.stream(id).unwrap();
                while let Ok(Some(message)) = stream.read_sctp() {
                    let mut content = vec![0; message.len()];
                    message.read(&mut content).unwrap();
                    if message.ppi == PayloadProtocolIdentifier::String {
                        self.received.push(String::from_utf8(content).unwrap());
                    }
                }
            }
            if self.secured {
                while let Some(transmit) = self.association.poll_transmit(fixture.now) {
                    let Payload::RawEncode(packets) = transmit.payload else { continue };
                    packets.iter().for_each(|packet| self.dtls.send(fixture.now, packet));
                }
            }
            if done(self) {
                return true;
            }
            fixture.now += Duration::from_millis(20);
            self.dtls.handle_timeout(fixture.now);
            self.association.handle_timeout(fixture.now);
            fixture.endpoints.handle_timeout(fixture.now);
        }
        false
    }
}

const OPEN: &[u8] = b"\x03\0\0\0\0\0\0\0\0\x03\0\0JVB";

#[test]
fn a_data_channel_carries_what_the_web_socket_carries() {
    use sctp_proto::PayloadProtocolIdentifier::{Dcep, String as Text};
    let mut fixture = Fixture::new(2);
    let (first, second) = (EndpointId(1), EndpointId(2));
    fixture.close(first);
    fixture.endpoints.set_sources(first, vec![video("a-v0", 5)]);
    fixture.endpoints.handle_demand(first, "a-v0".to_owned(), Limit::Max(360));
    let mut browser = Browser::new(&mut fixture);
    assert!(browser.run(&mut fixture, |b| b.secured && !b.association.is_handshaking()));
    browser.write(Dcep, OPEN);
    assert!(browser.run(&mut fixture, |b| b.received.len() == 2), "{:?}", browser.received);
    // No greeting before the client's own (section 5.3).
    assert!(
        browser.received[0].contains("SenderSourceConstraints") && browser.received[1].contains("ForwardedSources")
    );
    browser.write(Text, br#"{"colibriClass":"ClientHello"}"#);
    assert!(browser.run(&mut fixture, |b| b.received.len() == 3));
    assert_eq!(browser.received[2], r#"{"colibriClass":"ServerHello"}"#);

    browser.write(Text, br#"{"colibriClass":"EndpointMessage","to":"b","msgPayload":{"x":1}}"#);
    browser.write(Text, br#"{"colibriClass":"ReceiverVideoConstraints","lastN":3}"#);
    browser.write(Text, b"not JSON");
    let mut sent = Vec::new();
    let mut wanted = false;
    for _ in 0..50 {
        browser.run(&mut fixture, |_| true);
        fixture.now += Duration::from_millis(20);
        browser.association.handle_timeout(fixture.now);
        for action in fixture.actions() {
            match action {
                Action::Send { endpoint, message } => sent.push((endpoint, message)),
                Action::Command { command: Command::SetConstraints { constraints, .. }, .. } => {
                    wanted |= constraints.last_n == Limit::Max(3);
                }
                Action::Command { command: Command::SendDtls { datagram, .. }, .. } => {
                    browser.dtls.handle_datagram(fixture.now, &datagram);
                }
                _ => {}
            }
        }
    }
    let message = passed(r#"{"colibriClass":"EndpointMessage","from":"a","msgPayload":{"x":1},"to":"b"}"#);
    assert_eq!(sent, [(second, ToClient::Forwarded(message))]);
    assert!(wanted);

    let reply = FromClient::Message { to: "a".to_owned(), text: passed(r#"{"from":"b","n":1}"#) };
    fixture.endpoints.handle_message(fixture.now, second, Carrier::WebSocket, reply);
    let count = browser.received.len();
    assert!(browser.run(&mut fixture, |b| b.received.len() == count + 1));
    assert!(browser.received[count].contains(r#""from":"b""#), "{:?}", browser.received);
    let counters = fixture.endpoints.counters();
    assert_eq!((counters.data_messages_received, counters.data_messages_sent), (4, 4));
}

#[test]
fn a_client_that_does_not_read_loses_first_the_others_messages_then_the_channel() {
    use sctp_proto::PayloadProtocolIdentifier::Dcep;
    let mut fixture = Fixture::new(2);
    let first = EndpointId(1);
    fixture.close(first);
    let mut browser = Browser::new(&mut fixture);
    assert!(browser.run(&mut fixture, |b| b.secured && !b.association.is_handshaking()));
    browser.write(Dcep, OPEN);
    assert!(browser.run(&mut fixture, |b| !b.received.is_empty()));
    let sent = fixture.endpoints.counters().data_messages_sent;
    let text = "x".repeat(10_000);
    let message = || FromClient::Message { to: "a".to_owned(), text: passed(&text) };
    for _ in 0..100 {
        fixture.endpoints.handle_message(fixture.now, EndpointId(2), Carrier::WebSocket, message());
    }
    let taken = fixture.endpoints.counters().data_messages_sent - sent;
    assert!((20..40).contains(&taken), "{taken} messages of 10 kB are in a buffer of 256 kB");
    for n in 0..200 {
        fixture.endpoints.handle_forwarded(first, vec![format!("{n}-{text}")]);
    }
    let taken = fixture.endpoints.counters().data_messages_sent - sent;
    assert!((90..130).contains(&taken), "{taken} messages in a buffer of 1 MiB");
    // Closed: nobody is written to any more.
    fixture.endpoints.handle_forwarded(first, vec!["a".to_owned()]);
    assert_eq!(fixture.endpoints.counters().data_messages_sent - sent, taken);
}

#[test]
fn endpoints_without_a_channel_are_counted_once() {
    let mut fixture = Fixture::new(0);
    fixture.insert(1, false);
    let mut browser = Browser::new(&mut fixture);
    assert!(browser.run(&mut fixture, |b| b.secured));
    for (seconds, counted) in [(29, 0), (31, 1), (90, 1)] {
        fixture.endpoints.check_late(fixture.now + Duration::from_secs(seconds));
        assert_eq!(fixture.endpoints.counters().without_channel, counted, "after {seconds} s");
    }
}
