//! The sockets of one worker by index: those of the shared port, and those that are handed to it while it runs.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::IoError;

/// Most local addresses of a bridge.
pub(super) const MAX_SHARED: usize = 64;
/// Most sockets that one worker can be handed at a time ([`super::IoLimits::handed_sockets`]).
pub(super) const MAX_HANDED: usize = 16_384;

/// A socket as another process goes on with it.
#[derive(Debug)]
pub struct SocketDuplicate {
    /// Its index.
    pub local: u16,
    /// A further descriptor of it.
    pub descriptor: OwnedFd,
    /// Datagrams that it had dropped when that was counted last.
    pub drops: u32,
}

enum Place {
    Free,
    Open(Arc<UdpSocket>),
    /// Nothing goes out over it any more, but the kernel may still bring something: nobody else gets this index.
    Closing,
}

/// See the module. Never allocates after `new`.
pub(super) struct Sockets {
    places: Box<[Place]>,
    shared: usize,
    /// Indices that nobody has, the one that is free for the longest time first: what is late finds nobody.
    free: VecDeque<u16>,
    closing: usize,
}

impl Sockets {
    /// The shared sockets, and room for so many others.
    pub(super) fn new(shared: Vec<UdpSocket>, handed: usize) -> Result<Self, IoError> {
        if shared.is_empty() || shared.len() > MAX_SHARED {
            return Err(IoError::SocketCount(shared.len()));
        }
        if handed > MAX_HANDED {
            return Err(IoError::Limit { name: "handed_sockets", value: handed, min: 0, max: MAX_HANDED });
        }
        // io_uring refuses a table of more files than a process may open; and some must be left for everything else.
        let handed = handed.min(descriptor_limit() / 2);
        let first = shared.len();
        let handed_places = (0..handed).map(|_| Place::Free);
        Ok(Self {
            shared: first,
            closing: 0,
            free: (first..first + handed).map(|index| index as u16).collect(),
            places: shared.into_iter().map(|socket| Place::Open(Arc::new(socket))).chain(handed_places).collect(),
        })
    }

    /// How many indices there are, whether in use or not.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// How many of them are of the shared port: the first ones, which are always open.
    pub(super) fn shared(&self) -> usize {
        self.shared
    }

    /// Whether no handed socket is open or closing.
    pub(super) fn only_shared(&self) -> bool {
        self.free.len() == self.places.len() - self.shared
    }

    /// The socket of an index, to send over.
    pub(super) fn get(&self, local: usize) -> Option<&UdpSocket> {
        match self.places.get(local) {
            Some(Place::Open(socket)) => Some(socket),
            _ => None,
        }
    }

    /// The index that the next handed socket gets.
    pub(super) fn next_free(&self) -> Result<u16, IoError> {
        let limit = self.places.len() - self.shared;
        self.free.front().copied().ok_or(IoError::HandedSockets(limit))
    }

    /// Makes sure that [`Self::next_free`] gives this index next; an error when it is not free.
    pub(super) fn prefer(&mut self, local: u16) -> Result<(), IoError> {
        let limit = self.places.len() - self.shared;
        let at = self.free.iter().position(|free| *free == local).ok_or(IoError::HandedSockets(limit))?;
        self.free.remove(at);
        self.free.push_front(local);
        Ok(())
    }

    /// All that are open, by index.
    pub(super) fn open(&self) -> impl Iterator<Item = (u16, &UdpSocket)> {
        (0..).zip(&self.places).filter_map(|(local, place)| match place {
            Place::Open(socket) => Some((local, &**socket)),
            Place::Free | Place::Closing => None,
        })
    }

    /// Further descriptors of those; `drops` are their last drop reports, by index.
    pub(super) fn duplicates(&self, drops: &[u32]) -> io::Result<Vec<SocketDuplicate>> {
        let duplicate = |(local, socket): (u16, &UdpSocket)| {
            let drops = drops.get(usize::from(local)).copied().unwrap_or(0);
            Ok(SocketDuplicate { local, descriptor: socket.as_fd().try_clone_to_owned()?, drops })
        };
        self.open().map(duplicate).collect()
    }

    /// Keeps a handed socket under the index that [`Self::next_free`] gave.
    pub(super) fn insert(&mut self, local: u16, socket: Arc<UdpSocket>) {
        let taken = self.free.pop_front();
        debug_assert_eq!(taken, Some(local));
        self.places[usize::from(local)] = Place::Open(socket);
    }

    /// Lets go of a handed socket; false when there is none of that index.
    pub(super) fn start_closing(&mut self, local: u16) -> bool {
        let local = usize::from(local);
        let open = local >= self.shared && self.get(local).is_some();
        if open {
            self.places[local] = Place::Closing;
            self.closing += 1;
        }
        open
    }

    /// Whether it was let go, and its index is not free yet.
    pub(super) fn is_closing(&self, local: usize) -> bool {
        matches!(self.places.get(local), Some(Place::Closing))
    }

    /// Whether there is any such.
    pub(super) fn any_closing(&self) -> bool {
        self.closing > 0
    }

    /// Frees the index of a socket that was let go: nothing of it is on its way any more.
    pub(super) fn release(&mut self, local: u16) {
        if self.is_closing(usize::from(local)) {
            self.places[usize::from(local)] = Place::Free;
            self.closing -= 1;
            self.free.push_back(local);
        }
    }
}

/// Descriptors that this process may have open.
fn descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid for writes during the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    fn insert(sockets: &mut Sockets) -> u16 {
        let local = sockets.next_free().unwrap();
        sockets.insert(local, Arc::new(socket()));
        local
    }

    #[test]
    fn an_index_is_reused_as_late_as_possible_and_never_while_it_closes() {
        let mut sockets = Sockets::new(vec![socket(), socket()], 3).unwrap();
        assert!(sockets.only_shared());
        assert_eq!([0; 3].map(|_| insert(&mut sockets)), [2, 3, 4]);
        assert!(matches!(sockets.next_free(), Err(IoError::HandedSockets(3))));
        assert!(sockets.start_closing(3) && !sockets.start_closing(3));
        assert!(sockets.get(3).is_none() && sockets.is_closing(3) && sockets.next_free().is_err());
        sockets.release(3);
        sockets.release(3);
        assert!(sockets.start_closing(2));
        sockets.release(2);
        assert_eq!([0; 2].map(|_| insert(&mut sockets)), [3, 2], "the one that was freed first");
        assert!(sockets.next_free().is_err());
    }

    #[test]
    fn the_shared_ones_stay() {
        let mut sockets = Sockets::new(vec![socket()], 1).unwrap();
        for local in [0, 1, 2, u16::MAX] {
            assert!(!sockets.start_closing(local), "{local}");
            sockets.release(local);
        }
        assert!(sockets.get(0).is_some() && sockets.get(1).is_none() && sockets.only_shared());
        assert!(matches!(Sockets::new(Vec::new(), 1), Err(IoError::SocketCount(0))));
        assert!(matches!(Sockets::new(vec![socket()], MAX_HANDED + 1), Err(IoError::Limit { max: MAX_HANDED, .. })));
    }
}
