//! What is logged, and how.

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// JSON lines instead of text.
    pub json: bool,
    /// Filter directives.
    pub filter: String,
}
