//! Why a configuration cannot be read.

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
    pub(super) fn new(line: usize, reason: impl Into<String>) -> Self {
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
