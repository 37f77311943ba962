//! The thread that writes the log.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::counters::{LogCounters, Lost};
use super::queue::Queue;
use super::terminal::complain;

/// How long, and how often, a line is tried again where writing would block.
const AGAIN: Duration = Duration::from_millis(20);
const TRIES: u32 = 50;

/// Starts it. Without it nothing is kept, and everything is counted as lost.
pub(super) fn spawn(queue: Arc<Queue>) {
    let for_thread = Arc::clone(&queue);
    // The standard library's handle takes a closed descriptor for success, and is shared with whoever prints.
    let started = io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|file| {
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut writer = LineWriter::new(file, for_thread.counters());
            loop {
                let (line, refused) = for_thread.next();
                writer.write(&line, refused);
            }
        })
    });
    if let Err(error) = started {
        complain(format_args!("ringbridge: logs nothing, its writer cannot be started: {error}"));
        queue.abandon();
    }
}

/// Writes whole lines to something that may fail, and says later what is missing.
struct LineWriter<W> {
    to: W,
    /// Lines lost since the last one that was written.
    lost: u64,
    /// A line was written in part.
    torn: bool,
    counters: Arc<LogCounters>,
}

impl<W: Write> LineWriter<W> {
    fn new(to: W, counters: Arc<LogCounters>) -> Self {
        Self { to, lost: 0, torn: false, counters }
    }

    /// Writes a line, or counts it; `refused` lines before it found no room in the queue.
    fn write(&mut self, line: &[u8], refused: u64) {
        self.lost += refused;
        if let Err(error) = self.try_write(line) {
            self.counters.lose(Lost::by(&error));
            self.lost += 1;
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.write_all(b"\n")?;
            self.torn = false;
        }
        if self.lost > 0 {
            let gap = format!("ringbridge: {} log lines could not be written here\n", self.lost);
            self.write_all(gap.as_bytes())?;
            self.lost = 0;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut tries = 0;
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails until there is room again.
    #[derive(Default)]
    struct Disk {
        content: Vec<u8>,
        room: usize,
        failure: Option<io::ErrorKind>,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(failure) = self.failure {
                return Err(failure.into());
            }
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.content.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_logs_again_when_there_is_room() {
        let mut disk = Disk { room: 9, ..Disk::default() };
        let mut writer = LineWriter::new(&mut disk, Arc::default());
        for line in ["one\n", "two, torn\n", "three\n"] {
            writer.write(line.as_bytes(), 0);
        }
        writer.to.room = 1000;
        writer.write(b"four\n", 3);
        writer.write(b"five\n", 0);
        let text = String::from_utf8(disk.content).expect("text");
        assert_eq!(text, "one\ntwo, \nringbridge: 5 log lines could not be written here\nfour\nfive\n");
    }

    #[test]
    fn no_failure_ends_it() {
        let mut disk = Disk { room: 1000, ..Disk::default() };
        let mut writer = LineWriter::new(&mut disk, Arc::default());
        use io::ErrorKind::{BrokenPipe, FileTooLarge, NotConnected, Other, PermissionDenied, StorageFull};
        for failure in [BrokenPipe, FileTooLarge, NotConnected, Other, PermissionDenied, StorageFull] {
            writer.to.failure = Some(failure);
            writer.write(b"lost\n", 0);
        }
        writer.to.failure = None;
        writer.write(b"written\n", 0);
        let text = String::from_utf8(disk.content).expect("text");
        assert_eq!(text, "ringbridge: 6 log lines could not be written here\nwritten\n");
    }

    #[test]
    fn reasons() {
        use io::ErrorKind::*;
        let reasons = [StorageFull, QuotaExceeded, FileTooLarge, BrokenPipe, PermissionDenied];
        let reasons = reasons.map(|kind| Lost::by(&kind.into()).name());
        assert_eq!(reasons, ["no_space", "no_space", "no_space", "closed", "failed"]);
        // As the kernel says it.
        assert_eq!(Lost::by(&io::Error::from_raw_os_error(28)), Lost::NoSpace);
        assert_eq!(Lost::by(&io::Error::from_raw_os_error(32)), Lost::Closed);
    }
}
