//! What Jicofo says in parts (`reference::Use::Special`), put together as settings of ours.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::origin::Origin;
use super::values;
use crate::focus::Strategy;

/// Values by key of Jicofo, each with its origin; later ones take the place of former ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts(BTreeMap<String, (String, Origin)>);

/// A setting that comes of them: ours, its value, where it comes from, and from which keys in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub key: &'static str,
    pub value: String,
    pub origin: Origin,
    pub from: &'static str,
}

/// Who runs Jicofo where nothing else is said.
const USER: &str = "focus";

const DOMAIN: &str = "jicofo.xmpp.client.domain";
const USERNAME: &str = "jicofo.xmpp.client.username";
const XMPP_DOMAIN: &str = "jicofo.xmpp.client.xmpp-domain";
const CONFERENCE_MUC: &str = "jicofo.xmpp.client.conference-muc-jid";
const UNVERIFIED: &str = "jicofo.xmpp.client.disable-certificate-verification";
const TLS: &str = "jicofo.xmpp.client.use-tls";
const REST_HOST: &str = "jicofo.rest.host";
const REST_PORT: &str = "jicofo.rest.port";
const LOGIN: &str = "jicofo.authentication.enabled";
const LOGIN_TYPE: &str = "jicofo.authentication.type";
const ICE_THRESHOLD: &str = "jicofo.bridge.ice-failure-detection.threshold";
const STRESS_THRESHOLD: &str = "jicofo.bridge.stress-threshold";
const LEAVE_THRESHOLD: &str = "jicofo.bridge.load-redistribution.stress-threshold";
const STRATEGY: &str = "jicofo.bridge.selection-strategy";
const PARTICIPANT_STRATEGY: &str = "jicofo.bridge.participant-selection-strategy";
/// The strategy that has one for participants and one for visitors.
const OF_BOTH: &str = "VisitorSelectionStrategy";
const SSRCS: &str = "jicofo.conference.max-ssrcs-per-user";
const GROUPS: &str = "jicofo.conference.max-ssrc-groups-per-user";
const SERVICE: &str = "jicofo.xmpp.service.enabled";
const SERVICE_HOST: &str = "jicofo.xmpp.service.hostname";
const SERVICE_PORT: &str = "jicofo.xmpp.service.port";

impl Parts {
    /// Takes a value.
    pub fn insert(&mut self, path: &str, text: String, origin: Origin) {
        self.0.insert(path.to_owned(), (text, origin));
    }

    fn get(&self, path: &str) -> Option<(&str, &Origin)> {
        self.0.get(path).map(|(text, origin)| (text.as_str(), origin)).filter(|(text, _)| !text.is_empty())
    }

    /// The settings; `host` is the clients' server. An error is a value of a wrong form.
    pub fn settings(&self, host: &str) -> Result<Vec<Made>, Box<ConfigError>> {
        let mut made = Vec::new();
        if let Some((domain, origin)) = self.get(DOMAIN) {
            let user = self.get(USERNAME).map_or(USER, |(user, _)| user);
            made.push(Made {
                key: "focus.jid",
                value: format!("{user}@{domain}"),
                origin: origin.clone(),
                from: "jicofo.xmpp.client",
            });
        }
        let muc = self.get(CONFERENCE_MUC).map(|(muc, origin)| (muc.to_owned(), origin, CONFERENCE_MUC));
        let usual =
            || self.get(XMPP_DOMAIN).map(|(domain, origin)| (format!("conference.{domain}"), origin, XMPP_DOMAIN));
        if let Some((value, origin, from)) = muc.or_else(usual) {
            made.push(Made { key: "focus.conference-muc", value, origin: origin.clone(), from });
        }
        if let Some((domain, origin)) = self.get(XMPP_DOMAIN) {
            let (value, origin) = (domain.to_owned(), origin.clone());
            made.push(Made { key: "focus.client-domain", value, origin, from: XMPP_DOMAIN });
        }
        // As many groups as SSRCs, where nothing else is said.
        for (key, from, found) in [
            ("focus.max-ssrcs-per-user", SSRCS, self.get(SSRCS)),
            ("focus.max-ssrc-groups-per-user", GROUPS, self.get(GROUPS).or_else(|| self.get(SSRCS))),
        ] {
            if let Some((value, origin)) = found {
                made.push(Made { key, value: value.to_owned(), origin: origin.clone(), from });
            }
        }
        if let Some((on, origin)) = self.switch(LOGIN)? {
            let kind = self.get(LOGIN_TYPE).map_or("NONE", |(kind, _)| kind).to_ascii_lowercase();
            let value = if on { kind } else { "none".to_owned() };
            made.push(Made { key: "focus.login.type", value, origin: origin.clone(), from: "jicofo.authentication" });
        }
        if let Some((unverified, origin)) = self.switch(UNVERIFIED)? {
            let value = (!unverified).to_string();
            made.push(Made { key: "xmpp.verify-certificate", value, origin: origin.clone(), from: UNVERIFIED });
        }
        match self.switch(TLS)? {
            Some((false, origin)) => made.push(Made {
                key: "xmpp.security",
                value: "disabled".to_owned(),
                origin: origin.clone(),
                from: TLS,
            }),
            // Jicofo would do without TLS wherever the server offers none; that is left to the loopback.
            _ if ["", "localhost", "127.0.0.1", "::1"].contains(&host) => made.push(Made {
                key: "xmpp.security",
                value: "if-possible".to_owned(),
                origin: Origin::Derived("Jicofo's default on its own host"),
                from: TLS,
            }),
            _ => {}
        }
        // Shares of one; what is no number is refused as it stands.
        for (key, from) in [
            ("focus.ice-failure.percent", ICE_THRESHOLD),
            ("focus.selection.stress-percent", STRESS_THRESHOLD),
            ("focus.load-redistribution.stress-percent", LEAVE_THRESHOLD),
        ] {
            if let Some((threshold, origin)) = self.get(from) {
                let percent = |share: f64| (share * 100.0).round().to_string();
                let value = threshold.parse::<f64>().map_or_else(|_| threshold.to_owned(), percent);
                made.push(Made { key, value, origin: origin.clone(), from });
            }
        }
        made.extend(self.strategy());
        let (host, port) = (self.get(REST_HOST), self.get(REST_PORT));
        if let Some((_, origin)) = host.or(port) {
            let host = match host.map_or("127.0.0.1", |(host, _)| host) {
                "localhost" => "127.0.0.1",
                host => host,
            };
            let port = port.map_or("8888", |(port, _)| port);
            let value = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            made.push(Made { key: "focus.rest.listen", value, origin: origin.clone(), from: "jicofo.rest" });
        }
        Ok(made)
    }

    /// How bridges are chosen; the name of a class that is none of Jicofo's own is refused as it stands.
    fn strategy(&self) -> Option<Made> {
        let (strategy, origin) = self.get(STRATEGY)?;
        let both = strategy.rsplit('.').next() == Some(OF_BOTH);
        let (strategy, origin, from) = match self.get(PARTICIPANT_STRATEGY).filter(|_| both) {
            Some((strategy, origin)) => (strategy, origin, PARTICIPANT_STRATEGY),
            // Jicofo's own choice for participants where nothing is said.
            None if both => ("single", origin, STRATEGY),
            None => (strategy, origin, STRATEGY),
        };
        let value = strategy.parse().map_or_else(|_| strategy.to_owned(), |known: Strategy| known.word().to_owned());
        Some(Made { key: "focus.selection.strategy", value, origin: origin.clone(), from })
    }

    /// A second server, for the bridges alone; `host` and `port` are those of the clients' server.
    pub fn second_server(&self, host: &str, port: &str) -> Option<ConfigError> {
        let (on, origin) = self.switch(SERVICE).ok()??;
        let other_host = self.get(SERVICE_HOST).map_or("localhost", |(host, _)| host);
        let other_port = self.get(SERVICE_PORT).map_or("6222", |(port, _)| port);
        let local = |host| if host == "127.0.0.1" { "localhost" } else { host };
        let same = local(other_host) == local(host) && other_port == port;
        (on && !same).then(|| ConfigError::Unserved {
            origin: origin.clone(),
            key: SERVICE.to_owned(),
            value: format!("true, at {other_host}:{other_port}"),
            remedy: format!(
                "the focus looks for bridges on the clients' server alone, {host}:{port}: give the bridges accounts there, and \
                 switch this off (ENABLE_JVB_XMPP_SERVER=0 in a container)"
            ),
        })
    }

    fn switch(&self, path: &str) -> Result<Option<(bool, &Origin)>, Box<ConfigError>> {
        let Some((text, origin)) = self.get(path) else { return Ok(None) };
        match values::switch(text) {
            Some(on) => Ok(Some((on, origin))),
            None => Err(Box::new(ConfigError::Unknown {
                origin: origin.clone(),
                key: path.to_owned(),
                value: text.to_owned(),
                hint: "use true or false".to_owned(),
            })),
        }
    }
}
