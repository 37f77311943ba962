//! The requests about relays as bridges are sent them (docs/protocol/bridge.md 10, docs/protocol/focus.md 11.6).

use super::graph::{Change, Order, What};
use crate::colibri::elements::{
    ConferenceModified, ConferenceModify, Endpoint, Endpoints, IceTransport, Media, Relay, Sctp, SctpRole, Setup,
    Transport,
};

/// What the requests of one conference have in common.
pub(in crate::focus) struct Form<'a> {
    pub meeting_id: &'a str,
    /// Whether bridges talk with each other over SCTP; else over a WebSocket.
    pub sctp: bool,
    /// The formats and header extensions of every relay.
    pub media: fn() -> Vec<Media>,
}

impl Form<'_> {
    /// The request of an order; `describe` says all about an endpoint.
    pub fn request(&self, order: &Order, describe: impl Fn(&str) -> Endpoint) -> ConferenceModify {
        let mut relay = Relay::new(order.relay_id.as_str());
        let endpoints = |ids: &[String], change: Change| {
            let one = |id: &String| match change {
                Change::Create => Endpoint { create: true, ..describe(id) },
                Change::Update => Endpoint { sources: describe(id).sources, ..Endpoint::new(id) },
                Change::Expire => Endpoint { expire: true, ..Endpoint::new(id) },
            };
            Some(Endpoints { endpoints: ids.iter().map(one).collect() })
        };
        match &order.what {
            What::Create { mesh, initiator, endpoints: ids } => {
                relay.create = true;
                relay.mesh_id = Some(mesh.as_text());
                relay.media = (self.media)();
                relay.endpoints = endpoints(ids, Change::Create).filter(|_| !ids.is_empty());
                let role = if *initiator { SctpRole::Client } else { SctpRole::Server };
                relay.transport = Some(Transport {
                    ice_controlling: *initiator,
                    use_unique_port: *initiator,
                    sctp: self.sctp.then_some(Sctp { port: None, role: Some(role) }),
                    ..Transport::default()
                });
            }
            What::Transport { initiator, transport } => {
                let ice = self.of_the_other_side((**transport).clone(), *initiator);
                relay.transport = Some(Transport { ice: Some(ice), ..Transport::default() });
            }
            What::Endpoints { change, endpoints: ids } => relay.endpoints = endpoints(ids, *change),
            What::Expire => relay.expire = true,
        }
        ConferenceModify { relays: vec![relay], ..ConferenceModify::new(self.meeting_id) }
    }

    /// The other side's transport for a bridge. To the one that controls ICE it says that the other begins with DTLS. An address
    /// of the other's WebSocket is an order to open it, which one of both gets.
    fn of_the_other_side(&self, mut transport: IceTransport, initiator: bool) -> IceTransport {
        for fingerprint in &mut transport.fingerprints {
            fingerprint.setup = Some(if initiator { Setup::Active } else { Setup::Passive });
        }
        if self.sctp || !initiator {
            transport.web_sockets.clear();
        }
        transport
    }
}

/// The transport in a bridge's answer to the creation of a relay. The error says what is wrong with it.
pub(in crate::focus) fn transport_in(answer: ConferenceModified) -> Result<IceTransport, &'static str> {
    let relay = answer.relays.into_iter().next().ok_or("it has no relay")?;
    let ice = relay.transport.and_then(|transport| transport.ice).ok_or("it has no transport")?;
    let open = |setup: Option<Setup>| matches!(setup, None | Some(Setup::ActPass));
    if ice.fingerprints.iter().any(|fingerprint| !open(fingerprint.setup)) {
        return Err("its DTLS role is not left open (setup=actpass)");
    }
    Ok(ice)
}

#[cfg(test)]
mod tests {
    use super::super::{Cascade, MeshId, Place};
    use super::*;
    use crate::colibri::elements::{Fingerprint, Sources, WebSocket};

    fn orders(cascade: &mut Cascade) -> Vec<Order> {
        std::iter::from_fn(|| cascade.poll_order()).collect()
    }

    fn form(sctp: bool) -> Form<'static> {
        Form { meeting_id: "m", sctp, media: Vec::new }
    }

    fn describe(id: &str) -> Endpoint {
        Endpoint { stats_id: Some("s".into()), sources: Some(Sources::default()), ..Endpoint::new(id) }
    }

    fn ice(setup: Option<Setup>) -> IceTransport {
        IceTransport {
            ufrag: Some("u".into()),
            fingerprints: vec![Fingerprint { hash: "sha-256".into(), setup, value: "AB".into() }],
            web_sockets: vec![WebSocket { url: Some("wss://a/colibri-relay-ws/x/y/z?pwd=p".into()), active: false }],
            ..IceTransport::default()
        }
    }

    #[test]
    fn both_sides_of_a_relay() {
        let mut cascade = Cascade::default();
        let first = cascade.add(Place::Mesh(MeshId::CORE), "one", None);
        cascade.place("a", first);
        let second = cascade.add(Place::Mesh(MeshId::CORE), "two", None);
        let created = orders(&mut cascade);
        let requests: Vec<_> = created.iter().map(|order| form(true).request(order, describe)).collect();
        for (request, (initiator, role, peer)) in
            requests.iter().zip([(true, SctpRole::Client, "two"), (false, SctpRole::Server, "one")])
        {
            let relay = &request.relays[0];
            let transport = relay.transport.as_ref().expect("a transport");
            assert_eq!((request.meeting_id.as_str(), relay.id.as_str(), relay.create), ("m", peer, true));
            assert!(!request.create && request.endpoints.is_empty() && relay.mesh_id.as_deref() == Some("0"));
            assert_eq!((transport.ice_controlling, transport.use_unique_port), (initiator, initiator));
            assert_eq!(transport.sctp, Some(Sctp { port: None, role: Some(role) }));
        }
        assert!(requests[0].relays[0].relayed().is_empty());
        let relayed = &requests[1].relays[0].relayed()[0];
        assert!(relayed.id == "a" && relayed.create && relayed.sources.is_some() && relayed.stats_id.is_some());

        cascade.answered(created[0].link, first, ice(Some(Setup::ActPass)));
        cascade.answered(created[1].link, second, ice(None));
        let transports = orders(&mut cascade);
        for (sctp, sockets) in [(true, [0, 0]), (false, [0, 1])] {
            let sent: Vec<IceTransport> = transports
                .iter()
                .map(|order| {
                    form(sctp).request(order, describe).relays.remove(0).transport.expect("it").ice.expect("it")
                })
                .collect();
            assert_eq!(
                [sent[0].fingerprints[0].setup, sent[1].fingerprints[0].setup],
                [Some(Setup::Passive), Some(Setup::Active)]
            );
            assert_eq!([sent[0].web_sockets.len(), sent[1].web_sockets.len()], sockets);
        }
    }

    #[test]
    fn endpoints_come_change_and_go() {
        let mut cascade = Cascade::default();
        let first = cascade.add(Place::Mesh(MeshId::CORE), "one", None);
        let second = cascade.add(Place::Mesh(MeshId::CORE), "two", None);
        orders(&mut cascade);
        cascade.place("a", first);
        cascade.changed("a");
        cascade.take("a");
        cascade.remove(second);
        let requests = orders(&mut cascade);
        let sent: Vec<Relay> =
            requests.iter().map(|order| form(true).request(order, describe).relays.remove(0)).collect();
        // Nothing of a relay that is gone is sent, but its end.
        assert_eq!(sent, [Relay { expire: true, ..Relay::new("two") }]);
    }

    #[test]
    fn what_an_answer_must_have() {
        let answer = |transport| ConferenceModified {
            relays: vec![Relay { transport, ..Relay::new("b") }],
            ..ConferenceModified::default()
        };
        let with = |ice| answer(Some(Transport { ice, ..Transport::default() }));
        assert!(transport_in(ConferenceModified::default()).is_err());
        assert!(transport_in(answer(None)).is_err() && transport_in(with(None)).is_err());
        for setup in [Setup::Active, Setup::Passive] {
            assert!(transport_in(with(Some(ice(Some(setup))))).is_err());
        }
        for setup in [None, Some(Setup::ActPass)] {
            assert_eq!(transport_in(with(Some(ice(setup)))), Ok(ice(setup)));
        }
    }
}
