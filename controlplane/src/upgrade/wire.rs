//! The socket between the two processes: a pair of which the new process has one end as its standard input, so that nobody else can have
//! it. Each message carries who sent it (`SCM_CREDENTIALS`, which the kernel checks), and descriptors cross beside it (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use rustix::process::getuid;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::message::{MAX_REASON, Message};

/// Environment variable that names the running process to the one it starts.
pub const FROM_VARIABLE: &str = "RINGBRIDGE_UPGRADE_FROM";
/// Most descriptors of a hand-over: sockets of 64 workers on some addresses, relays' own ports, doors.
pub const MAX_DESCRIPTORS: u32 = 16_384;
/// Descriptors in one message; the kernel takes 253 (unix(7)).
const PER_MESSAGE: usize = 200;
/// Bytes of the longest message.
const MAX_MESSAGE: usize = MAX_REASON + 256;

/// Why the socket is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The system says so.
    #[error("the socket of the upgrade: {0}")]
    Io(#[from] io::Error),
    /// Somebody else wrote.
    #[error("a message came from process {pid} of user {uid}, which is not the other end")]
    Stranger {
        /// Who.
        pid: i32,
        /// Whose.
        uid: u32,
    },
    /// No message.
    #[error("a message of {0} bytes cannot be read")]
    Message(usize),
    /// Descriptors that nobody announced, that are missing, or that found no room.
    #[error("descriptors are missing, or more came than were announced; look at the limit of open files (LimitNOFILE)")]
    Descriptors,
}

/// Who must be at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// What arrived.
#[derive(Debug)]
pub enum Received {
    /// Any message but the state.
    Message(Message),
    /// [`Message::State`] with what belongs to it.
    State {
        /// The file; unchecked.
        file: OwnedFd,
        /// How long it says to be, bytes.
        length: u64,
        /// As many as were announced.
        descriptors: Vec<OwnedFd>,
    },
    /// Nothing more will.
    Gone,
}

/// One end.
#[derive(Debug)]
pub struct Wire {
    /// Of whatever type; the runtime only waits for it.
    socket: UnixStream,
    peer: Peer,
    /// A state whose descriptors are still arriving: the file, its length, and how many there will be.
    partial: Option<(OwnedFd, u64, usize)>,
    descriptors: Vec<OwnedFd>,
}

/// Two ends: of this process, and of the one that it is going to start.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // On both now: a message that is sent before has no sender.
    sockopt::set_socket_passcred(&own, true)?;
    sockopt::set_socket_passcred(&other, true)?;
    Ok((own, other))
}

/// The end that the running process gave this one, if one did: standard input, which is `/dev/null` from then on.
pub fn inherited() -> io::Result<Option<Wire>> {
    let Some(from) = std::env::var(FROM_VARIABLE).ok().and_then(|pid| pid.parse::<i32>().ok()) else { return Ok(None) };
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    if sockopt::socket_type(&socket) != Ok(SocketType::SEQPACKET) {
        return Err(io::Error::other(format!(
            "{FROM_VARIABLE} is set, but standard input is not the socket of an upgrade; it is not for people to set"
        )));
    }
    let maker = sockopt::socket_peercred(&socket)?.pid.as_raw_nonzero().get();
    if from != maker {
        return Err(io::Error::other(format!(
            "{FROM_VARIABLE} is {from}, and process {maker} made the socket; it is not for people to set"
        )));
    }
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Wire::new(socket, Peer { pid: from, uid: getuid().as_raw() }).map(Some)
}

impl Wire {
    /// Over this end, whose other is `peer`'s.
    pub fn new(socket: OwnedFd, peer: Peer) -> io::Result<Self> {
        let socket = UnixStream::from_std(socket.into())?;
        Ok(Self { socket, peer, partial: None, descriptors: Vec::new() })
    }

    /// Sends a message.
    pub async fn send(&self, message: &Message) -> Result<(), WireError> {
        self.send_with(message, &[]).await
    }

    /// Sends the commit: at once or not at all.
    pub fn send_now(&self, message: &Message) -> Result<(), WireError> {
        Ok(write(self.socket.as_fd(), message, &[])?)
    }

    /// Sends the state and the descriptors.
    pub async fn send_state(
        &self,
        file: BorrowedFd<'_>,
        length: u64,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), WireError> {
        let announced = u32::try_from(descriptors.len()).ok().filter(|count| *count <= MAX_DESCRIPTORS);
        let state = Message::State { length, descriptors: announced.ok_or(WireError::Descriptors)? };
        self.send_with(&state, &[file]).await?;
        for some in descriptors.chunks(PER_MESSAGE) {
            self.send_with(&Message::Descriptors, some).await?;
        }
        Ok(())
    }

    async fn send_with(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let write = || write(self.socket.as_fd(), message, descriptors);
        Ok(self.socket.async_io(Interest::WRITABLE, write).await?)
    }

    /// What comes next. Nothing is lost when it is not waited for to the end.
    pub async fn receive(&mut self) -> Result<Received, WireError> {
        loop {
            let received = self.socket.async_io(Interest::READABLE, || read(self.socket.as_fd())).await?;
            let Some(Datagram { bytes, length, sender, descriptors, cut }) = received else {
                return Ok(Received::Gone);
            };
            if sender != Some(self.peer) {
                let Peer { pid, uid } = sender.unwrap_or(Peer { pid: 0, uid: u32::MAX });
                return Err(WireError::Stranger { pid, uid });
            }
            if cut {
                return Err(WireError::Descriptors);
            }
            let bytes = bytes.get(..length).ok_or(WireError::Message(length))?;
            let message: Message = postcard::from_bytes(bytes).map_err(|_| WireError::Message(length))?;
            if let Some(received) = self.collect(message, descriptors)? {
                return Ok(received);
            }
        }
    }

    fn collect(&mut self, message: Message, mut descriptors: Vec<OwnedFd>) -> Result<Option<Received>, WireError> {
        match (message, &self.partial) {
            (Message::State { length, descriptors: announced }, None) if announced <= MAX_DESCRIPTORS => {
                let (Some(file), true) = (descriptors.pop(), descriptors.is_empty()) else {
                    return Err(WireError::Descriptors);
                };
                self.partial = Some((file, length, announced as usize));
            }
            (Message::Descriptors, Some(_)) if !descriptors.is_empty() => self.descriptors.append(&mut descriptors),
            (Message::State { .. } | Message::Descriptors, _) => return Err(WireError::Descriptors),
            (message, None) if descriptors.is_empty() => return Ok(Some(Received::Message(message))),
            _ => return Err(WireError::Descriptors),
        }
        match self.partial.take() {
            Some((_, _, announced)) if announced < self.descriptors.len() => Err(WireError::Descriptors),
            Some((file, length, announced)) if announced == self.descriptors.len() => {
                Ok(Some(Received::State { file, length, descriptors: std::mem::take(&mut self.descriptors) }))
            }
            partial => {
                self.partial = partial;
                Ok(None)
            }
        }
    }
}

struct Datagram {
    bytes: [u8; MAX_MESSAGE],
    length: usize,
    sender: Option<Peer>,
    descriptors: Vec<OwnedFd>,
    /// Not all of it found room.
    cut: bool,
}

fn write(socket: BorrowedFd<'_>, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut bytes = [0; MAX_MESSAGE];
    let bytes = postcard::to_slice(message, &mut bytes).map_err(|_| io::Error::other("a message is too long"))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// One message; none at the end.
fn read(socket: BorrowedFd<'_>) -> io::Result<Option<Datagram>> {
    let mut bytes = [0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut into = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT) {
            // Said once, before what the other end had sent, if it closed without reading everything.
            Err(Errno::INTR | Errno::CONNRESET) => continue,
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let (mut sender, mut descriptors) = (None, Vec::new());
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(some) => descriptors.extend(some),
            RecvAncillaryMessage::ScmCredentials(who) => {
                sender = Some(Peer { pid: who.pid.as_raw_nonzero().get(), uid: who.uid.as_raw() });
            }
            _ => {}
        }
    }
    let cut = received.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
    Ok(Some(Datagram { bytes, length: received.bytes, sender, descriptors, cut }))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::super::message::Hello;
    use super::*;

    const COMMIT: Message = Message::Commit { frozen_micros: 12_345 };

    fn me() -> Peer {
        Peer { pid: std::process::id() as i32, uid: getuid().as_raw() }
    }

    fn wires() -> (Wire, Wire) {
        let (one, other) = pair().expect("sockets");
        (Wire::new(one, me()).expect("a wire"), Wire::new(other, me()).expect("a wire"))
    }

    fn message(received: Result<Received, WireError>) -> Message {
        match received {
            Ok(Received::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn messages_cross_in_order_and_then_the_end() {
        let (one, mut other) = wires();
        let said =
            [Message::Hello(Hello::own(2)), Message::Prepared, Message::Refused("é".repeat(MAX_REASON / 2)), COMMIT];
        for message in &said {
            one.send(message).await.expect("sent");
        }
        // With something unread at its own end, which the kernel reports first.
        other.send(&Message::Ready).await.expect("sent");
        drop(one);
        for expected in said {
            assert_eq!(message(other.receive().await), expected);
        }
        assert!(matches!(other.receive().await, Ok(Received::Gone)));
        assert!(other.send_now(&COMMIT).is_err(), "not written, and known not to be");
    }

    #[tokio::test]
    async fn a_state_crosses_with_all_its_descriptors() {
        let (one, mut other) = wires();
        let count = 2 * PER_MESSAGE + 1;
        let file = super::super::sealed::write_sealed(b"state").expect("memory");
        let open: Vec<OwnedFd> =
            (0..count).map(|n| super::super::sealed::write_sealed(n.to_string().as_bytes()).expect("memory")).collect();
        let borrowed: Vec<_> = open.iter().map(AsFd::as_fd).collect();
        one.send_state(file.as_fd(), 5, &borrowed).await.expect("sent");
        one.send(&COMMIT).await.expect("sent");
        let Ok(Received::State { file, length, descriptors }) = other.receive().await else { panic!("a state") };
        assert_eq!(super::super::sealed::read_sealed(file, length).expect("sealed").as_slice(), b"state");
        assert_eq!(descriptors.len(), count);
        for (n, descriptor) in descriptors.into_iter().enumerate() {
            let mut text = String::new();
            std::io::Seek::rewind(&mut File::from(descriptor.try_clone().expect("a descriptor"))).expect("a file");
            File::from(descriptor).read_to_string(&mut text).expect("read");
            assert_eq!(text, n.to_string());
        }
        assert_eq!(message(other.receive().await), COMMIT);
    }

    #[tokio::test]
    async fn a_stranger_is_found_out() {
        let (one, other) = pair().expect("sockets");
        let one = Wire::new(one, me()).expect("a wire");
        for peer in [Peer { pid: 1, ..me() }, Peer { uid: me().uid + 1, ..me() }] {
            let mut other = Wire::new(other.try_clone().expect("a descriptor"), peer).expect("a wire");
            one.send(&COMMIT).await.expect("sent");
            assert!(matches!(other.receive().await, Err(WireError::Stranger { .. })), "{peer:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_or_has_too_much_is_an_error() {
        let (one, other) = pair().expect("sockets");
        let mut other = Wire::new(other, me()).expect("a wire");
        for bytes in [&[0xff; 3][..], &[1; MAX_MESSAGE + 1]] {
            rustix::net::send(&one, bytes, SendFlags::empty()).expect("sent");
            assert!(other.receive().await.is_err());
        }
        let file = super::super::sealed::write_sealed(b"").expect("memory");
        let file = file.as_fd();
        for (message, with) in [
            (COMMIT, &[file][..]),
            (Message::State { length: 0, descriptors: 0 }, &[]),
            (Message::State { length: 0, descriptors: 0 }, &[file, file]),
            (Message::State { length: 0, descriptors: MAX_DESCRIPTORS + 1 }, &[file]),
            (Message::Descriptors, &[file]),
        ] {
            write(one.as_fd(), &message, with).expect("sent");
            assert!(matches!(other.receive().await, Err(WireError::Descriptors)), "{message:?}");
        }
        write(one.as_fd(), &Message::State { length: 0, descriptors: 1 }, &[file]).expect("sent");
        write(one.as_fd(), &Message::Descriptors, &[file, file]).expect("sent");
        assert!(matches!(other.receive().await, Err(WireError::Descriptors)), "more than announced");
    }
}
