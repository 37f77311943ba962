//! HOCON, the language of configuration files (Lightbend's "HOCON (Human-Optimized Config Object Notation)"), read to its
//! specification. Values keep the spelling that they have in the file: `10.10` is not the number 10.1, and `0012345` not 12345.
//!
//! Not served: `include url(...)`, and `.properties` files, which are named with what to do instead.

mod error;
mod files;
mod include;
mod limits;
mod parser;
mod read;
mod resolve;
mod syntax;
mod tree;
mod value;

pub use error::HoconError;
pub use files::load;
pub use include::{Include, Included, Source};
pub use read::read;
pub use value::Value;

#[cfg(test)]
mod tests;
