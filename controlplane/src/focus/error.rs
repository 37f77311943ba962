//! Why a focus cannot run.

use std::path::PathBuf;

use crate::rest;

/// Why the focus ended.
#[derive(Debug, thiserror::Error)]
pub enum FocusError {
    /// The brewery is no valid room.
    #[error("brewery {brewery:?} cannot be joined as focus: {source}; correct the setting brewery")]
    Brewery {
        /// The setting.
        brewery: String,
        /// What is wrong with it.
        source: jid::Error,
    },
    /// The folder of its state cannot be used.
    #[error(
        "{path}: the state directory of the focus cannot be used: {source}; make it writable for this user and give each focus one of its own, or leave out focus.state-directory"
    )]
    State {
        /// The setting.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Health and statistics cannot be served.
    #[error(transparent)]
    Rest(#[from] rest::RestError),
}
