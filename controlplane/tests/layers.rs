//! How the crate's files may import each other.

#[path = "../../dataplane/tests/imports/mod.rs"]
mod imports;

use std::path::Path;

use imports::{Imports, rules};

/// What stands in `src`, from the bottom up: each imports only what comes before it.
const ORDER: &[&str] = &[
    "lib",
    // Small mechanisms.
    "pace",
    "notify",
    "logging",
    // The doors, and what operators see.
    "door",
    "rest",
    "top",
    // Protocols.
    "xmpp",
    "public_address",
    "colibri",
    "jingle",
    "transport",
    "channel",
    // The two parts.
    "brewery",
    "bridge",
    "focus",
    // What is asked for on the command line.
    "config",
    "cli",
];

/// Uses that close a circle of files. It only gets shorter.
const KNOWN_CIRCLES: &[(&str, &str)] = &[
    ("bridge/actor.rs", "bridge/mod.rs"),
    ("bridge/endpoints/channel.rs", "bridge/endpoints.rs"),
    ("bridge/endpoints/mappings.rs", "bridge/endpoints.rs"),
    ("bridge/shards.rs", "bridge/mod.rs"),
    ("colibri/elements/jingle.rs", "colibri/elements.rs"),
    ("colibri/validation.rs", "colibri/bridge.rs"),
    ("config/connections.rs", "config/layers.rs"),
    ("config/docker.rs", "config/layers.rs"),
    ("config/hocon/parser.rs", "config/hocon/mod.rs"),
    ("config/hocon/resolve.rs", "config/hocon/mod.rs"),
    ("config/hocon/syntax.rs", "config/hocon/mod.rs"),
    ("config/mappings.rs", "config/layers.rs"),
    ("door/counters.rs", "door/mod.rs"),
    ("door/guests.rs", "door/mod.rs"),
    ("focus/clients.rs", "focus/machine.rs"),
    ("focus/machine.rs", "focus/mod.rs"),
    ("focus/meeting.rs", "focus/machine.rs"),
    ("focus/restarts.rs", "focus/machine.rs"),
    ("focus/telling.rs", "focus/machine.rs"),
    ("logging/writer.rs", "logging/mod.rs"),
    ("public_address/aws.rs", "public_address/mod.rs"),
    ("public_address/finding.rs", "public_address/mod.rs"),
    ("public_address/stun.rs", "public_address/mod.rs"),
    ("public_address/unused.rs", "public_address/mod.rs"),
    ("transport/certificate.rs", "transport/session.rs"),
    ("xmpp/connection.rs", "xmpp/mod.rs"),
    ("xmpp/framing.rs", "xmpp/reader.rs"),
    ("xmpp/stream.rs", "xmpp/mod.rs"),
    ("xmpp/tls.rs", "xmpp/mod.rs"),
    ("xmpp/tls.rs", "xmpp/stream.rs"),
];

/// The same where only a folder as a whole closes it: folder, user and used.
const KNOWN_CIRCLES_OF_FOLDERS: &[(&str, &str, &str)] = &[("bridge", "actor", "mod")];

/// Imports against the order. It only gets shorter.
const KNOWN_UPWARDS: &[(&str, &str)] =
    &[("bridge", "config"), ("door", "rest"), ("logging", "config"), ("logging", "rest"), ("xmpp", "colibri")];

fn this_crate() -> Imports {
    Imports::of_crate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn files_import_each_other_in_no_circle() {
    rules::no_circle_of_files(&this_crate(), KNOWN_CIRCLES).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn folders_import_each_other_one_way() {
    let imports = this_crate();
    let known: Vec<_> = KNOWN_UPWARDS.iter().map(|(from, to)| ("", *from, *to)).collect();
    let known = [known.as_slice(), KNOWN_CIRCLES_OF_FOLDERS].concat();
    rules::no_circle_of_folders(&imports.without(KNOWN_CIRCLES), &known).unwrap_or_else(|error| panic!("{error}"));
    rules::one_way(&imports, ORDER, KNOWN_UPWARDS).unwrap_or_else(|error| panic!("{error}"));
}
