//! Files that a configuration includes.

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
    /// In Jitsi Videobridge's own program: `include classpath("name")`. We have none of it.
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
