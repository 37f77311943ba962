//! Configuration: defaults, then a HOCON file, then the environment, then flags; the last one wins.
//!
//! Every setting is one row of [`keys::KEYS`], from which the flags, the environment variables, the check for unknown
//! keys, and the listing of `ringbridge check-config` are made.

mod connections;
mod docker;
mod error;
pub mod hocon;
mod jicofo;
pub mod keys;
mod layers;
mod mappings;
mod origin;
mod properties;
mod reference;
mod settings;
mod values;
mod visitor_nodes;

pub use error::ConfigError;
pub use layers::Layers;
pub use origin::Origin;
pub use settings::{Config, Parts};
pub(crate) use settings::{listing, notes};
