//! A program that this process starts and that is not its child.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Starts a program as a child of init (or of whoever adopts orphans here), and returns its id.
///
/// systemd kills a main process that is not its own child at once when the service is stopped, and adoption that happens later does
/// not change its mind: a process that is to become the main one has to be an orphan from the start.
///
/// # Errors
/// What the system says of the start, as [`Command::spawn`] gives it.
pub fn spawn_detached(mut command: Command) -> io::Result<u32> {
    let (read, write) = io::pipe()?;
    let descriptor = write.as_raw_fd();
    // SAFETY: what runs between fork and exec is `fork`, `write` and `_exit` alone, which may be called there, and nothing allocates.
    // The descriptor is open: `write` is dropped after the start.
    unsafe {
        command.pre_exec(move || match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(()),
            pid => {
                let bytes = pid.to_ne_bytes();
                libc::write(descriptor, bytes.as_ptr().cast(), bytes.len());
                libc::_exit(0)
            }
        });
    }
    // It ends when the program has started, or says why not: the child in between has nothing to do.
    let started = command.spawn();
    drop(write);
    started?.wait()?;
    written(read)
}

/// The id that the child in between wrote.
fn written(mut read: PipeReader) -> io::Result<u32> {
    let mut bytes = [0; 4];
    read.read_exact(&mut bytes)?;
    u32::try_from(i32::from_ne_bytes(bytes)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn its_parent_is_another() {
        let (mut output, into) = io::pipe().expect("a pipe");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ $PPID"]).stdout(into);
        let pid = spawn_detached(command).expect("started");
        let mut text = String::new();
        output.read_to_string(&mut text).expect("a pipe");
        let ids: Vec<u32> = text.split_whitespace().map(|id| id.parse().expect("a number")).collect();
        assert_eq!(ids[0], pid);
        assert_ne!(ids[1], std::process::id());
    }

    #[test]
    fn what_cannot_be_started_is_said_and_leaves_nobody() {
        let mut command = Command::new("/nonexistent/program");
        command.stdin(Stdio::null());
        assert_eq!(spawn_detached(command).expect_err("no such file").kind(), io::ErrorKind::NotFound);
    }
}
