//! A configuration as it is written, before substitutions are filled in.

use std::collections::BTreeMap;

/// Keys from the root to a value.
pub(super) type Path = Vec<String>;

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    /// A text; `quoted`: in quotes, so that white space in it counts.
    Text {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Object(Object),
    Substitution(Substitution),
    /// Values side by side, white space between them included.
    Concatenation(Vec<Node>),
}

impl Node {
    /// White space between the parts of a concatenation.
    pub fn is_space(&self) -> bool {
        matches!(self, Self::Text { text, quoted: false } if text.trim().is_empty())
    }

    /// Whether it has to be filled in, so that what it replaces may still be needed.
    pub fn has_substitution(&self) -> bool {
        match self {
            Self::Null | Self::Text { .. } => false,
            Self::Substitution(_) => true,
            Self::List(parts) | Self::Concatenation(parts) => parts.iter().any(Self::has_substitution),
            Self::Object(object) => object.fields.values().flatten().any(Self::has_substitution),
        }
    }
}

/// `${path}` or `${?path}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Substitution {
    pub path: Path,
    pub optional: bool,
    /// `${path[]}`: a list in numbered environment variables.
    pub list: bool,
    /// Where the file that holds it was included: its paths are looked for below that first.
    pub prefix: Path,
    pub line: usize,
    /// The file that holds it, when it is an included one.
    pub file: Option<String>,
}

/// Fields in the order of their keys; of each key everything that it was set to, the latest last.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object {
    pub fields: BTreeMap<String, Vec<Node>>,
}

impl Object {
    /// Sets what is at a path below this object.
    pub fn set(&mut self, path: &[String], node: Node) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = if rest.is_empty() {
            node
        } else {
            let mut inner = Self::default();
            inner.set(rest, node);
            Node::Object(inner)
        };
        let values = self.fields.entry(first.clone()).or_default();
        match (values.last_mut(), node) {
            // Two objects are one with the fields of both.
            (Some(Node::Object(old)), Node::Object(new)) => old.merge(new),
            (_, node) => {
                // What comes before a value that needs nothing of it is gone.
                if !matches!(node, Node::Object(_)) && !node.has_substitution() {
                    values.clear();
                }
                values.push(node);
            }
        }
    }

    /// Sets every field of `other` here.
    pub fn merge(&mut self, other: Self) {
        for (key, values) in other.fields {
            for value in values {
                self.set(std::slice::from_ref(&key), value);
            }
        }
    }

    /// Puts `prefix` before the place of every substitution: this is an included file.
    pub fn included_at(&mut self, prefix: &[String]) {
        for node in self.fields.values_mut().flatten() {
            place(node, prefix);
        }
    }
}

fn place(node: &mut Node, prefix: &[String]) {
    match node {
        Node::Null | Node::Text { .. } => {}
        Node::List(parts) | Node::Concatenation(parts) => parts.iter_mut().for_each(|part| place(part, prefix)),
        Node::Object(object) => object.included_at(prefix),
        Node::Substitution(substitution) => substitution.prefix = [prefix, &substitution.prefix].concat(),
    }
}
