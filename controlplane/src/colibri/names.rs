//! Names of sources. Everything that clients ask for, and everything that is reported to them about what is forwarded, goes by the
//! name of a source: a name that two endpoints have would mean either.

use std::collections::BTreeSet;

use ringbridge_dataplane::media::{MediaKind, SourceDescription};

/// Whether a source of this endpoint may have this name: the endpoint's id, a hyphen, and something without a hyphen, such as
/// `1a2b3c4d-v0`. So no name belongs to two endpoints, whatever their ids are.
pub fn belongs_to(name: &str, endpoint: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(owner, suffix)| owner == endpoint && !suffix.is_empty())
}

/// A name of the endpoint that is not taken: `<endpoint>-v0`, `-v1` and so on, `a` for audio.
pub fn next_free(endpoint: &str, video: bool, taken: impl Fn(&str) -> bool) -> String {
    let kind = if video { 'v' } else { 'a' };
    let free = (0u32..).map(|n| format!("{endpoint}-{kind}{n}")).find(|name| !taken(name));
    free.unwrap_or_default()
}

/// Gives sources whose name is another endpoint's, or is there twice, a name of their own; returns how many. Those that
/// the focus made itself have names of another form, and it says so.
pub(super) fn own(endpoint: &str, sources: &mut [SourceDescription], synthetic: impl Fn(&str) -> bool) -> u64 {
    let mut taken = BTreeSet::new();
    let foreign = |source: &&mut SourceDescription| {
        let owned = belongs_to(&source.name, endpoint) || synthetic(&source.name);
        !owned || !taken.insert(source.name.clone())
    };
    let foreign: Vec<_> = sources.iter_mut().filter(foreign).collect();
    let renamed = foreign.len();
    for source in foreign {
        source.name = next_free(endpoint, source.kind == MediaKind::Video, |name| taken.contains(name));
        taken.insert(source.name.clone());
    }
    renamed as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whose_name_it_is() {
        for (name, endpoint) in [("bob-v0", "bob"), ("a-b-c-a12", "a-b-c"), ("bob-x", "bob")] {
            assert!(belongs_to(name, endpoint), "{name} of {endpoint}");
        }
        for name in ["bob-v0-v1", "bob", "bob-", "-v0", "", "bobby-v0", "Bob-v0", "camera"] {
            assert!(!belongs_to(name, "bob"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_belongs_to_two(name in "[ab-]{0,8}", one in "[ab-]{0,6}", other in "[ab-]{0,6}") {
            prop_assume!(one != other);
            prop_assert!(!(belongs_to(&name, &one) && belongs_to(&name, &other)));
            prop_assert!(belongs_to(&next_free(&one, true, |_| false), &one));
        }
    }
}
