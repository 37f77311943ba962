//! Raw values with their origins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use hocon::{Hocon, HoconLoader};

use super::keys::{KEYS, Key};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// A setting that cannot be used; names the key, the value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or parsed.
    #[error("{path}: cannot be read: {reason}; give the right path with --config, or correct the file", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key {key:?} (value {value:?}); {hint}")]
    Unknown {
        /// Where.
        origin: Origin,
        /// Its path.
        key: String,
        /// What it was set to.
        value: String,
        /// What to do.
        hint: String,
    },
    /// A value of the wrong form.
    #[error("{origin}: {key} = {value:?}: {remedy}")]
    Value {
        /// Where.
        origin: Origin,
        /// Its path.
        key: &'static str,
        /// The value, masked where secret.
        value: String,
        /// What would be right.
        remedy: String,
    },
    /// Nobody said it and there is no default.
    #[error("{key} is not set: {remedy}")]
    Missing {
        /// Its path.
        key: &'static str,
        /// What to do.
        remedy: String,
    },
}

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
        let unreadable = |reason: String| vec![ConfigError::File { path: path.to_owned(), reason }];
        // Checked first: the loader takes a missing file for an empty one.
        if let Err(error) = std::fs::File::open(path) {
            return unreadable(error.to_string());
        }
        let loaded = HoconLoader::new().strict().load_file(path).and_then(HoconLoader::hocon);
        match loaded {
            Ok(tree) => self.add_tree("", &tree, &Origin::File(path.to_owned())),
            Err(error) => unreadable(error.to_string()),
        }
    }

    fn add_tree(&mut self, path: &str, tree: &Hocon, origin: &Origin) -> Vec<ConfigError> {
        if let Hocon::Hash(children) = tree {
            let child_path = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            return children.iter().flat_map(|(name, child)| self.add_tree(&child_path(name), child, origin)).collect();
        }
        let Some(text) = text_of(tree) else { return Vec::new() };
        match Key::find(path) {
            Some(key) => {
                self.set(key, text, origin.clone());
                Vec::new()
            }
            None => {
                let hint = match nearest(path) {
                    Some(known) => format!("did you mean {known:?}?"),
                    None => "see docs/configuration.md for the keys that there are".to_owned(),
                };
                vec![ConfigError::Unknown { origin: origin.clone(), key: path.to_owned(), value: text, hint }]
            }
        }
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

/// Text of a leaf; `None` for null.
fn text_of(leaf: &Hocon) -> Option<String> {
    Some(match leaf {
        Hocon::String(text) => text.clone(),
        Hocon::Integer(number) => number.to_string(),
        Hocon::Real(number) => number.to_string(),
        Hocon::Boolean(switch) => switch.to_string(),
        Hocon::Array(items) => items.iter().filter_map(text_of).collect::<Vec<_>>().join(","),
        Hocon::Null => return None,
        other => format!("{other:?}"),
    })
}

/// The known path that an unknown one most likely means.
fn nearest(path: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |key: &&Key| distance(path, key.path).min(1 + distance(&last(path), &last(key.path)));
    KEYS.iter().min_by_key(distance).filter(|key| distance(key) <= path.len() / 3 + 1).map(|key| key.path)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_are_recognised() {
        assert_eq!(nearest("bridge.prot"), Some("bridge.port"));
        assert_eq!(nearest("xmpp.hsot"), Some("xmpp.host"));
        assert_eq!(nearest("focus.conference-muc-jid"), Some("focus.conference-muc"));
        assert_eq!(nearest("something.else.entirely"), None);
    }
}
