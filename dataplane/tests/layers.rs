//! How the crate's files may import each other.

#[path = "layers/carried.rs"]
mod carried;
mod imports;

use std::path::PathBuf;

use imports::{Imports, rules};

/// What stands in `src`, from the bottom up: each imports only what comes before it.
const ORDER: &[&str] = &[
    "lib",
    // Plain values and small mechanisms.
    "carry",
    "budget",
    "coalescing",
    "slab",
    "deadlines",
    "clock",
    "datagram",
    "ids",
    "stats",
    // Protocols.
    "rtp",
    "rtcp",
    "srtp",
    "ice",
    "media",
    "limits",
    "messages",
    "demux",
    // Decisions.
    "negotiation",
    "congestion",
    // The kernel, and what wakes threads.
    "io",
    "link",
    "peers",
    // What is forwarded, and who drives it.
    "conference",
    "engine",
    "worker",
    "dataplane",
    "handover",
];

/// Each could be a crate of its own.
const PROTOCOLS: &[&str] = &["ice", "srtp", "rtp", "rtcp"];

/// What those may use: values and mechanisms that know nothing of a bridge.
const FOUNDATION: &[&str] = &["budget", "carry", "datagram", "ids"];

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
fn protocols_import_nothing_above_them() {
    rules::stands_alone(&Imports::of_this_crate(), PROTOCOLS, FOUNDATION).unwrap_or_else(|error| panic!("{error}"));
}

/// A crate of a few files in a folder of its own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("imports-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn imports(&self) -> Imports {
        Imports::of_crate(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two files, `a` with this text and `b` that uses `a`.
fn beside_a_user(name: &str, a: &str) -> Result<(), String> {
    let files = [("lib.rs", "mod a; mod b; mod c;"), ("a.rs", a), ("b.rs", "use crate::a::A; pub struct B;")];
    let scratch = Scratch::new(name, &[files.as_slice(), &[("c.rs", "pub use crate::b::B;")]].concat());
    rules::no_circle_of_files(&scratch.imports())
}

#[test]
fn every_way_to_write_an_import_closes_a_circle() {
    for (n, text) in [
        "use crate::b::B; pub struct A;",
        "use super::b::{self, B as C}; pub struct A;",
        "pub struct A(crate::b::B);",
        "pub struct A; fn f() { println!(\"{:?}\", crate::b::B); }",
        "pub struct A; mod inside { use super::super::b::*; }",
        "use crate::b; pub struct A(b::B);",
        "use crate::c::B; pub struct A(B);",
        "use crate::{c as d}; pub struct A(d::B);",
        "pub use crate::b::B; pub struct A(B);",
        "#[cfg(not(test))] use crate::b::B; pub struct A;",
        "pub struct A; impl A { fn f() { use crate::b::B; } }",
        "pub use crate::b::B; pub struct A; enum E { F(B), G }",
        "#[cfg(test)] fn g() {} fn f(b: crate::b::B) {} pub struct A;",
    ]
    .into_iter()
    .enumerate()
    {
        let error = beside_a_user(&format!("yes{n}"), text).expect_err(text);
        assert!(error.contains("a.rs uses b.rs") && error.contains("b.rs uses a.rs (crate::a::A)"), "{text}: {error}");
    }
}

#[test]
fn what_is_no_import_closes_none() {
    for (n, text) in [
        "pub struct A;",
        "//! See [`crate::b::B`].\npub struct A; // use crate::b::B;",
        "pub use crate::b::B; pub struct A;",
        "pub struct A; const TEXT: &str = \"crate::b::B\";",
        "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] use crate::b::{B}; pub struct A;",
        "#[cfg(all(test, unix))] #[allow(dead_code)] fn f(b: crate::b::B) {} pub struct A;",
        "use b::B; pub struct A;",
        "pub struct A; fn f() { std::b::B; x.b; }",
        "pub use crate::b::B; pub struct A; enum E { B, #[doc(hidden)] B }",
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(beside_a_user(&format!("no{n}"), text), Ok(()), "{text}");
    }
}

#[test]
fn folders_and_order_are_watched_where_files_have_no_circle() {
    let files = [
        ("lib.rs", "mod low; mod high;"),
        ("low/mod.rs", "pub mod one; pub mod two; pub use one::One;"),
        ("low/one.rs", "pub struct One;"),
        ("low/two.rs", "use crate::high::High; pub struct Two;"),
        ("high.rs", "use crate::low::One; pub struct High;"),
    ];
    let scratch = Scratch::new("folders", &files);
    let imports = scratch.imports();
    assert_eq!(rules::no_circle_of_files(&imports), Ok(()));
    let error = rules::no_circle_of_folders(&imports).unwrap_err();
    assert!(error.contains("low uses high (crate::high::High in low/two.rs)"), "{error}");
    let error = rules::one_way(&imports, &["lib", "low", "high"]).unwrap_err();
    assert_eq!(error, "low imports high, above it (crate::high::High in low/two.rs)");
    assert!(rules::one_way(&imports, &["lib", "low"]).unwrap_err().contains("not in the order: [\"high\"]"));
    assert_eq!(rules::stands_alone(&imports, &["high"], &["low"]), Ok(()));
    assert!(rules::stands_alone(&imports, &["low"], &[]).unwrap_err().contains("low imports high"));
}
