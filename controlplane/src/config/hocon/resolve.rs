//! Tree to values: substitutions are filled in, and what was set several times becomes one value.

use std::collections::BTreeMap;

use super::error::HoconError;
use super::limits::{MAX_DEPTH, MAX_TEXT, MAX_VALUES};
use super::tree::{Node, Object, Path, Substitution};
use super::value::Value;

/// Values that are in the making at the same time, each because of the one before.
const MAX_MAKING: usize = 2 * MAX_DEPTH;

const TOO_MUCH: &str = "substitutions make too much of it; see that none leads to itself over others";

/// Fills in everything below `root`.
pub(super) fn resolve(root: &Object, variable: &dyn Fn(&str) -> Option<String>) -> Result<Value, HoconError> {
    let mut resolver = Resolver { root, variable, making: Vec::new(), values: 0, bytes: 0 };
    resolver.object(root, &mut Vec::new()).map(Value::Object)
}

/// Which of the values that a key was set to.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    path: Path,
    index: usize,
}

struct Resolver<'a> {
    root: &'a Object,
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// What is being made, the innermost last. A substitution that leads back to one of these means what the key was before.
    making: Vec<Field>,
    /// Values and bytes of text made so far.
    values: usize,
    bytes: usize,
}

/// A value; `None` where an optional substitution found nothing.
type Made = Result<Option<Value>, HoconError>;

impl<'a> Resolver<'a> {
    fn object(&mut self, object: &'a Object, path: &mut Path) -> Result<BTreeMap<String, Value>, HoconError> {
        let mut fields = BTreeMap::new();
        for (key, values) in &object.fields {
            path.push(key.clone());
            let value = self.field(values, values.len(), path)?;
            path.pop();
            if let Some(value) = value {
                fields.insert(key.clone(), value);
            }
        }
        Ok(fields)
    }

    /// What the first `count` values that a key was set to come to.
    fn field(&mut self, values: &'a [Node], count: usize, path: &mut Path) -> Made {
        let mut merged = None;
        for (index, node) in values.iter().enumerate().take(count).rev() {
            self.making.push(Field { path: path.clone(), index });
            let value = self.node(node, path);
            self.making.pop();
            if let Some(value) = value?
                && !lay_below(&mut merged, value)
            {
                break;
            }
        }
        Ok(merged)
    }

    fn node(&mut self, node: &'a Node, path: &mut Path) -> Made {
        self.values += 1;
        if let Node::Text { text, .. } = node {
            self.bytes += text.len();
        }
        if self.values > MAX_VALUES || self.bytes > MAX_TEXT || self.making.len() > MAX_MAKING {
            return Err(HoconError { file: None, line: None, reason: TOO_MUCH.to_owned() });
        }
        Ok(Some(match node {
            Node::Null => Value::Null,
            Node::Text { text, .. } => Value::Text(text.clone()),
            Node::List(nodes) => {
                let mut items = Vec::new();
                for node in nodes {
                    items.extend(self.node(node, path)?);
                }
                Value::List(items)
            }
            Node::Object(object) => Value::Object(self.object(object, path)?),
            Node::Substitution(substitution) => return self.substitution(substitution),
            Node::Concatenation(parts) => return self.concatenation(parts, path),
        }))
    }

    fn concatenation(&mut self, parts: &'a [Node], path: &mut Path) -> Made {
        let mut made = Vec::new();
        let mut line = None;
        for part in parts {
            if let Node::Substitution(substitution) = part {
                line = Some(substitution.line);
            }
            if let Some(value) = self.node(part, path)? {
                made.push((value, part.is_space()));
            }
        }
        let is_text = |value: &Value| matches!(value, Value::Text(_) | Value::Null);
        let solid = || made.iter().filter(|(_, space)| !space).map(|(value, _)| value);
        if solid().next().is_none() {
            return Ok(None);
        }
        let mixed = || HoconError {
            file: None,
            line,
            reason: "a text, a list and an object cannot be joined; a substitution here is not what it should be"
                .into(),
        };
        if solid().all(is_text) {
            let text = |(value, _): &(Value, bool)| match value {
                Value::Text(text) => text.clone(),
                _ => "null".to_owned(),
            };
            return Ok(Some(Value::Text(made.iter().map(text).collect())));
        }
        if solid().all(|value| value.fields().is_some()) {
            let mut all = BTreeMap::new();
            for (value, _) in made {
                if let Value::Object(fields) = value {
                    overlay(&mut all, fields);
                }
            }
            return Ok(Some(Value::Object(all)));
        }
        let mut items = Vec::new();
        for value in solid() {
            items.extend(value.items().ok_or_else(mixed)?.into_iter().cloned());
        }
        Ok(Some(Value::List(items)))
    }

    fn substitution(&mut self, wanted: &Substitution) -> Made {
        if let Some(value) = self.refer(wanted, &[])? {
            return Ok(Some(value));
        }
        let name = wanted.path.join(".");
        if wanted.list {
            let numbered = (0..).map_while(|number| (self.variable)(&format!("{name}_{number}")));
            let items: Vec<Value> = numbered.map(Value::Text).collect();
            if !items.is_empty() {
                return Ok(Some(Value::List(items)));
            }
        } else if let Some(text) = (self.variable)(&name) {
            return Ok(Some(Value::Text(text)));
        }
        if wanted.optional {
            return Ok(None);
        }
        Err(HoconError {
            file: wanted.file.clone(),
            line: Some(wanted.line),
            reason: format!(
                "${{{name}}} is neither a key of the file nor an environment variable; set it, or write ${{?{name}}}"
            ),
        })
    }

    /// What the file has at the path of a substitution, and `rest` below it.
    fn refer(&mut self, wanted: &Substitution, rest: &[String]) -> Made {
        if self.making.len() > MAX_MAKING {
            return Err(HoconError { file: wanted.file.clone(), line: Some(wanted.line), reason: TOO_MUCH.to_owned() });
        }
        if !wanted.prefix.is_empty() {
            let path = [&wanted.prefix[..], &wanted.path, rest].concat();
            if let Some(value) = self.look_below(self.root, &mut Vec::new(), &path)? {
                return Ok(Some(value));
            }
        }
        self.look_below(self.root, &mut Vec::new(), &[&wanted.path[..], rest].concat())
    }

    /// What is at `rest` below an object that is itself at `here`.
    fn look_below(&mut self, object: &'a Object, here: &mut Path, rest: &[String]) -> Made {
        let Some((key, rest)) = rest.split_first() else { return Ok(None) };
        let Some(values) = object.fields.get(key) else { return Ok(None) };
        here.push(key.clone());
        let count = self.visible(here, rest.is_empty(), values.len());
        let found = if rest.is_empty() {
            self.field(values, count, here)
        } else {
            self.look_through(&values[..count], here, rest)
        };
        here.pop();
        found
    }

    /// How many of the values of a key count for a substitution: what is being made right now is not among them.
    fn visible(&self, path: &Path, whole: bool, count: usize) -> usize {
        let innermost = self.making.last().filter(|field| field.path == *path);
        let field = innermost.or_else(|| self.making.iter().rev().find(|field| whole && field.path == *path));
        field.map_or(count, |field| field.index)
    }

    /// What is at `rest` in the values that a key was set to, without making all of them: they may refer to each other.
    fn look_through(&mut self, values: &'a [Node], here: &mut Path, rest: &[String]) -> Made {
        let mut merged = None;
        for (index, node) in values.iter().enumerate().rev() {
            let parts = if let Node::Concatenation(parts) = node { &parts[..] } else { std::slice::from_ref(node) };
            for part in parts.iter().rev() {
                let found = match part {
                    Node::Object(object) => self.look_below(object, here, rest)?,
                    Node::Substitution(other) => {
                        self.making.push(Field { path: here.clone(), index });
                        let found = self.refer(other, rest);
                        self.making.pop();
                        found?
                    }
                    part if part.is_space() => continue,
                    // A text or a list: nothing is below it, and nothing shines through.
                    _ => return Ok(merged),
                };
                if let Some(value) = found
                    && !lay_below(&mut merged, value)
                {
                    return Ok(merged);
                }
            }
        }
        Ok(merged)
    }
}

/// Puts a value below what is there; whether something below it can still shine through, as through objects alone.
fn lay_below(merged: &mut Option<Value>, value: Value) -> bool {
    match (merged, value) {
        (Some(Value::Object(over)), Value::Object(fields)) => {
            let above = std::mem::replace(over, fields);
            overlay(over, above);
            true
        }
        (Some(_), _) => false,
        (merged, value) => {
            let object = matches!(value, Value::Object(_));
            *merged = Some(value);
            object
        }
    }
}

/// Puts the fields of `over` over those of `fields`, objects merged.
fn overlay(fields: &mut BTreeMap<String, Value>, over: BTreeMap<String, Value>) {
    for (key, value) in over {
        match (fields.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => overlay(old, new),
            (_, value) => drop(fields.insert(key, value)),
        }
    }
}
