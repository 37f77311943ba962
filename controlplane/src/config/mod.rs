//! Configuration: defaults, then a HOCON file, then the environment, then flags; the last one wins.
//!
//! Every setting is one row of [`keys::KEYS`], from which the flags, the environment variables, the check for unknown
//! keys, and the listing of `ringbridge check-config` are made.

mod connections;
mod docker;
pub mod hocon;
pub mod host;
pub mod keys;
mod layers;
mod mappings;
mod properties;
mod reference;
mod settings;
mod values;

pub use layers::{ConfigError, Layers, Origin};
pub use settings::{Config, Logging, Parts};
pub(crate) use settings::{listing, notes};
