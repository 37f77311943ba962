//! The program that takes over: this one's name and arguments again, whatever is behind the name by now.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::getuid;
use tokio::process::{Child, Command};

use super::wire::{FROM_VARIABLE, Peer, Wire, pair};

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
}

impl Program {
    /// A program with these arguments.
    pub fn new(path: impl Into<PathBuf>, arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self { path: path.into(), arguments: arguments.into_iter().collect(), variables: Vec::new() }
    }

    /// This process' own. To be asked at its start: once its file is replaced the system does not know the name any more.
    pub fn own() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        // A path as it was given, so that a link to the current release is followed again.
        let named = arguments.next().map(PathBuf::from).filter(|name| name.is_absolute());
        let path = match named {
            Some(path) => path,
            None => std::env::current_exe()?,
        };
        Ok(Self::new(path, arguments))
    }

    /// With one more variable in its environment.
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Starts it with one end of a socket, of which this is the other.
    pub(super) fn start(&self) -> Result<(Child, Wire), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        let (own, other) = pair().map_err(failed)?;
        let child = self.command(other).spawn().map_err(failed)?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .ok_or_else(|| failed(io::Error::other("it has no id")))?;
        let wire = Wire::new(own, Peer { pid, uid: getuid().as_raw() }).map_err(failed)?;
        Ok((child, wire))
    }

    fn command(&self, stdin: OwnedFd) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env(FROM_VARIABLE, std::process::id().to_string())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(stdin));
        command
    }
}
