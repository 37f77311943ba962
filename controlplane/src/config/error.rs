//! Why a configuration cannot be used.

use std::path::PathBuf;

use super::origin::Origin;

/// A setting that cannot be used; names the key, the value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or parsed.
    #[error("{path}: cannot be read: {reason}; give the right path with --config, or correct the file", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key {key:?} (value {value:?}); {hint}")]
    Unknown {
        /// Where the value was set.
        origin: Origin,
        /// Path of the setting.
        key: String,
        /// What it was set to.
        value: String,
        /// What to do.
        hint: String,
    },
    /// A value of the wrong form.
    #[error("{origin}: {key} = {value:?}: {remedy}")]
    Value {
        /// Where the value was set.
        origin: Origin,
        /// Path of the setting.
        key: &'static str,
        /// The value, masked where secret.
        value: String,
        /// What would be right.
        remedy: String,
    },
    /// One of several XMPP connections cannot be used.
    #[error("{origin}: connection {id}: {field} = {value:?}: {remedy}")]
    Connection {
        /// Where the value was set.
        origin: Origin,
        /// Name of the connection.
        id: String,
        /// Name of the field.
        field: String,
        /// The value, masked where secret.
        value: String,
        /// What would be right.
        remedy: String,
    },
    /// Something that cannot be passed over and is not served.
    #[error("{origin}: {key} = {value:?} is not served: {remedy}")]
    Unserved {
        /// Where the value was set.
        origin: Origin,
        /// Path of the setting.
        key: String,
        /// What it was set to.
        value: String,
        /// Why, and what to do.
        remedy: String,
    },
    /// Nobody said it and there is no default.
    #[error("{key} is not set: {remedy}")]
    Missing {
        /// Path of the setting.
        key: &'static str,
        /// What to do.
        remedy: String,
    },
}
