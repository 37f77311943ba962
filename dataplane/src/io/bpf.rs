//! The little of bpf(2) that steering needs: maps whose keys and values have types, and loading a program.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

// Commands of bpf(2).
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const OBJECT_INFO: libc::c_int = 15;
const PROG_TYPE_SK_REUSEPORT: u32 = 21;

/// Bytes of the verifier's log that are kept: the programs are short, and what is wrong stands at its end.
const LOG_LEN: usize = 64 << 10;

/// What a map is. The numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapKind {
    /// `BPF_MAP_TYPE_HASH`, whose entries are allocated as they come (`BPF_F_NO_PREALLOC`).
    Hash,
    /// `BPF_MAP_TYPE_REUSEPORT_SOCKARRAY`: from an index to the descriptor of a socket.
    Sockets,
}

impl MapKind {
    fn number(self) -> u32 {
        match self {
            Self::Hash => 1,
            Self::Sockets => 20,
        }
    }
}

/// A type of which every value is just its bytes.
///
/// # Safety
/// Without padding, and every pattern of bits is a value: the kernel reads and writes all its bytes.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: an array of integers.
unsafe impl<const N: usize> Plain for [u8; N] {}

/// A map of the kernel's, made with the sizes of these types: no call can hand it anything shorter.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K, V)>,
}

/// What the commands on one entry of a map take.
#[repr(C)]
struct Element {
    map: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// An empty map for at most `entries`.
    pub(super) fn new(kind: MapKind, entries: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Create {
            kind: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            flags: u32,
        }
        let (kind, flags) = (kind.number(), u32::from(kind == MapKind::Hash));
        let (key_size, value_size) = (size_of::<K>() as u32, size_of::<V>() as u32);
        let mut attr = Create { kind, key_size, value_size, max_entries: entries, flags };
        // SAFETY: plain numbers.
        let fd = unsafe { bpf(MAP_CREATE, &mut attr) }?;
        // SAFETY: the kernel has just given it to us.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, types: PhantomData })
    }

    /// A map that another process made; an error where it is none of this kind, or of other sizes.
    pub(super) fn taken_over(kind: MapKind, fd: OwnedFd) -> io::Result<Self> {
        /// The first fields of `struct bpf_map_info`; that of a program begins with its kind, too, and continues with a hash.
        #[repr(C)]
        #[derive(Default, PartialEq)]
        struct Info {
            kind: u32,
            id: u32,
            key_size: u32,
            value_size: u32,
        }
        #[repr(C)]
        struct Ask {
            fd: u32,
            len: u32,
            info: u64,
        }
        let mut info = Info::default();
        let len = size_of::<Info>() as u32;
        let mut attr = Ask { fd: fd.as_raw_fd().unsigned_abs(), len, info: (&raw mut info) as u64 };
        // SAFETY: the kernel writes at most `len` bytes to `info`, which outlives the call.
        unsafe { bpf(OBJECT_INFO, &mut attr) }?;
        let (key_size, value_size) = (size_of::<K>() as u32, size_of::<V>() as u32);
        if info != (Info { kind: kind.number(), id: info.id, key_size, value_size }) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { fd, types: PhantomData })
    }

    /// A further descriptor of it.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Sets the value of a key, whatever it was before.
    pub(super) fn set(&self, key: &K, value: &V) -> io::Result<()> {
        let mut attr = self.element(key, std::ptr::from_ref(value).cast());
        // SAFETY: the map was made with the sizes of `K` and `V`; the kernel reads both during the call.
        unsafe { bpf(MAP_UPDATE, &mut attr) }.map(drop)
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &K) -> io::Result<V> {
        let mut value = MaybeUninit::<V>::uninit();
        let mut attr = self.element(key, value.as_mut_ptr().cast_const().cast());
        // SAFETY: the map was made with the sizes of `K` and `V`; the kernel writes the value during the call.
        unsafe { bpf(MAP_LOOKUP, &mut attr) }?;
        // SAFETY: the call succeeded, so the kernel has written all bytes of it, and any are a `V` (`Plain`).
        Ok(unsafe { value.assume_init() })
    }

    /// Removes a key.
    pub(super) fn remove(&self, key: &K) -> io::Result<()> {
        let mut attr = self.element(key, std::ptr::null());
        // SAFETY: the map was made with the size of `K`; deleting reads the key only.
        unsafe { bpf(MAP_DELETE, &mut attr) }.map(drop)
    }

    fn element(&self, key: &K, value: *const u8) -> Element {
        let key: *const K = key;
        Element { map: self.fd.as_raw_fd().unsigned_abs(), key: key as u64, value: value as u64, flags: 0 }
    }
}

impl<K, V> AsRawFd for Map<K, V> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Instruction {
    pub code: u8,
    /// Destination register in the low half, source in the high one.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// A program that the kernel does not take.
#[derive(Debug)]
pub(super) struct LoadError {
    pub source: io::Error,
    /// What the verifier said; empty where it was not asked, for want of privileges.
    pub log: String,
}

/// Loads a program that selects among the sockets of a port.
pub(super) fn load(code: &[Instruction]) -> Result<OwnedFd, LoadError> {
    match load_with_log(code, &mut []) {
        Ok(program) => Ok(program),
        Err(source) => {
            // Asked for only now: writing it takes the kernel longer than all the rest.
            let mut log = vec![0; LOG_LEN];
            let _ = load_with_log(code, &mut log);
            let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
            Err(LoadError { source, log: String::from_utf8_lossy(text).trim_end().to_owned() })
        }
    }
}

fn load_with_log(code: &[Instruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        code: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
    }
    let license = c"Apache-2.0";
    let mut attr = Load {
        kind: PROG_TYPE_SK_REUSEPORT,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
    };
    // SAFETY: code, licence and log outlive the call, and are passed with their lengths; the kernel verifies the program.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One call of bpf(2); the result is a descriptor where the command makes one.
///
/// # Safety
/// `attr` must be what the command takes, and pointers in it must be valid for it.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the caller's promise; the size says how much of `attr` the kernel may read.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a refusal is one of privileges, which says nothing of what was asked for.
    fn is_forbidden(error: &io::Error) -> bool {
        let forbidden = error.raw_os_error() == Some(libc::EPERM);
        if forbidden {
            eprintln!("skipped: this process may not use bpf ({error})");
        }
        forbidden
    }

    #[test]
    fn a_broken_program_comes_back_with_what_the_verifier_says() {
        let instruction = |code, registers| Instruction { code, registers, offset: 0, immediate: 0 };
        // r0 = r5, which nobody has written; and a program that never ends.
        for (code, complaint) in [
            (vec![instruction(0xbf, 0x50), instruction(0x95, 0)], "R5 !read_ok"),
            (vec![instruction(0xb7, 0)], "last insn is not an exit or jmp"),
        ] {
            let Err(LoadError { source, log }) = load(&code) else { panic!("loaded: {code:?}") };
            if is_forbidden(&source) {
                return;
            }
            assert!(log.contains(complaint), "{source}: {log:?}");
        }
    }

    #[test]
    fn a_map_keeps_what_it_was_given() {
        let map = match Map::<[u8; 24], u32>::new(MapKind::Hash, 2) {
            Ok(map) => map,
            Err(error) if is_forbidden(&error) => return,
            Err(error) => panic!("{error}"),
        };
        let (a, b, c) = ([1; 24], [2; 24], [3; 24]);
        map.set(&a, &0x0102_0304).unwrap();
        map.set(&b, &u32::MAX).unwrap();
        assert!(map.set(&c, &0).is_err(), "full");
        map.set(&a, &7).unwrap();
        assert_eq!((map.get(&a).unwrap(), map.get(&b).unwrap()), (7, u32::MAX));
        map.remove(&a).unwrap();
        assert!(map.get(&a).is_err() && map.remove(&a).is_err());
    }
}
