//! The program that takes over: this one's name and arguments again, whatever is behind the name by now.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ringbridge_dataplane::io::spawn_detached;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getuid, pidfd_open, pidfd_send_signal};

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
    pub(super) fn start(&self) -> Result<(Started, Wire), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        check_format(&self.path).map_err(failed)?;
        let (own, other) = pair().map_err(failed)?;
        let pid = spawn_detached(self.command(other)).map_err(failed)?;
        let started = Started::new(pid).map_err(failed)?;
        let peer = Peer { pid: started.pid.as_raw_nonzero().get(), uid: getuid().as_raw() };
        let wire = Wire::new(own, peer).map_err(failed)?;
        Ok((started, wire))
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

/// Bytes of an ELF file up to and with its architecture.
const HEADER: usize = 20;

/// Whether the kernel can execute the file. What it cannot the C library gives to the shell, as a script of any words.
fn check_format(path: &Path) -> io::Result<()> {
    let header = |path: &Path| {
        let mut bytes = Vec::with_capacity(HEADER);
        File::open(path)?.take(HEADER as u64).read_to_end(&mut bytes).map(|_| bytes)
    };
    let Ok(bytes) = header(path) else {
        // One may execute what one may not read; whatever else is wrong the start will say.
        return Ok(());
    };
    let own = header(Path::new("/proc/self/exe"))?;
    // Word length and byte order, then the architecture.
    let same = |range: Range<usize>| bytes.get(range.clone()) == own.get(range);
    let fits = bytes.starts_with(b"#!") || bytes.starts_with(b"\x7fELF") && same(4..6) && same(18..20);
    if fits { Ok(()) } else { Err(Errno::NOEXEC.into()) }
}

/// A process that was started, and is nobody's child.
#[derive(Debug)]
pub(super) struct Started {
    pid: Pid,
    /// Of that process, even when another has its id; none if it ended at once, which its socket says.
    handle: Option<OwnedFd>,
}

impl Started {
    fn new(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("it has no id"))?;
        Ok(Self { pid, handle: pidfd_open(pid, PidfdFlags::empty()).ok() })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends it, if it has not ended.
    pub fn kill(&self) {
        if let Some(handle) = &self.handle {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}
