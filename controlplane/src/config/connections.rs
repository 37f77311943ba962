//! XMPP connections that are given one by one: `bridge.connections.<id>` in our file,
//! `videobridge.apis.xmpp-client.configs.<id>` in Jitsi Videobridge's, `XMPP_SERVER` of its Docker image
//! (docs/protocol/bridge.md 2.1 and 12.1). The fields are Jitsi Videobridge's, in any case, with `-` or `_`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use jid::BareJid;

use super::error::ConfigError;
use super::origin::{MASK, Origin};
use super::values;
use crate::bridge::XmppConnectionSettings;
use crate::xmpp::{Security, XmppSettings};

/// The fields that there are.
const FIELDS: &[&str] = &[
    "hostname",
    "port",
    "domain",
    "username",
    "password",
    "muc-jids",
    "muc-nickname",
    "disable-certificate-verification",
    "ca-file",
    "security-mode",
    "iq-handler-mode",
];

/// One connection as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawConnection {
    /// Its name.
    pub id: String,
    /// Where it was written.
    pub origin: Origin,
    /// Values by field, in lower case with `-`.
    fields: BTreeMap<String, String>,
}

impl RawConnection {
    /// One without fields.
    pub fn new(id: &str, origin: Origin) -> Self {
        Self { id: id.to_owned(), origin, fields: BTreeMap::new() }
    }

    /// Sets a field; an empty value is none.
    #[must_use]
    pub fn with(mut self, field: &str, value: &str) -> Self {
        let field = field.to_ascii_lowercase().replace('_', "-");
        if !value.is_empty() {
            self.fields.insert(field, value.to_owned());
        }
        self
    }

    /// What it is, without its password.
    pub fn describe(&self) -> String {
        let field = |name: &str| self.fields.get(name).map_or("?", String::as_str);
        let port = self.fields.get("port").map(|port| format!(" port {port}")).unwrap_or_default();
        let nickname = self.fields.get("muc-nickname").map(|nickname| format!(" as {nickname}")).unwrap_or_default();
        format!("{} at {}{port}, room {}{nickname}", field("username"), field("hostname"), field("muc-jids"))
    }

    /// Fields that change nothing here, and why.
    pub fn ignored(&self) -> Option<String> {
        let mode = self.fields.get("iq-handler-mode")?;
        Some(format!("connection {}: iq-handler-mode = {mode}  ignored: requests are handled in their order", self.id))
    }

    fn wrong(&self, field: &str, remedy: impl Into<String>) -> ConfigError {
        let value = self.fields.get(field).cloned().unwrap_or_default();
        ConfigError::Connection {
            origin: self.origin.clone(),
            id: self.id.clone(),
            field: field.to_owned(),
            value: if field == "password" { MASK.to_owned() } else { value },
            remedy: remedy.into(),
        }
    }

    /// Checks it; everything that is wrong comes back at once.
    pub fn settings(&self) -> Result<XmppConnectionSettings, Vec<ConfigError>> {
        let mut errors = Vec::new();
        for field in self.fields.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
            errors.push(self.wrong(field, no_such_field(field, FIELDS)));
        }
        let mut required = |field: &str| {
            let value = self.fields.get(field).cloned();
            if value.is_none() {
                errors.push(self.wrong(
                    field,
                    "set it: a connection needs hostname, username, password, muc-jids and muc-nickname",
                ));
            }
            value.unwrap_or_default()
        };
        let (host, username, password) = (required("hostname"), required("username"), required("password"));
        let (rooms, nickname) = (required("muc-jids"), required("muc-nickname"));
        let optional = |field: &str| self.fields.get(field).map(String::as_str);
        let port = optional("port").unwrap_or("5222").parse::<u16>().unwrap_or(0);
        if port == 0 {
            errors.push(self.wrong("port", "use a port number, e.g. 5222"));
        }
        let domain = optional("domain").unwrap_or(&host);
        let jid = format!("{username}@{domain}").parse::<BareJid>();
        if let (Err(error), false) = (&jid, username.is_empty() || domain.is_empty()) {
            errors.push(self.wrong("username", format!("{username}@{domain} is not an account: {error}")));
        }
        let mut breweries = Vec::new();
        for room in values::items(&rooms) {
            match BareJid::from_str(room) {
                Ok(jid) if jid.node().is_some() => breweries.push(jid),
                _ => errors.push(self.wrong("muc-jids", format!("{room:?} is no room; use the form name@service"))),
            }
        }
        let security = match optional("security-mode").map(str::to_ascii_lowercase).as_deref() {
            None => usual_security(&host),
            Some("required") => Security::Required,
            Some("ifpossible" | "if-possible") => Security::IfPossible,
            Some("disabled") => Security::Disabled,
            Some(_) => {
                errors.push(self.wrong("security-mode", "use one of: required, ifpossible, disabled"));
                Security::Required
            }
        };
        let unverified = match optional("disable-certificate-verification").map(str::to_ascii_lowercase).as_deref() {
            None | Some("0") => Some(false),
            Some("1") => Some(true),
            Some(text) => values::switch(text),
        };
        if unverified.is_none() {
            errors.push(self.wrong("disable-certificate-verification", "use true or false"));
        }
        match jid {
            Ok(jid) if errors.is_empty() => Ok(XmppConnectionSettings {
                id: self.id.clone(),
                xmpp: XmppSettings {
                    host,
                    port,
                    jid,
                    password,
                    // A process that starts again takes the place of its dead stream, which leaves the brewery at once.
                    resource: Some(nickname.clone()),
                    security,
                    verify_certificate: unverified != Some(true),
                    ca_file: optional("ca-file").map(PathBuf::from),
                    resumption: false,
                },
                breweries,
                nickname,
                trusted: Vec::new(),
            }),
            _ => Err(errors),
        }
    }
}

/// What to do about a field that is none of `known`.
pub(super) fn no_such_field(field: &str, known: &[&str]) -> String {
    let near = known.iter().min_by_key(|known| strsim::osa_distance(known, field)).unwrap_or(&"hostname");
    format!("there is no such field; did you mean {near:?}?")
}

/// How a connection to this host is secured where nothing is said.
pub(super) fn usual_security(host: &str) -> Security {
    if ["localhost", "127.0.0.1", "::1"].contains(&host) { Security::IfPossible } else { Security::Required }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> RawConnection {
        RawConnection::new("shard1", Origin::Default)
            .with("HOSTNAME", "xmpp.example.net")
            .with("DOMAIN", "auth.example.net")
            .with("USERNAME", "jvb")
            .with("PASSWORD", "s3cret")
            .with("MUC_JIDS", "a@internal.example.net, b@internal.example.net")
            .with("MUC_NICKNAME", "bridge-1")
    }

    #[test]
    fn the_references_fields_and_defaults() {
        let settings = whole().settings().expect("complete");
        assert_eq!(settings.xmpp.jid.to_string(), "jvb@auth.example.net");
        assert_eq!((settings.xmpp.port, settings.xmpp.security), (5222, Security::Required));
        assert!(settings.xmpp.verify_certificate && settings.breweries.len() == 2);
        let local = whole().with("hostname", "localhost").with("disable_certificate_verification", "true");
        let settings = local.settings().expect("complete");
        assert_eq!((settings.xmpp.security, settings.xmpp.verify_certificate), (Security::IfPossible, false));
    }

    #[test]
    fn every_mistake_is_named_at_once_and_no_password() {
        let broken = RawConnection::new("x", Origin::Default)
            .with("hostnmae", "h")
            .with("password", "s3cret")
            .with("port", "x")
            .with("muc-jids", "service.alone")
            .with("security-mode", "tls");
        let errors = broken.settings().expect_err("refused");
        let all = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for part in
            ["did you mean \"hostname\"", "port = \"x\"", "username", "muc-nickname", "service.alone", "ifpossible"]
        {
            assert!(all.contains(part), "{part} is not in\n{all}");
        }
        assert!(!all.contains("s3cret"), "{all}");
    }
}
