//! What clients can do, by the hash of their capabilities (XEP-0115), and how many members came with each.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::features::Features;

/// Hashes that are remembered.
const MAX_CAPS: usize = 1_000;

/// One hash.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Known {
    /// The client, as the first one of that hash named itself.
    node: String,
    features: Features,
    members: u64,
}

/// By hash.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Caps(BTreeMap<String, Known>);

impl Caps {
    /// Somebody has capabilities of that hash: what they are, if that is known.
    pub fn met(&mut self, ver: &str) -> Option<Features> {
        let known = self.0.get_mut(ver)?;
        known.members += 1;
        Some(known.features)
    }

    /// Somebody proved what a hash stands for.
    pub fn proved(&mut self, node: &str, ver: String, features: Features) {
        if self.0.len() >= MAX_CAPS && !self.0.contains_key(&ver) {
            return;
        }
        let known = self.0.entry(ver).or_insert_with(|| Known { node: node.to_owned(), features, members: 0 });
        known.members += 1;
    }

    /// For operators, in the form of Jicofo's page.
    pub fn to_json(&self) -> Value {
        let one = |(ver, known): (&String, &Known)| {
            (format!("{}#{ver}", known.node), json!({ "count": known.members, "features": known.features.names() }))
        };
        self.0.iter().map(one).collect::<Map<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hash_is_known_once_and_their_number_is_bounded() {
        let mut caps = Caps::default();
        assert_eq!(caps.met("a"), None);
        for node in ["first", "second"] {
            caps.proved(node, "a".to_owned(), Features::from_vars(["urn:ietf:rfc:4588"].into_iter()));
        }
        assert!(caps.met("a").is_some_and(|features| features.rtx && !features.audio));
        assert_eq!(caps.to_json(), json!({ "first#a": { "count": 3, "features": ["RTX"] } }));
        for n in 0..2 * MAX_CAPS {
            caps.proved("x", n.to_string(), Features::UNKNOWN);
        }
        assert_eq!(caps.0.len(), MAX_CAPS);
        caps.proved("first", "a".to_owned(), Features::UNKNOWN);
        assert_eq!(caps.0["a"].members, 4);
    }
}
