//! Raw values with their origins.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use strsim::osa_distance;

use super::connections::RawConnection;
use super::error::ConfigError;
use super::hocon::{self, Value};
use super::keys::{KEYS, Key, Kind};
use super::origin::{MASK, Origin};
use super::reference::{self, Product, Use};
use super::visitor_nodes::{self, RawNode};
use super::{docker, jicofo, mappings, properties, values};
use crate::host::{self, AddressFilter};

/// Variables of ours that stand for no key: the name of the file, and what the unit starts.
const OTHER_VARIABLES: [&str; 2] = ["RINGBRIDGE_CONFIG", "RINGBRIDGE_PARTS"];

/// A value as text, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// The text; lists are joined by commas.
    pub text: String,
    /// Its origin.
    pub origin: Origin,
}

/// Values of all layers, the strongest of each key.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, Raw>,
    connections: Vec<RawConnection>,
    /// Servers that visitors are sent to.
    visitor_nodes: Vec<RawNode>,
    /// What became of settings of Jitsi Videobridge and Jicofo, in words.
    notes: Vec<String>,
    /// Values of Jitsi Videobridge that make one of ours together.
    parts: BTreeMap<String, String>,
    /// Those of Jicofo.
    jicofo: jicofo::Parts,
    /// Of Jicofo's settings what the focus cannot do and must not pass over.
    unserved: Vec<ConfigError>,
}

impl Layers {
    /// The defaults.
    pub fn defaults() -> Self {
        let mut layers = Self::default();
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            layers.set(key, key.default.to_owned(), Origin::Default);
        }
        layers
    }

    /// Adds a file over what is there.
    pub fn add_file(&mut self, path: &Path) -> Vec<ConfigError> {
        let tree = properties::refuse(path).and_then(|()| hocon::load(path));
        match tree {
            Ok(tree) => {
                let origin = Origin::File(path.to_owned());
                let mut errors = self.add_tree("", &tree, &origin);
                let sections = tree.fields();
                let is_of = |product: Product| {
                    product.sections().iter().any(|name| sections.is_some_and(|all| all.contains_key(*name)))
                };
                if is_of(Product::Videobridge) {
                    errors.extend(self.finish_reference(&origin));
                }
                if is_of(Product::Jicofo) {
                    errors.extend(self.finish_jicofo());
                }
                errors
            }
            Err(reason) => vec![ConfigError::File { path: path.to_owned(), reason }],
        }
    }

    /// Looks through the environment for variables that are ours but misspelt. Others that merely begin like ours
    /// are left alone: orchestrators make variables from the names of services.
    pub fn check_environment(names: impl IntoIterator<Item = String>) -> Vec<ConfigError> {
        let known: Vec<String> =
            KEYS.iter().map(Key::variable).chain(OTHER_VARIABLES.iter().map(|&name| name.to_owned())).collect();
        let misspelt = |name: String| {
            let nearest = known.iter().min_by_key(|variable| osa_distance(&name, variable))?;
            let typing_error = (1..=2).contains(&osa_distance(&name, nearest));
            (typing_error && !known.contains(&name)).then(|| ConfigError::Unknown {
                origin: Origin::Environment(name.clone()),
                // It may be meant as a secret.
                value: MASK.to_owned(),
                hint: format!("did you mean {nearest:?}?"),
                key: name,
            })
        };
        names.into_iter().filter(|name| name.starts_with("RINGBRIDGE_")).filter_map(misspelt).collect()
    }

    /// Adds the environments of docker-jitsi-meet's bridge and Jicofo, as far as it is one of them, and over them what the
    /// images include last.
    pub fn add_docker(&mut self, variable: impl Fn(&str) -> Option<String>, folder: &Path) -> Vec<ConfigError> {
        let bridge = docker::videobridge::read(&variable);
        let focus = docker::jicofo::read(&variable);
        let customs = [(bridge.is_some(), docker::videobridge::CUSTOM), (focus.is_some(), docker::jicofo::CUSTOM)];
        let customs: Vec<&str> = customs.into_iter().filter(|(meant, _)| *meant).map(|(_, name)| name).collect();
        if customs.is_empty() {
            return Vec::new();
        }
        if let Some(bridge) = bridge {
            self.add_docker_bridge(bridge);
        }
        let mut errors = focus.map(|focus| self.add_docker_focus(focus)).unwrap_or_default();
        let files = docker::PROPERTIES.iter().copied().chain(customs).map(|name| folder.join(name));
        errors.extend(files.filter(|path| path.is_file()).flat_map(|path| self.add_file(&path)));
        errors
    }

    fn add_docker_bridge(&mut self, docker: docker::videobridge::Docker) {
        for (path, value, name) in docker.values {
            if let Some(key) = Key::find(path) {
                self.note(format!("{name} is {path}"));
                self.set(key, value, Origin::Environment(name.to_owned()));
            }
        }
        for (name, value, why) in docker.ignored {
            self.note(format!("{name} = {value}  ignored: {why}"));
        }
        self.connections = docker.connections;
        // What a file says of the other part of an address goes with the image's own.
        self.parts.insert("videobridge.http-servers.private.host".to_owned(), "0.0.0.0".to_owned());
    }

    fn add_docker_focus(&mut self, docker: docker::jicofo::Docker) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        for (path, value, name) in docker.values {
            errors.extend(self.add_reference_text(&path, value, &Origin::Environment(name.to_owned())));
        }
        for (name, value, why) in docker.ignored {
            self.note(format!("{name} = {value}  ignored: {why}"));
        }
        errors.extend(self.finish_jicofo());
        errors
    }

    /// Both images have some variables in common.
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Where the files of the image's operator are.
    pub fn docker_folder() -> &'static Path {
        Path::new(docker::FOLDER)
    }

    /// XMPP connections that are given one by one.
    pub fn connections(&self) -> &[RawConnection] {
        &self.connections
    }

    /// Servers that visitors are sent to.
    pub(super) fn visitor_nodes(&self) -> &[RawNode] {
        &self.visitor_nodes
    }

    /// What became of settings of Jitsi Videobridge and Jicofo.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Settings of Jicofo that the focus cannot do and must not pass over.
    pub fn unserved(&self) -> Vec<ConfigError> {
        let text = |path: &str| self.get(path).map(|raw| raw.text.as_str()).unwrap_or_default();
        let second = self.jicofo.second_server(text("xmpp.host"), text("xmpp.port"));
        self.unserved.iter().cloned().chain(second).collect()
    }

    /// Fills in what follows from other settings or from this host.
    pub fn derive(&mut self) {
        let text = |path: &str| self.get(path).map(|raw| raw.text.clone()).unwrap_or_default();
        let addresses: Vec<String> = host::addresses(&self.address_filter()).iter().map(ToString::to_string).collect();
        let workers = match text("bridge.workers").as_str() {
            "0" => host::workers(&text("bridge.cores")).to_string(),
            _ => String::new(),
        };
        // Nobody can connect to 0.0.0.0: then the URL has to be given.
        let url = match text("bridge.websocket.listen").parse::<SocketAddr>() {
            Ok(listen) if !listen.ip().is_unspecified() => format!("ws://{listen}"),
            _ => String::new(),
        };
        for (path, value, from) in [
            ("bridge.listen-addresses", addresses.join(","), "the interfaces of this host"),
            ("bridge.workers", workers, "the cores"),
            ("bridge.websocket.base-url", url, "bridge.websocket.listen"),
            ("bridge.websocket.server-id", text("bridge.nickname"), "bridge.nickname"),
        ] {
            let given = self.get(path).is_some_and(|raw| raw.text != "0");
            if let (Some(key), false) = (Key::find(path), given || value.is_empty()) {
                self.set(key, value, Origin::Derived(from));
            }
        }
    }

    /// Which addresses of this host may be used.
    pub(super) fn address_filter(&self) -> AddressFilter {
        let text = |path: &str| self.get(path).map(|raw| raw.text.as_str()).unwrap_or_default();
        let list = |path: &str| -> Vec<String> { values::items(text(path)).map(str::to_owned).collect() };
        AddressFilter {
            allowed_interfaces: list("bridge.allowed-interfaces"),
            blocked_interfaces: list("bridge.blocked-interfaces"),
            blocked_addresses: list("bridge.blocked-addresses").iter().filter_map(|a| a.parse().ok()).collect(),
            no_ipv6: values::switch(text("bridge.ipv6")) == Some(false),
        }
    }

    fn add_tree(&mut self, path: &str, tree: &Value, origin: &Origin) -> Vec<ConfigError> {
        if Product::of(path).is_some() {
            return self.add_reference(path, tree, origin);
        }
        if path == "bridge.connections" {
            self.add_connections(tree, origin);
            return Vec::new();
        }
        if let Some(key) = Key::find(path)
            && let Some(text) = structured(key, tree)
        {
            self.set(key, text, origin.clone());
            return Vec::new();
        }
        if let Value::Object(children) = tree {
            let child_path = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            return children.iter().flat_map(|(name, child)| self.add_tree(&child_path(name), child, origin)).collect();
        }
        let Some(text) = tree.text() else { return Vec::new() };
        if let Some(field) = visitor_nodes::field_of(path) {
            visitor_nodes::set(&mut self.visitor_nodes, field, &text, origin);
            return Vec::new();
        }
        match Key::find(path) {
            Some(key) => {
                self.set(key, text, origin.clone());
                Vec::new()
            }
            None => {
                let nearest = nearest(path);
                let hint = match nearest {
                    Some(known) => format!("did you mean {:?}?", known.path),
                    None => "see docs/configuration.md for the keys that there are".to_owned(),
                };
                // A misspelt key of a secret still holds the secret.
                let secret = reference::is_secret(path) || nearest.is_some_and(|key| key.kind == Kind::Secret);
                let value = if secret { MASK.to_owned() } else { text };
                vec![ConfigError::Unknown { origin: origin.clone(), key: path.to_owned(), value, hint }]
            }
        }
    }

    fn add_connections(&mut self, tree: &Value, origin: &Origin) {
        for (id, fields) in tree.fields().into_iter().flatten() {
            let Some(fields) = fields.fields() else { continue };
            // A later file may change some fields of one that is there.
            let known = self.connections.iter().position(|connection| connection.id == *id);
            let mut connection = match known {
                Some(place) => self.connections.remove(place),
                None => RawConnection::new(id, origin.clone()),
            };
            for (field, value) in fields {
                connection = connection.with(field, &value.text().unwrap_or_default());
            }
            self.notes.extend(connection.ignored());
            self.connections.insert(known.unwrap_or(self.connections.len()), connection);
        }
    }

    /// A key of Jitsi Videobridge's or Jicofo's file, with what lies below it.
    fn add_reference(&mut self, path: &str, tree: &Value, origin: &Origin) -> Vec<ConfigError> {
        if path == "videobridge.apis.xmpp-client.configs" {
            self.add_connections(tree, origin);
            return Vec::new();
        }
        if path == "ice4j.harvest.mapping.static-mappings" {
            let (mappings, left_out) = match mappings::read(tree) {
                Ok(read) => read,
                Err(wrong) => {
                    let mappings::Wrong { key, value, hint } = wrong;
                    return vec![ConfigError::Unknown {
                        origin: origin.clone(),
                        key: format!("{path}{key}"),
                        value,
                        hint,
                    }];
                }
            };
            if left_out > 0 {
                self.notes.push(format!("{path}: {left_out} without any address  ignored: nothing is set in them"));
            }
            if let (Some(key), false) = (Key::find("bridge.public-addresses"), mappings.is_empty()) {
                self.notes.push(format!("{path} is {}", key.path));
                self.set(key, mappings.join(","), origin.clone());
            }
            return Vec::new();
        }
        if let Ok(Use::Key(own)) = reference::find(path)
            && let Some(text) = Key::find(own).and_then(|key| structured(key, tree))
        {
            return self.add_reference_text(path, text, origin);
        }
        if let Value::Object(children) = tree {
            return children
                .iter()
                .flat_map(|(name, child)| self.add_reference(&format!("{path}.{name}"), child, origin))
                .collect();
        }
        // A list of objects has no text.
        let Some(text) = tree.text() else { return Vec::new() };
        self.add_reference_text(path, text, origin)
    }

    /// One value of Jitsi Videobridge or Jicofo, from a file or from a variable of its container.
    fn add_reference_text(&mut self, path: &str, text: String, origin: &Origin) -> Vec<ConfigError> {
        let name = match origin {
            Origin::Environment(name) => name.as_str(),
            _ => path,
        };
        let shown = |secret: bool| match text.as_str() {
            _ if secret => MASK.to_owned(),
            "" => "[...]".to_owned(),
            text => text.to_owned(),
        };
        if let Some(field) = visitor_nodes::field_of(path) {
            let note = visitor_nodes::set(&mut self.visitor_nodes, field, &text, origin);
            self.note(format!("{name} = {note}"));
            return Vec::new();
        }
        let secret = reference::is_secret(path);
        match reference::find(path) {
            Err(meant) => {
                let (origin, key) = (origin.clone(), path.to_owned());
                // A misspelt key of a secret still holds the secret.
                let value = if secret || reference::is_secret(meant) { MASK.to_owned() } else { text };
                return vec![ConfigError::Unknown { origin, key, value, hint: format!("did you mean {meant:?}?") }];
            }
            Ok(Use::Ignored(why)) => self.note(format!("{name} = {}  ignored: {why}", shown(secret))),
            Ok(Use::Only(values, why)) => {
                self.unserved.retain(|said| !matches!(said, ConfigError::Unserved { key, .. } if key == path));
                let is = |value: &&str| match (values::switch(value), values::switch(&text)) {
                    (Some(a), Some(b)) => a == b,
                    _ => *value == text,
                };
                if text.is_empty() || values.iter().any(is) {
                    self.note(format!("{name} = {}  as it is here", shown(secret)));
                } else {
                    let (origin, key, remedy) = (origin.clone(), path.to_owned(), why.to_owned());
                    self.unserved.push(ConfigError::Unserved { origin, key, value: shown(secret), remedy });
                }
            }
            Ok(Use::Special) if Product::of(path) == Some(Product::Jicofo) => {
                self.jicofo.insert(path, text, origin.clone());
            }
            Ok(Use::Special) => drop(self.parts.insert(path.to_owned(), text)),
            Ok(Use::Key(own)) => {
                if let Some(key) = Key::find(own) {
                    self.note(format!("{name} = {}  is {own}", shown(secret || key.kind == Kind::Secret)));
                    self.set(key, text, origin.clone());
                }
            }
        }
        Vec::new()
    }

    /// Puts together what Jicofo says in parts.
    fn finish_jicofo(&mut self) -> Vec<ConfigError> {
        let host = self.get("xmpp.host").map(|raw| raw.text.clone()).unwrap_or_default();
        let made = match self.jicofo.settings(&host) {
            Ok(made) => made,
            Err(error) => return vec![*error],
        };
        for jicofo::Made { key, value, origin, from } in made {
            if let Some(key) = Key::find(key) {
                self.note(format!("{from} is {}", key.path));
                self.set(key, value, origin);
            }
        }
        Vec::new()
    }

    /// Puts together what Jitsi Videobridge says in parts, and takes over its other defaults.
    fn finish_reference(&mut self, origin: &Origin) -> Vec<ConfigError> {
        let parts = std::mem::take(&mut self.parts);
        let part = |path: &str| parts.get(path).map(String::as_str);
        let address = |host: Option<&str>, default: &str, port: &str| {
            let host = match host.unwrap_or(default) {
                "localhost" => "127.0.0.1",
                host => host,
            };
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        let mut set = |path: &'static str, value: String, from: &str| {
            if let Some(key) = Key::find(path) {
                self.notes.push(format!("{from} is {path}"));
                self.set(key, value, origin.clone());
            }
        };
        let server = |which: &str, what: &str| format!("videobridge.http-servers.{which}.{what}");
        let (host, port) = (server("private", "host"), server("private", "port"));
        if part(&host).is_some() || part(&port).is_some() {
            let listen = address(part(&host), "127.0.0.1", part(&port).unwrap_or("8080"));
            set("bridge.rest.listen", listen, "videobridge.http-servers.private");
        }
        let (host, port) = (server("public", "host"), server("public", "port"));
        if let Some(port) = part(&port).filter(|port| !port.starts_with('-')) {
            set("bridge.websocket.listen", address(part(&host), "0.0.0.0", port), "videobridge.http-servers.public");
        }
        for (one, several, target) in [
            ("videobridge.websockets.domain", "videobridge.websockets.domains", "bridge.websocket.base-url"),
            (
                "videobridge.websockets.relay-domain",
                "videobridge.websockets.relay-domains",
                "bridge.relay.websocket-url",
            ),
        ] {
            let Some((from, domains)) = [several, one].into_iter().find_map(|path| Some((path, part(path)?))) else {
                continue;
            };
            let domain = domains.split(',').next().unwrap_or_default();
            let tls = part("videobridge.websockets.tls").and_then(values::switch) == Some(true);
            if let Some((_, bare)) = domain.split_once("://") {
                return vec![ConfigError::Unknown {
                    origin: origin.clone(),
                    key: from.to_owned(),
                    value: domain.to_owned(),
                    hint: format!("it is a host with or without a port; write {bare:?}, and websockets.tls for https"),
                }];
            }
            let scheme = if tls { "wss" } else { "ws" };
            set(target, format!("{scheme}://{domain}"), from);
        }
        let switch = |path: &str| part(path).and_then(values::switch);
        for path in ["stun.enabled", "aws.enabled", "aws.force"] {
            let path = format!("ice4j.harvest.mapping.{path}");
            if let (Some(text), None) = (part(&path), switch(&path)) {
                let hint = "use true or false".to_owned();
                return vec![ConfigError::Unknown { origin: origin.clone(), key: path, value: text.to_owned(), hint }];
            }
        }
        if switch("ice4j.harvest.mapping.stun.enabled") == Some(false) {
            set("bridge.discovery.stun-servers", String::new(), "ice4j.harvest.mapping.stun.enabled = false");
        }
        let (enabled, force) = (switch("ice4j.harvest.mapping.aws.enabled"), switch("ice4j.harvest.mapping.aws.force"));
        let aws = match (enabled.unwrap_or(true), force.unwrap_or(false)) {
            (false, _) => "off",
            (true, false) => "auto",
            (true, true) => "on",
        };
        if enabled.is_some() || force.is_some() {
            set("bridge.discovery.aws", aws.to_owned(), "ice4j.harvest.mapping.aws");
        }
        let unsaid = self.get("bridge.discovery.aws").is_some_and(|raw| raw.origin == Origin::Default);
        if let (true, Some(key)) = (unsaid, Key::find("bridge.discovery.aws")) {
            self.set(key, aws.to_owned(), Origin::Derived("Jitsi Videobridge's default"));
        }
        let off = self.get("bridge.websocket.enabled").is_some_and(|raw| raw.origin == Origin::Default);
        if let (true, Some(key)) = (off, Key::find("bridge.websocket.enabled")) {
            self.set(key, "false".to_owned(), Origin::Derived("Jitsi Videobridge's default"));
        }
        Vec::new()
    }

    /// Sets one value over what is there.
    pub fn set(&mut self, key: &'static Key, text: String, origin: Origin) {
        self.values.insert(key.path, Raw { text, origin });
    }

    /// The value of a key; an empty text counts as not set.
    pub fn get(&self, path: &str) -> Option<&Raw> {
        self.values.get(path).filter(|raw| !raw.text.is_empty())
    }
}

/// The text of a value that is no simple one, where the key is for such.
fn structured(key: &Key, tree: &Value) -> Option<String> {
    match key.kind {
        Kind::Delays => delays_in(tree),
        Kind::RegionGroups => groups_in(tree),
        _ => None,
    }
}

/// Groups of regions, from a list of lists or of texts; what is neither stands in it so that it is refused.
fn groups_in(tree: &Value) -> Option<String> {
    let group = |group: &&Value| match group.items() {
        Some(regions) => regions.into_iter().filter_map(Value::text).collect::<Vec<_>>().join(" "),
        None => group.text().unwrap_or_else(|| "{...}".to_owned()),
    };
    Some(tree.items()?.iter().map(group).collect::<Vec<_>>().join(", "))
}

/// A table of times by size, from an object; `None` for anything else, and for what is no such table.
fn delays_in(tree: &Value) -> Option<String> {
    let item =
        |(size, time): (&String, &Value)| Some(format!("{size} = {}", time.text().filter(|text| !text.is_empty())?));
    let items: Vec<String> = tree.fields()?.iter().map(item).collect::<Option<_>>()?;
    Some(items.join(", "))
}

/// The setting that an unknown path most likely means: a misspelt one, or one that was put into another section.
fn nearest(path: &str) -> Option<&'static Key> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |key: &'static Key| {
        let whole = osa_distance(path, key.path);
        let part = osa_distance(&last(path), &last(key.path));
        if whole <= path.len() / 3 {
            Some((whole, key))
        } else {
            (part <= last(path).len() / 4).then_some((whole + part, key))
        }
    };
    KEYS.iter().filter_map(score).min_by_key(|(score, _)| *score).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_are_recognised() {
        let nearest = |path| nearest(path).map(|key| key.path);
        assert_eq!(nearest("bridge.prot"), Some("bridge.port"));
        assert_eq!(nearest("xmpp.hsot"), Some("xmpp.host"));
        assert_eq!(nearest("focus.conference-muc-jid"), Some("focus.conference-muc"));
        assert_eq!(nearest("nickname"), Some("bridge.nickname"));
        assert_eq!(nearest("xmpp.conference-muc"), Some("focus.conference-muc"));
        assert_eq!(nearest("videobridge.ice.udp.port"), Some("bridge.port"));
        assert_eq!(nearest("something.else.entirely"), None);
    }

    #[test]
    fn misspelt_variables_are_errors_and_those_of_others_are_not() {
        let names = [
            "RINGBRIDGE_PROT",
            "RINGBRIDGE_PORT",
            "RINGBRIDGE_CONFIG",
            "RINGBRIDGE_BENCH",
            "RINGBRIDGE_LOAD",
            "RINGBRIDGE_SERVICE_HOST",
            "PATH",
        ];
        let errors = Layers::check_environment(names.map(str::to_owned));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(
            texts[0].contains("RINGBRIDGE_PROT") && texts[0].contains("did you mean \"RINGBRIDGE_PORT\"?"),
            "{texts:?}"
        );
    }

    /// `RINGBRIDGE_PARTS` was taken for a misspelt `RINGBRIDGE_PORT`, and the service did not start.
    #[test]
    fn what_the_unit_sets_is_known() {
        let unit = include_str!("../../../packaging/ringbridge.service");
        let names: Vec<String> = unit
            .lines()
            .filter_map(|line| line.strip_prefix("Environment="))
            .flat_map(str::split_whitespace)
            .filter_map(|assignment| Some(assignment.split_once('=')?.0.to_owned()))
            .collect();
        for needed in OTHER_VARIABLES {
            assert!(names.iter().any(|name| name == needed), "{needed} is not among {names:?}");
        }
        let errors = Layers::check_environment(names);
        assert!(errors.is_empty(), "{errors:?}");
    }

    /// Files of the image's operator: read last, as the image includes them.
    #[test]
    fn the_images_own_files() {
        let folder = std::env::temp_dir().join(format!("ringbridge-image-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let environment = |name: &str| match name {
            "JVB_AUTH_PASSWORD" => Some("s3cret".to_owned()),
            "JVB_PORT" => Some("10020".to_owned()),
            _ => None,
        };
        let custom = "videobridge { ice.udp.port = 10030, http-servers.private.port = 8081, sctp.enabled = false\n\
                      apis.xmpp-client.configs.shard0.MUC_NICKNAME = mine\n\
                      apis.xmpp-client.configs.other { HOSTNAME = b, DOMAIN = c.example.net, USERNAME = jvb, PASSWORD = x\n\
                      MUC_JIDS = \"r@i.example.net\", MUC_NICKNAME = n } }";
        std::fs::write(folder.join(docker::videobridge::CUSTOM), custom).expect("written");
        let mut layers = Layers::defaults();
        let errors = layers.add_docker(environment, &folder);
        assert!(errors.is_empty(), "{errors:?}");
        let text = |path: &str| layers.get(path).map(|raw| raw.text.clone()).unwrap_or_default();
        assert_eq!((text("bridge.port"), text("bridge.rest.listen")), ("10030".into(), "0.0.0.0:8081".into()));
        assert_eq!((text("bridge.websocket.enabled"), text("bridge.sctp.enabled")), ("false".into(), "false".into()));
        let nicknames: Vec<_> =
            layers.connections().iter().map(|c| (c.id.as_str(), c.settings().expect("complete").nickname)).collect();
        assert_eq!(nicknames, [("shard0", "mine".to_owned()), ("other", "n".to_owned())]);

        // A broken one is said, and so are files that are not read any more.
        std::fs::write(folder.join(docker::videobridge::CUSTOM), "videobridge { ice { udp { prot = 1 } } }")
            .expect("written");
        std::fs::write(folder.join(docker::PROPERTIES[0]), "org.jitsi.videobridge.xmpp.user.x.PASSWORD=s3cret\n")
            .expect("written");
        let errors = Layers::defaults().add_docker(environment, &folder);
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(said.len() == 2 && said[0].contains("custom-sip-communicator.properties"), "{said:?}");
        assert!(said[1].contains("videobridge.ice.udp.port") && !said.concat().contains("s3cret"), "{said:?}");
        // Without the image's environment the folder means nothing.
        assert!(Layers::defaults().add_docker(|_| None, &folder).is_empty());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
