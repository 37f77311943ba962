//! Text to value.

use super::error::HoconError;
use super::include::{Include, Included};
use super::value::Value;
use super::{parser, resolve};

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
