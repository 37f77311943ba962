//! A session in a file, so that the next process goes on with it (XEP-0198 section 5) however this one ended. Nobody in a room
//! sees anybody leave.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::session::Session;

/// Bytes of the record. It is always written as a whole and in place: a process that dies has written all of it, or nothing.
const RECORD: usize = 1_024;

/// Where a session is kept. Whoever reads it needs the account's password as well.
#[derive(Debug)]
pub struct SessionFile {
    file: File,
    /// Whether the log has a line about a record that cannot be written.
    failed: bool,
}

/// A session as the next process gets it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    resume_id: String,
    jid: String,
    /// Stanzas that were received.
    received: u32,
}

impl SessionFile {
    /// Opens or creates it; only its owner may read it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self { file, failed: false })
    }

    /// The session of the process before, if it left one that can be resumed.
    pub(super) fn load(&self) -> Option<Session> {
        let mut record = vec![0; RECORD];
        self.file.read_exact_at(&mut record, 0).ok()?;
        let Record { resume_id, jid, received } = serde_json::from_slice(&record).ok()?;
        Some(Session::of_former_process(resume_id, jid.parse().ok()?, received))
    }

    /// Keeps a session. This has to come before an acknowledgement: the server forgets what was acknowledged.
    pub(super) fn store(&mut self, session: &Session) {
        let record = session.resumable().and_then(|(resume_id, jid)| {
            let (resume_id, jid) = (resume_id.to_owned(), jid.to_string());
            serde_json::to_vec(&Record { resume_id, jid, received: session.received() }).ok()
        });
        let mut record = record.filter(|record| record.len() <= RECORD).unwrap_or_default();
        record.resize(RECORD, b' ');
        // One write of a page in memory, so rarely that a thread of its own would cost more.
        let written = self.file.write_all_at(&record, 0);
        if let Err(error) = &written
            && !self.failed
        {
            tracing::warn!(%error, "the XMPP session cannot be kept in its file; the next process will have to enter all rooms anew");
        }
        self.failed = written.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(received: u32) -> Session {
        Session::of_former_process("id".to_owned(), "a@b/c".parse().expect("an address"), received)
    }

    #[test]
    fn the_latest_one_is_found_again_and_one_that_ended_is_not() {
        let path = std::env::temp_dir().join(format!("ringbridge-session-{}", std::process::id()));
        let open = || SessionFile::open(&path).expect("a file");
        assert!(open().load().is_none(), "there was none before");
        let mut file = open();
        for received in [u32::MAX, 7] {
            file.store(&session(received));
        }
        let found = open().load().expect("a session");
        assert_eq!((found.resumable(), found.received()), (session(0).resumable(), 7));
        let mut ended = session(8);
        ended.abandon();
        file.store(&ended);
        assert!(open().load().is_none());
        let long = Session::of_former_process("x".repeat(RECORD), "a@b/c".parse().expect("an address"), 0);
        file.store(&long);
        assert!(open().load().is_none());
        for garbage in [&b"{\"resume_id\":\"i\",\"jid\":\"a@b\",\"received\":1}"[..], b"{", b"\0\xff"] {
            let mut record = garbage.to_vec();
            record.resize(RECORD, b' ');
            std::fs::write(&path, &record).expect("written");
            assert!(open().load().is_none(), "{garbage:?}");
        }
        std::fs::remove_file(&path).expect("removed");
    }
}
