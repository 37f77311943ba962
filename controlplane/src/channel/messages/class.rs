//! What every message of a channel begins with, and why one is of no use.

use std::borrow::Cow;

use serde::Deserialize;

use crate::channel::counters::Counted;
use crate::channel::limits::{MAX_DEPTH, is_shallow};

/// Why a message is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no valid JSON of its class.
    #[error("no valid message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is nested too deeply.
    #[error("nested more than {} deep", MAX_DEPTH)]
    TooDeep,
}

impl Unusable {
    /// What it is counted as.
    pub(super) fn counted(&self) -> Counted {
        match self {
            Self::Malformed(_) => Counted::Malformed,
            Self::TooDeep => Counted::TooDeep,
        }
    }
}

/// The class of a message.
///
/// # Errors
/// When it is no JSON object that names one, or nested too deeply.
pub(super) fn class(text: &[u8]) -> Result<Cow<'_, str>, Unusable> {
    #[derive(Deserialize)]
    struct Class<'a> {
        #[serde(rename = "colibriClass", borrow)]
        class: Cow<'a, str>,
    }
    if !is_shallow(text) {
        return Err(Unusable::TooDeep);
    }
    Ok(serde_json::from_slice::<Class<'_>>(text)?.class)
}
