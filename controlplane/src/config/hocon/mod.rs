//! HOCON, the language of configuration files (Lightbend's "HOCON (Human-Optimized Config Object Notation)"), read to its
//! specification. Values keep the spelling that they have in the file: `10.10` is not the number 10.1, and `0012345` not 12345.
//!
//! Not served: `include url(...)`, and `.properties` files, which are named with what to do instead.

mod files;
mod parser;
mod resolve;
mod syntax;
mod tree;

use std::collections::BTreeMap;

pub use files::load;

/// Deepest nesting of objects and lists.
const MAX_DEPTH: usize = 64;
/// Largest file, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Includes within includes.
const MAX_INCLUDE_DEPTH: usize = 16;
/// Files of one configuration.
const MAX_FILES: usize = 100;
/// Values that may be made while substitutions are filled in: a few lines that refer to each other can make billions.
const MAX_VALUES: usize = 200_000;
/// Bytes of text that may be made in the same way.
const MAX_TEXT: usize = 16 << 20;

/// A value with nothing left to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// A text, number or boolean as it is written.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// The fields of an object.
    pub fn fields(&self) -> Option<&BTreeMap<String, Value>> {
        if let Self::Object(fields) = self { Some(fields) } else { None }
    }

    /// The items of a list, or of an object whose keys are numbers, by those numbers.
    pub fn items(&self) -> Option<Vec<&Value>> {
        match self {
            Self::List(items) => Some(items.iter().collect()),
            Self::Object(fields) if !fields.is_empty() => {
                let mut numbered: Vec<(u64, &Value)> =
                    fields.iter().map(|(key, value)| Some((key.parse().ok()?, value))).collect::<Option<_>>()?;
                numbered.sort_by_key(|(number, _)| *number);
                Some(numbered.into_iter().map(|(_, value)| value).collect())
            }
            _ => None,
        }
    }
}

/// Why a configuration cannot be read. Never holds a value of it: it may be a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoconError {
    /// Which file, when it is not the one that was asked for.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What is wrong, and the remedy.
    pub reason: String,
}

impl HoconError {
    fn new(line: usize, reason: impl Into<String>) -> Self {
        Self { file: None, line: Some(line), reason: reason.into() }
    }
}

impl std::fmt::Display for HoconError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Reads a text. `include` gives the text of an included file and its name, `None` when there is none; `variable` the
/// environment.
pub fn read(
    text: &str,
    include: &mut dyn FnMut(&Include) -> Result<Option<Included>, String>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Value, HoconError> {
    let root = parser::parse(text, include, 0)?;
    resolve::resolve(&root, variable)
}

/// What an `include` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// Where it is to be found.
    pub from: Source,
    /// The name as it is written.
    pub name: String,
    /// The name of the file that asks; `None` for the outermost.
    pub asked_by: Option<String>,
}

/// Where an included file is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Beside the file that includes it: `include "name"`, `include file("name")`.
    File,
    /// In the reference's own program: `include classpath("name")`. We have none of it.
    Classpath,
    /// Somewhere else: `include url("...")`.
    Url,
}

/// An included file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// Names it in errors, and in what it includes itself.
    pub name: String,
    /// Its text.
    pub text: String,
}

#[cfg(test)]
mod tests;
