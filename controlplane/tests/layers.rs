//! How the crate's files may import each other.

#[path = "../../dataplane/tests/imports/mod.rs"]
mod imports;

use imports::{Imports, rules};

/// What stands in `src`, from the bottom up: each imports only what comes before it.
const ORDER: &[&str] = &[
    "lib",
    // Small mechanisms.
    "civil",
    "carried",
    "pace",
    "notify",
    "host",
    "metrics",
    "logging",
    "upgrade",
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
    // The two services.
    "brewery",
    "bridge",
    "focus",
    // Their settings, and the command line.
    "config",
    "cli",
];

#[test]
fn files_import_each_other_in_no_circle() {
    rules::no_circle_of_files(&Imports::of_this_crate()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn folders_import_each_other_one_way() {
    let imports = Imports::of_this_crate();
    rules::no_circle_of_folders(&imports).unwrap_or_else(|error| panic!("{error}"));
    rules::one_way(&imports, ORDER).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn mechanisms_import_nothing_of_the_bridge_or_the_focus() {
    let imports = Imports::of_this_crate();
    for (folders, allowed) in [
        (&["pace", "notify", "host", "metrics"][..], &["carried"][..]),
        (&["xmpp", "public_address"], &["carried", "metrics", "pace"]),
    ] {
        rules::stands_alone(&imports, folders, allowed).unwrap_or_else(|error| panic!("{error}"));
    }
}
