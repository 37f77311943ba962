//! The folder where a focus keeps what the next process needs: written while it runs, so that it does not matter how it ends.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::xmpp::SessionFile;

/// A change is written after this.
const SOON: Duration = Duration::from_millis(100);
/// And later by this for each byte, so that a large site writes rarely: 1 MB less than twice a second.
const PER_BYTE: Duration = Duration::from_nanos(500);
/// The process before may still be ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// Bytes that are read: more than the largest site writes.
const MAX_FILE: u64 = 256 << 20;

/// The folder, locked against a second focus.
#[derive(Debug)]
pub(in crate::focus) struct Directory {
    path: PathBuf,
    lock: File,
    /// What is in the file.
    written: String,
    /// When a change is to be written.
    due: Option<Instant>,
    /// How long after a change.
    pause: Duration,
    /// Whether the log has a line about what cannot be written.
    failed: bool,
}

impl Directory {
    /// Opens or creates it; waits for a process that is ending.
    pub async fn open(path: &Path) -> io::Result<Self> {
        Self::open_within(path, LOCK_PATIENCE).await
    }

    /// The same with the lock of another process, which holds it for as long as it has it; one of another folder does not count.
    pub fn take(path: &Path, lock: Option<OwnedFd>) -> io::Result<Self> {
        let own = Self::lock_file(path)?;
        let file = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let held = match lock.map(File::from) {
            Some(held) if file(&held)? == file(&own)? => held,
            _ => own,
        };
        match held.try_lock() {
            Ok(()) => Ok(Self::locked(path, held)),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Err(in_use()),
        }
    }

    /// The lock, for the process that goes on.
    pub fn lock(&self) -> io::Result<OwnedFd> {
        self.lock.try_clone().map(OwnedFd::from)
    }

    fn lock_file(path: &Path) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join("focus.lock"))
    }

    fn locked(path: &Path, lock: File) -> Self {
        Self { path: path.to_owned(), lock, written: String::new(), due: None, pause: SOON, failed: false }
    }

    async fn open_within(path: &Path, patience: Duration) -> io::Result<Self> {
        let lock = Self::lock_file(path)?;
        let until = Instant::now() + patience;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    return Err(in_use());
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
            }
        }
        Ok(Self::locked(path, lock))
    }

    /// Where the XMPP session is kept.
    pub fn session_file(&self) -> io::Result<SessionFile> {
        SessionFile::open(&self.path.join("focus.session"))
    }

    fn file(&self) -> PathBuf {
        self.path.join("focus.json")
    }

    /// What the process before left; nothing where it left nothing.
    pub fn load(&self) -> io::Result<Option<String>> {
        let file = match File::open(self.file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Something may have changed.
    pub fn touch(&mut self, now: Instant) {
        self.due.get_or_insert(now + self.pause);
    }

    /// When [`Self::store`] wants to be called.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes what `keep` says, if it is not there already.
    pub fn store(&mut self, keep: impl FnOnce() -> String) {
        self.due = None;
        let text = keep();
        if text != self.written {
            let written = self.write(&text);
            if let Err(error) = &written
                && !self.failed
            {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the focus's state cannot be written; after a restart its calls would begin anew");
            }
            self.failed = written.is_err();
            self.written = text;
        }
        // By its size and not by the time that it took: a busy host must not make it late.
        self.pause = SOON + PER_BYTE * u32::try_from(self.written.len()).unwrap_or(u32::MAX);
    }

    /// In one step, so that the file is whole whenever this process ends.
    fn write(&self, text: &str) -> io::Result<()> {
        let new = self.path.join("focus.json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, self.file())
    }
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "another focus uses it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_last_is_found_and_a_second_focus_is_kept_out() {
        let path = std::env::temp_dir().join(format!("ringbridge-directory-{}", std::process::id()));
        let mut directory = Directory::open(&path.join("deeper")).await.expect("a folder");
        assert_eq!(directory.load().expect("readable"), None);
        let now = Instant::now();
        directory.touch(now);
        directory.touch(now + SOON);
        assert_eq!(directory.due(), Some(now + SOON), "changes are written together");
        for text in ["first", "second"] {
            directory.store(|| text.to_owned());
        }
        assert_eq!(directory.due(), None);
        let mode = |file: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::metadata(path.join("deeper").join(file)).expect("a file").permissions().mode() & 0o777
        };
        assert_eq!((mode(""), mode("focus.json"), mode("focus.lock")), (0o700, 0o600, 0o600));
        let second = Directory::open_within(&path.join("deeper"), Duration::ZERO)
            .await
            .map(|_| ())
            .map_err(|error| error.kind());
        assert_eq!(second, Err(io::ErrorKind::ResourceBusy));
        let (handed, of_nobody) = (directory.lock().expect("a descriptor"), None);
        let next = Directory::take(&path.join("deeper"), Some(handed)).expect("the lock goes on");
        drop(directory);
        let other = |lock| Directory::take(&path.join("deeper"), lock).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(
            other(of_nobody),
            Err(io::ErrorKind::ResourceBusy),
            "it is locked for as long as the next one lives"
        );
        let elsewhere = Directory::take(&path.join("elsewhere"), None).expect("nobody uses it");
        assert_eq!(other(elsewhere.lock().ok()), Err(io::ErrorKind::ResourceBusy), "that is no lock of this folder");
        drop(next);
        let directory = Directory::open(&path.join("deeper")).await.expect("a folder");
        assert_eq!(directory.load().expect("readable").as_deref(), Some("second"));
        drop(directory);
        fs::remove_dir_all(&path).expect("removed");
    }
}
