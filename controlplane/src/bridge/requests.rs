//! IQs to the bridge: who may ask, and what is answered (docs/protocol/bridge.md 2.3, 2.5).

use std::time::Instant;

use tokio_xmpp::minidom::Element;
use xmpp_parsers::disco::{DiscoInfoResult, Identity};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::ns;
use xmpp_parsers::ping::Ping;
use xmpp_parsers::stanza_error::DefinedCondition;
use xmpp_parsers::version::VersionResult;

use super::lifecycle::Lifecycle;
use crate::brewery::Standing;
use crate::colibri::bridge::ColibriBridge;
use crate::colibri::elements::ns as c2;
use crate::colibri::limits;
use crate::colibri::refusal::Refusal;
use crate::xmpp::iq::Request;

const HEALTH: &str = "http://jitsi.org/protocol/healthcheck";
const VERSION: &str = "jabber:iq:version";

/// What a request may look at and change.
pub(super) struct Context<'a> {
    pub health: &'a Result<(), String>,
    pub colibri: &'a mut ColibriBridge,
    /// Where shutdown over XMPP is allowed.
    pub lifecycle: Option<&'a mut Lifecycle>,
}

/// Answers one request. `standing` is what its sender is: only those who count may ask anything.
pub(super) fn answer(now: Instant, request: &Request, standing: Standing, context: Context<'_>) -> Iq {
    let Context { health, colibri, lifecycle } = context;
    let refuse = |condition, text: &str| request.refuse(condition, text);
    let text = match standing {
        Standing::Trusted => None,
        Standing::Absent => Some("only occupants of the brewery room may ask this bridge"),
        Standing::Stranger => Some("your account is not trusted in the brewery room: see brewery-trusted"),
        Standing::Hidden => Some("the brewery room does not show your account"),
    };
    if let Some(text) = text {
        tracing::debug!(from = ?request.from, payload = request.payload.name(), text, "IQ refused");
        colibri.note_stranger();
        return refuse(DefinedCondition::Forbidden, text);
    }
    let payload = &request.payload;
    if payload.is("conference-modify", c2::COLIBRI2) {
        let parsed = limits::read(payload).map_err(|error| {
            tracing::warn!(from = ?request.from, %error, "malformed colibri2 request");
            Refusal::malformed(error)
        });
        let reply = parsed.and_then(|(parsed, left_out)| {
            colibri.note_left_out(left_out);
            colibri.handle(now, &parsed)
        });
        return match reply {
            Ok(modified) => request.result(Some(modified.into())),
            Err(refusal) => {
                tracing::warn!(from = ?request.from, condition = ?refusal.condition, reason = ?refusal.reason,
                    text = %refusal.text, "colibri2 request refused");
                request.error(refusal.to_stanza_error())
            }
        };
    }
    if request.set {
        let graceful = payload.is("graceful-shutdown", c2::COLIBRI);
        return match lifecycle {
            Some(lifecycle) if graceful || payload.is("force-shutdown", c2::COLIBRI) => {
                tracing::warn!(from = ?request.from, graceful, "shutdown requested over XMPP");
                if graceful {
                    lifecycle.shut_down_gracefully(now, colibri.endpoint_count());
                } else {
                    lifecycle.shut_down(now);
                }
                request.result(None)
            }
            _ => refuse(DefinedCondition::ServiceUnavailable, ""),
        };
    }
    if payload.is("healthcheck", HEALTH) {
        return match health {
            Ok(()) => request.result(None),
            Err(text) => refuse(DefinedCondition::InternalServerError, text),
        };
    }
    if payload.is("query", VERSION) {
        return request.result(Some(
            VersionResult {
                name: "ringbridge".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                os: Some(std::env::consts::OS.to_owned()),
            }
            .into(),
        ));
    }
    if payload.is("query", ns::DISCO_INFO) {
        return request.result(Some(disco(payload.attr("node").map(str::to_owned))));
    }
    if Ping::try_from(payload.clone()).is_ok() {
        return request.result(None);
    }
    refuse(DefinedCondition::ServiceUnavailable, "")
}

fn disco(node: Option<String>) -> Element {
    let features = [HEALTH, c2::COLIBRI2, c2::DTLS, c2::ICE_UDP, VERSION, ns::DISCO_INFO, ns::PING];
    DiscoInfoResult {
        node,
        identities: vec![Identity { category: "component".into(), type_: "generic".into(), lang: None, name: None }],
        features: features.into_iter().map(str::to_owned).collect(),
        extensions: Vec::new(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::lifecycle::ShutdownSettings;
    use crate::colibri::bridge::ColibriConfig;
    use crate::colibri::transport::LocalTransport;
    use xmpp_parsers::stanza_error::StanzaError;

    fn ask(from: &str, set: bool, payload: &str, health: &Result<(), String>) -> Iq {
        ask_of(from, set, payload, health, None)
    }

    fn ask_of(
        from: &str,
        set: bool,
        payload: &str,
        health: &Result<(), String>,
        lifecycle: Option<&mut Lifecycle>,
    ) -> Iq {
        let now = Instant::now();
        let mut colibri = ColibriBridge::new(
            now,
            ColibriConfig {
                transport: LocalTransport {
                    local_addresses: Vec::new(),
                    public_addresses: Vec::new(),
                    advertise_private: true,
                    port: 1,
                    fingerprint: String::new(),
                    websocket_base_url: String::new(),
                    relay_websocket_base_url: String::new(),
                    websocket_server_id: String::new(),
                },
                workers: 1,
                spill_endpoints: 1,
                capacity: Default::default(),
                audio_ssrcs: 50,
                video_ssrcs: 50,
                sctp: true,
                relay: None,
                ice_restart: true,
                ufrag_prefix: |_| String::new(),
            },
        );
        let request = Request {
            from: Some(from.parse().unwrap()),
            to: None,
            id: "7".to_owned(),
            payload: payload.parse().unwrap(),
            set,
        };
        let standing = match request.from.as_ref().map(ToString::to_string).as_deref() {
            Some("brewery@internal.x/focus") => Standing::Trusted,
            Some("brewery@internal.x/guest") => Standing::Stranger,
            Some("brewery@internal.x/veiled") => Standing::Hidden,
            _ => Standing::Absent,
        };
        answer(now, &request, standing, Context { health, colibri: &mut colibri, lifecycle })
    }

    fn condition(iq: Iq) -> DefinedCondition {
        match iq {
            Iq::Error { error: StanzaError { defined_condition, .. }, to, id, .. } => {
                assert!(to.is_some());
                assert_eq!(id, "7");
                defined_condition
            }
            other => panic!("{other:?}"),
        }
    }

    const FOCUS: &str = "brewery@internal.x/focus";

    #[test]
    fn only_occupants_are_served() {
        let others = ["mallory@x/y", "brewery@internal.x", "brewery@other.x/focus"];
        for from in others.into_iter().chain(["brewery@internal.x/guest", "brewery@internal.x/veiled"]) {
            for (set, payload) in [
                (false, "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>"),
                (true, "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='true'/>"),
                (true, "<conference-modify xmlns='jitsi:colibri2'/>"),
                (true, "<force-shutdown xmlns='http://jitsi.org/protocol/colibri'/>"),
                (false, "<query xmlns='jabber:iq:version'/>"),
                (false, "<ping xmlns='urn:xmpp:ping'/>"),
            ] {
                let mut life = Lifecycle::new(ShutdownSettings::default(), false);
                let answer = ask_of(from, set, payload, &Ok(()), Some(&mut life));
                assert_eq!(condition(answer), DefinedCondition::Forbidden, "{from}: {payload}");
                assert_eq!(life.stage().name(), "RUNNING");
            }
        }
        assert!(matches!(
            ask("BREWERY@internal.x/focus", false, &format!("<healthcheck xmlns='{HEALTH}'/>"), &Ok(())),
            Iq::Result { payload: None, .. }
        ));
    }

    #[test]
    fn health_version_disco_ping() {
        let health = format!("<healthcheck xmlns='{HEALTH}'/>");
        let sick = ask(FOCUS, false, &health, &Err("worker 0 has ended".to_owned()));
        let Iq::Error { error, .. } = &sick else { panic!("{sick:?}") };
        assert_eq!(error.texts.values().next().map(String::as_str), Some("worker 0 has ended"));
        assert_eq!(condition(sick), DefinedCondition::InternalServerError);
        let version = ask(FOCUS, false, "<query xmlns='jabber:iq:version'/>", &Ok(()));
        let Iq::Result { payload: Some(version), .. } = version else { panic!("{version:?}") };
        assert!(version.children().any(|e| e.name() == "version" && e.text() == env!("CARGO_PKG_VERSION")));
        let disco = ask(FOCUS, false, "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>", &Ok(()));
        let Iq::Result { payload: Some(disco), .. } = disco else { panic!("{disco:?}") };
        assert!(disco.children().any(|e| e.attr("var") == Some(HEALTH)));
        assert!(matches!(ask(FOCUS, false, "<ping xmlns='urn:xmpp:ping'/>", &Ok(())), Iq::Result { .. }));
    }

    #[test]
    fn a_shutdown_where_it_is_allowed() {
        for (name, stage) in [("graceful-shutdown", "SHUTTING_DOWN"), ("force-shutdown", "SHUTTING_DOWN")] {
            let mut life = Lifecycle::new(ShutdownSettings::default(), false);
            let payload = format!("<{name} xmlns='http://jitsi.org/protocol/colibri'/>");
            let answer = ask_of(FOCUS, true, &payload, &Ok(()), Some(&mut life));
            assert!(matches!(answer, Iq::Result { payload: None, .. }), "{answer:?}");
            // There is nobody to wait for.
            assert_eq!(life.stage().name(), stage);
            let answer = ask_of("mallory@x/y", true, &payload, &Ok(()), Some(&mut life));
            assert_eq!(condition(answer), DefinedCondition::Forbidden);
        }
    }

    #[test]
    fn the_rest_is_unavailable_or_malformed() {
        for (set, payload) in [
            (true, "<graceful-shutdown xmlns='http://jitsi.org/protocol/colibri'/>"),
            (true, "<force-shutdown xmlns='http://jitsi.org/protocol/colibri'/>"),
            (false, "<what xmlns='urn:x'/>"),
            (true, "<ping xmlns='urn:xmpp:ping'/>"),
        ] {
            assert_eq!(condition(ask(FOCUS, set, payload, &Ok(()))), DefinedCondition::ServiceUnavailable, "{payload}");
        }
        let bad = "<conference-modify xmlns='jitsi:colibri2'/>";
        assert_eq!(condition(ask(FOCUS, true, bad, &Ok(()))), DefinedCondition::BadRequest);
        let unknown = "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'/>";
        assert_eq!(condition(ask(FOCUS, false, unknown, &Ok(()))), DefinedCondition::ItemNotFound);
    }
}
