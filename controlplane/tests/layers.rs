//! How the crate's files may import each other.

// One rule is for the data plane alone.
#[allow(dead_code)]
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
    "host",
    "metrics",
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
    // The two services.
    "brewery",
    "bridge",
    "focus",
    // Their settings, and the command line.
    "config",
    "cli",
];

fn this_crate() -> Imports {
    Imports::of_crate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn files_import_each_other_in_no_circle() {
    rules::no_circle_of_files(&this_crate(), &[]).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn folders_import_each_other_one_way() {
    let imports = this_crate();
    rules::no_circle_of_folders(&imports, &[]).unwrap_or_else(|error| panic!("{error}"));
    rules::one_way(&imports, ORDER, &[]).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn mechanisms_import_nothing_of_the_bridge_or_the_focus() {
    let imports = this_crate();
    for (folders, allowed) in
        [(&["pace", "notify", "host", "metrics"][..], &[][..]), (&["xmpp", "public_address"], &["metrics"])]
    {
        rules::stands_alone(&imports, folders, allowed).unwrap_or_else(|error| panic!("{error}"));
    }
}
