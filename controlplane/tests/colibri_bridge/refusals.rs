//! Which requests are refused, and how (docs/protocol/bridge.md 3.5).

use super::fixture::*;

#[test]
fn create_of_an_existing_meeting() {
    let refusal = Fixture::with_endpoint().refused("<conference-modify meeting-id='m' create='true'/>");
    is(&refusal, DefinedCondition::Conflict, Some(Reason::ConferenceAlreadyExists));
}

#[test]
fn unknown_meeting() {
    let refusal = Fixture::with_endpoint().refused("<conference-modify meeting-id='n'/>");
    is(&refusal, DefinedCondition::ItemNotFound, Some(Reason::ConferenceNotFound));
}

#[test]
fn create_during_graceful_shutdown() {
    let mut fixture = Fixture::with_endpoint();
    fixture.bridge.set_graceful_shutdown(true);
    let refusal = fixture.refused("<conference-modify meeting-id='n' create='true'/>");
    is(&refusal, DefinedCondition::ServiceUnavailable, Some(Reason::GracefulShutdown));
    // New endpoints of existing conferences are still welcome.
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("b"))).unwrap();
}

#[test]
fn update_of_an_unknown_endpoint() {
    for content in ["<transport/>", "<sources/>", "<media type='audio'/>"] {
        let refusal = Fixture::with_endpoint().refused(&format!(
            "<conference-modify meeting-id='m'><endpoint id='zz'>{content}</endpoint></conference-modify>"
        ));
        is(&refusal, DefinedCondition::ItemNotFound, Some(Reason::UnknownEndpoint));
        assert_eq!(refusal.endpoint.as_deref(), Some("zz"));
    }
}

#[test]
fn light_requests_for_unknown_endpoints_are_answered() {
    let mut fixture = Fixture::with_endpoint();
    let reply = fixture
        .send("<conference-modify meeting-id='m'><endpoint id='a'><force-mute audio='true'/></endpoint>\
               <endpoint id='zz'><force-mute audio='true'/></endpoint><endpoint id='yy' expire='true'/></conference-modify>")
        .unwrap();
    let expired = Endpoint { expire: true, ..Endpoint::new("yy") };
    assert_eq!(reply.endpoints, [Endpoint::new("a"), Endpoint::new("zz"), expired]);
    assert_eq!(reply.sources, None);
    assert!(matches!(fixture.commands()[..], [Command::SetForceMute { audio: true, video: false, .. }]));
}

#[test]
fn combinations_that_are_not_served() {
    let feature = Some(Reason::FeatureNotImplemented);
    for content in [
        "<endpoint id='a'/><relay id='r' create='true'/>".to_owned(),
        format!("<endpoint id='a'/>{}", create("b")),
        "<endpoint id='a'><sources/></endpoint><endpoint id='b'/>".to_owned(),
        "<relay id='r'/><relay id='s'/>".to_owned(),
    ] {
        let refusal = Fixture::with_endpoint()
            .refused(&format!("<conference-modify meeting-id='m'>{content}</conference-modify>"));
        is(&refusal, DefinedCondition::FeatureNotImplemented, feature);
    }
    let refusal = Fixture::with_endpoint()
        .refused("<conference-modify meeting-id='m'><relay id='r' create='true'/></conference-modify>");
    is(&refusal, DefinedCondition::FeatureNotImplemented, None);
}

#[test]
fn endpoint_exists() {
    let mut fixture = Fixture::with_endpoint();
    let refusal = fixture.refused(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("a")));
    is(&refusal, DefinedCondition::Conflict, None);
    assert!(fixture.outputs().is_empty(), "a refused request changes nothing");
}

#[test]
fn bad_requests() {
    for endpoint in [
        "<endpoint id='b' create='true'><capability name='source-names'/></endpoint>",
        "<endpoint id='b' create='true'><transport/></endpoint>",
        "<endpoint id='b' create='true'><transport><sctp port='5001'/></transport><capability name='source-names'/></endpoint>",
        "<endpoint id='b' create='true' muc-role='visitor'><transport/><capability name='source-names'/><sources>\
         <media-source type='audio' id='b-a0'/></sources></endpoint>",
    ] {
        let mut fixture = Fixture::with_endpoint();
        let refusal = fixture.refused(&format!("<conference-modify meeting-id='m'>{endpoint}</conference-modify>"));
        is(&refusal, DefinedCondition::BadRequest, None);
        assert!(fixture.outputs().is_empty(), "a refused request changes nothing");
    }
    for name in ["conference.x", "room@conference.x/nick", "@"] {
        let refusal =
            Fixture::new(1).refused(&format!("<conference-modify meeting-id='m' name='{name}' create='true'/>"));
        is(&refusal, DefinedCondition::BadRequest, None);
    }
}

/// What it is was said when it came: a later request that does not repeat it cannot give it sources.
#[test]
fn a_visitor_never_gets_sources() {
    let mut fixture = Fixture::with_endpoint();
    let create = "<conference-modify meeting-id='m'><endpoint id='v' create='true' muc-role='visitor'><transport/>\
                  <capability name='source-names'/></endpoint></conference-modify>";
    fixture.send(create).expect("served");
    fixture.outputs();
    for role in ["", " muc-role='participant'", " muc-role='visitor'", " muc-role='owner'"] {
        let request = format!(
            "<conference-modify meeting-id='m'><endpoint id='v'{role}><sources><media-source type='audio' id='v-a0'>\
             <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='5' name='v-a0'/></media-source></sources></endpoint></conference-modify>"
        );
        is(&fixture.refused(&request), DefinedCondition::BadRequest, None);
        assert!(fixture.outputs().is_empty(), "a refused request changes nothing");
    }
}

#[test]
fn a_data_channel_is_answered_with_its_port_when_asked_for() {
    for (asked, served) in [("<sctp/>", true), ("<sctp port='5000' role='server'/>", true), ("", false)] {
        let mut fixture = Fixture::with_endpoint();
        let reply = fixture.send(&with_sctp(asked)).expect("served");
        let sctp = reply.endpoints[0].transport.as_ref().expect("transport").sctp.clone();
        let expected = served.then_some(Sctp { port: Some(5000), role: Some(SctpRole::Server) });
        assert_eq!(sctp, expected, "{asked}");
        let outputs = fixture.outputs();
        let created = outputs.iter().find_map(|o| match o {
            Output::EndpointCreated { sctp, .. } => Some(*sctp),
            _ => None,
        });
        assert_eq!(created, Some(served));
    }
}

#[test]
fn sctp_is_declined_as_by_jitsi_videobridge_when_off_or_reversed() {
    let mut off = Fixture::with_endpoint_and(false);
    for sctp in ["<sctp/>", "<sctp port='5000' role='server'/>", "<sctp role='client'/>"] {
        is(&off.refused(&with_sctp(sctp)), DefinedCondition::FeatureNotImplemented, None);
    }
    let reversed = Fixture::with_endpoint().refused(&with_sctp("<sctp role='client'/>"));
    is(&reversed, DefinedCondition::FeatureNotImplemented, None);
}
