//! A file in memory that nobody can change any more: how the state, with the keys in it, crosses without touching a file system.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use zeroize::Zeroizing;

use super::envelope::MAX_STATE;

/// What makes it unchangeable.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// Why such a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The system refuses something.
    #[error("the file in memory for the state: {0}; look at the memory of the host and of the service")]
    Io(#[from] io::Error),
    /// It could still be changed while it is read.
    #[error("the state came in a file that is not sealed")]
    NotSealed,
    /// It has another size than announced, or than may be.
    #[error("the state is {found} bytes and not {announced}; at most {MAX_STATE} are read")]
    Length {
        /// What was announced.
        announced: u64,
        /// What is there.
        found: u64,
    },
}

/// A sealed file of these bytes.
pub fn write_sealed(bytes: &[u8]) -> Result<OwnedFd, SealedError> {
    let file = memfd_create(c"ringbridge-state", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|error| SealedError::Io(error.into()))?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SEALS).map_err(|error| SealedError::Io(error.into()))?;
    Ok(file.into())
}

/// Reads a file that somebody else says is such a one of `announced` bytes.
pub fn read_sealed(file: OwnedFd, announced: u64) -> Result<Zeroizing<Vec<u8>>, SealedError> {
    // Only files in memory can be asked.
    let seals = fcntl_get_seals(file.as_fd()).map_err(|_| SealedError::NotSealed)?;
    if !seals.contains(SEALS) {
        return Err(SealedError::NotSealed);
    }
    let status = fstat(file.as_fd()).map_err(|error| SealedError::Io(error.into()))?;
    let found = u64::try_from(status.st_size).unwrap_or(u64::MAX);
    let wrong = SealedError::Length { announced, found };
    let (Ok(length), true) = (usize::try_from(found), found == announced && found <= MAX_STATE) else {
        return Err(wrong);
    };
    let mut bytes = Zeroizing::new(vec![0; length]);
    File::from(file).read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_cannot_be_changed() {
        let file = write_sealed(b"keys").expect("memory");
        let same = File::from(file.try_clone().expect("a descriptor"));
        assert!(
            (&same).write_all(b"other").is_err() && same.set_len(1).is_err() && same.write_all_at(b"x", 0).is_err()
        );
        assert_eq!(read_sealed(file, 4).expect("sealed").as_slice(), b"keys");
    }

    #[test]
    fn other_files_are_refused() {
        let wrong = read_sealed(write_sealed(b"keys").expect("memory"), 5);
        assert!(matches!(wrong, Err(SealedError::Length { announced: 5, found: 4 })));
        let open = memfd_create(c"test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
        assert!(matches!(read_sealed(open, 0), Err(SealedError::NotSealed)));
        let null = File::open("/dev/null").expect("there");
        assert!(matches!(read_sealed(null.into(), 0), Err(SealedError::NotSealed)));
    }
}
