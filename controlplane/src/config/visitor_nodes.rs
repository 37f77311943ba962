//! Servers that visitors are sent to: `focus.visitors.nodes.<name>` in our file, `jicofo.xmpp.visitors.<name>` in Jicofo's,
//! `VISITORS_XMPP_SERVER` of its Docker image. The fields are Jicofo's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jid::BareJid;

use super::connections::{no_such_field, usual_security};
use super::error::ConfigError;
use super::origin::{MASK, Origin};
use super::reference::is_secret;
use super::values;
use crate::focus::VisitorNode;
use crate::xmpp::{Security, XmppSettings};

/// Where nodes are in our file and in Jicofo's.
const SECTIONS: [&str; 2] = ["focus.visitors.nodes.", "jicofo.xmpp.visitors."];

/// Nodes that are connected to at most.
const MAX_NODES: usize = 100;

/// The fields that there are.
const FIELDS: &[&str] = &[
    "enabled",
    "conference-service",
    "hostname",
    "port",
    "domain",
    "username",
    "password",
    "disable-certificate-verification",
    "use-tls",
    "ca-file",
    "xmpp-domain",
    "resource",
    "reply-timeout",
];

/// Fields of Jicofo that change nothing here, and why.
const IGNORED: &[(&str, &str)] = &[
    ("xmpp-domain", "the node is its conference-service"),
    ("resource", "visitors address the focus by its room"),
    ("reply-timeout", "is fixed here at Jicofo's default"),
];

/// One node as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawNode {
    name: String,
    origin: Origin,
    fields: BTreeMap<String, String>,
}

/// The name of a node and the field that a path stands for.
pub(super) fn field_of(path: &str) -> Option<(&str, &str)> {
    let rest = SECTIONS.iter().find_map(|section| path.strip_prefix(section))?;
    rest.rsplit_once('.')
}

/// Records a field of a node, and says what becomes of it.
pub(super) fn set(nodes: &mut Vec<RawNode>, (name, field): (&str, &str), text: &str, origin: &Origin) -> String {
    let place = nodes.iter().position(|node| node.name == name).unwrap_or_else(|| {
        nodes.push(RawNode { name: name.to_owned(), origin: origin.clone(), fields: BTreeMap::new() });
        nodes.len() - 1
    });
    if let Some(node) = nodes.get_mut(place) {
        node.fields.insert(field.to_owned(), text.to_owned());
    }
    let shown = if is_secret(field) { MASK } else { text };
    match IGNORED.iter().find(|(known, _)| *known == field) {
        Some((_, why)) => format!("{shown}  ignored: {why}"),
        None => format!("{shown}  is focus.visitors.nodes.{name}.{field}"),
    }
}

impl RawNode {
    fn wrong(&self, field: &str, remedy: impl Into<String>) -> ConfigError {
        let value = self.fields.get(field).cloned().unwrap_or_default();
        ConfigError::Connection {
            origin: self.origin.clone(),
            id: format!("of the visitor node {}", self.name),
            field: field.to_owned(),
            // A misspelt password still is one.
            value: if is_secret(field) { MASK.to_owned() } else { value },
            remedy: remedy.into(),
        }
    }

    /// What it is, without its password.
    pub(super) fn describe(&self) -> String {
        let field = |name: &str| self.text(name).unwrap_or("?");
        let (service, host) = (field("conference-service"), field("hostname"));
        format!(
            "visitor node {}: {service} at {host} port {}  ({})",
            self.name,
            self.text("port").unwrap_or("5222"),
            self.origin
        )
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn switch(&self, field: &str, default: bool, errors: &mut Vec<ConfigError>) -> bool {
        let Some(text) = self.text(field) else { return default };
        values::switch(text).unwrap_or_else(|| {
            errors.push(self.wrong(field, "use true or false"));
            default
        })
    }

    /// Checks it; a node that is switched off is none.
    fn settings(&self) -> Result<Option<VisitorNode>, Vec<ConfigError>> {
        let mut errors = Vec::new();
        for field in self.fields.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
            errors.push(self.wrong(field, no_such_field(field, FIELDS)));
        }
        let enabled = self.switch("enabled", true, &mut errors);
        let unverified = self.switch("disable-certificate-verification", false, &mut errors);
        let tls = self.switch("use-tls", true, &mut errors);
        let mut required = |field: &str| {
            let value = self.text(field);
            if value.is_none() {
                let remedy = "set it: a visitor node needs hostname, conference-service and password";
                errors.push(self.wrong(field, remedy));
            }
            value.unwrap_or_default().to_owned()
        };
        let (host, service, password) = (required("hostname"), required("conference-service"), required("password"));
        let port = self.text("port").unwrap_or("5222").parse::<u16>().unwrap_or(0);
        if port == 0 {
            errors.push(self.wrong("port", "use a port number, e.g. 5222"));
        }
        let service = match service.parse::<BareJid>() {
            Ok(jid) if jid.node().is_none() => Some(jid),
            _ if service.is_empty() => None,
            _ => {
                errors.push(
                    self.wrong("conference-service", "use the MUC service there, e.g. conference.v1.example.net"),
                );
                None
            }
        };
        let account = format!("{}@{}", self.text("username").unwrap_or("focus"), self.text("domain").unwrap_or(&host));
        let jid = account.parse::<BareJid>();
        if let (Err(error), false) = (&jid, host.is_empty()) {
            errors.push(self.wrong("domain", format!("{account} is not an account: {error}")));
        }
        let security = if tls { usual_security(&host) } else { Security::Disabled };
        match (jid, service) {
            (Ok(jid), Some(service)) if errors.is_empty() => Ok(enabled.then(|| VisitorNode {
                name: self.name.clone(),
                service,
                xmpp: XmppSettings {
                    host,
                    port,
                    jid,
                    password,
                    // Visitors know the focus by its room; a process that starts again takes the place of its dead stream.
                    resource: Some("focus".to_owned()),
                    security,
                    verify_certificate: !unverified,
                    ca_file: self.text("ca-file").map(PathBuf::from),
                    resumption: true,
                },
            })),
            _ => Err(errors),
        }
    }
}

/// Checks all nodes; `main` is the MUC service of the participants. Everything that is wrong comes back at once.
pub(super) fn settings(nodes: &[RawNode], main: &BareJid) -> Result<Vec<VisitorNode>, Vec<ConfigError>> {
    let (mut good, mut errors) = (Vec::<VisitorNode>::new(), Vec::new());
    for raw in nodes {
        match raw.settings() {
            Ok(None) => {}
            Ok(Some(node)) => {
                let taken = node.service == *main || good.iter().any(|other| other.service == node.service);
                if taken {
                    errors.push(
                        raw.wrong(
                            "conference-service",
                            "every node, and the participants, need a service of their own",
                        ),
                    );
                } else if good.len() >= MAX_NODES {
                    errors
                        .push(raw.wrong("hostname", format!("there are more than {MAX_NODES} nodes: leave some out")));
                } else {
                    good.push(node);
                }
            }
            Err(wrong) => errors.extend(wrong),
        }
    }
    if errors.is_empty() { Ok(good) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "conference.example.net";

    fn nodes(fields: &[(&str, &str, &str)]) -> Vec<RawNode> {
        let mut nodes = Vec::new();
        for (name, field, text) in fields {
            set(&mut nodes, (name, field), text, &Origin::Default);
        }
        nodes
    }

    fn whole(
        name: &'static str,
        more: &[(&'static str, &'static str)],
    ) -> Vec<(&'static str, &'static str, &'static str)> {
        [("hostname", "xmpp.example.net"), ("conference-service", "conference.v1.example.net"), ("password", "s3cret")]
            .into_iter()
            .chain(more.iter().copied())
            .map(|(field, text)| (name, field, text))
            .collect()
    }

    #[test]
    fn jicofos_fields_and_defaults() {
        let main: BareJid = MAIN.parse().expect("a service");
        let of = |more| settings(&nodes(&whole("v1", more)), &main).expect("complete");
        let node = of(&[]).remove(0);
        assert_eq!((node.name.as_str(), node.xmpp.jid.to_string()), ("v1", "focus@xmpp.example.net".to_owned()));
        assert_eq!((node.xmpp.port, node.xmpp.security), (5222, Security::Required));
        let node = of(&[("domain", "auth.v1.example.net"), ("port", "7222"), ("username", "f"), ("use-tls", "false")])
            .remove(0);
        assert_eq!((node.xmpp.jid.to_string(), node.xmpp.port), ("f@auth.v1.example.net".to_owned(), 7222));
        assert_eq!(node.xmpp.security, Security::Disabled);
        assert!(of(&[("enabled", "false")]).is_empty());
        assert_eq!(field_of("jicofo.xmpp.visitors.v1.port"), Some(("v1", "port")));
        assert_eq!(field_of("focus.visitors.nodes.a.b.port"), Some(("a.b", "port")));
        assert_eq!((field_of("jicofo.visitors.enabled"), field_of("jicofo.xmpp.visitors.v1")), (None, None));
    }

    #[test]
    fn every_mistake_is_named_at_once_and_no_password() {
        let main: BareJid = MAIN.parse().expect("a service");
        let broken = [
            ("a", "hostnmae", "x"),
            ("a", "pasword", "s3cret"),
            ("b", "hostname", "h"),
            ("b", "password", "s3cret"),
            ("b", "conference-service", "room@conference.x"),
            ("b", "port", "0"),
            ("b", "use-tls", "maybe"),
        ];
        let mut all = nodes(&broken);
        assert!(!set(&mut nodes(&[]), ("a", "passwd"), "s3cret", &Origin::Default).contains("s3cret"));
        all.extend(nodes(&whole("c", &[("conference-service", MAIN)])));
        all.extend(nodes(&whole("d", &[])));
        all.extend(nodes(&whole("e", &[])));
        let said: Vec<String> = settings(&all, &main).expect_err("refused").iter().map(ToString::to_string).collect();
        let text = said.join("\n");
        for part in [
            "did you mean \"hostname\"",
            "a visitor node needs",
            "room@conference.x",
            "port = \"0\"",
            "use-tls = \"maybe\"",
            "node c: conference-service",
            "node e: conference-service",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("s3cret") && !text.contains("node d"), "{text}");
    }

    #[test]
    fn nodes_are_bounded() {
        let main: BareJid = MAIN.parse().expect("a service");
        let names: Vec<(String, String)> = (0..=MAX_NODES).map(|n| (format!("v{n}"), format!("c.v{n}.x"))).collect();
        let mut all = Vec::new();
        for (name, service) in &names {
            for (field, text) in [("hostname", "h"), ("password", "p"), ("conference-service", service.as_str())] {
                set(&mut all, (name, field), text, &Origin::Default);
            }
        }
        assert_eq!(settings(&all, &main).expect_err("too many").len(), 1);
        assert_eq!(settings(&all[..MAX_NODES], &main).map(|nodes| nodes.len()), Ok(MAX_NODES));
    }
}
