//! Former processes of this bridge that are the end of data channels: the sockets to them, and what is written and read there.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

use ringbridge_dataplane::ids::EndpointId;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::dtls_transport::{KeeperLines, KeptEvent};
use crate::channel::MAX_MESSAGE;
use crate::channel::keeper::{
    Assembly, CarriedKeeper, FromKeeper, KeeperLine, KeeperNumber, MAX_FRAME, MAX_KEEPERS, is_keeper_socket, receive,
    send,
};
use crate::transport::DtlsError;

/// Frames of one keeper that are read in a row.
const BATCH: usize = 16;

/// What keepers say.
#[derive(Debug)]
pub(super) enum KeeperEvent {
    /// Of a session.
    Session(KeeperNumber, EndpointId, KeptEvent),
    /// It counted something.
    Counted { which: u8, times: u32 },
    /// It is gone, and why if that is not in order.
    Gone(KeeperNumber, Option<String>),
}

#[derive(Debug)]
struct End {
    /// Of another type; the runtime only waits for it.
    socket: UnixStream,
    line: KeeperLine,
    assembly: Assembly,
}

/// Connections to all of them.
#[derive(Debug, Default)]
pub(super) struct Keepers(BTreeMap<KeeperNumber, End>);

/// Looks through what another process wrote of its keepers: what waits for each. What is wrong, if anything.
pub(super) fn lines(carried: &[CarriedKeeper]) -> Result<KeeperLines, String> {
    let lines: KeeperLines = carried.iter().map(|one| (one.number, KeeperLine::with_waiting(&one.waiting))).collect();
    let whole =
        |one: &CarriedKeeper| one.is_plausible() && Assembly::from_partial(one.partial.clone(), MAX_MESSAGE).is_some();
    if carried.len() > MAX_KEEPERS || lines.len() != carried.len() || !carried.iter().all(whole) {
        return Err("former processes with data channels that cannot be".to_owned());
    }
    Ok(lines)
}

impl Keepers {
    /// Over these sockets, which are in the order of `carried`.
    pub fn new(sockets: &[OwnedFd], carried: &[CarriedKeeper], lines: &KeeperLines) -> Result<Self, String> {
        if sockets.len() != carried.len() {
            return Err(format!(
                "{} sockets of former processes came, and {} were announced",
                sockets.len(),
                carried.len()
            ));
        }
        let mut ends = BTreeMap::new();
        for (socket, one) in sockets.iter().zip(carried) {
            let wrong = |error: io::Error| format!("the socket of a former process: {error}");
            if !is_keeper_socket(socket) {
                return Err(wrong(io::Error::other("it is another kind of descriptor")));
            }
            let socket = socket.try_clone().map(std::os::unix::net::UnixStream::from);
            let socket = socket.and_then(UnixStream::from_std).map_err(wrong)?;
            let (Some(line), Some(assembly)) =
                (lines.get(&one.number).cloned(), Assembly::from_partial(one.partial.clone(), MAX_MESSAGE))
            else {
                return Err("former processes with data channels that cannot be".to_owned());
            };
            ends.insert(one.number, End { socket, line, assembly });
        }
        Ok(Self(ends))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What one more is called.
    pub fn next(&self) -> KeeperNumber {
        KeeperNumber(self.0.keys().next_back().map_or(0, |last| last.0.saturating_add(1)))
    }

    /// What another process needs of them beside the sockets.
    pub fn carried(&self) -> Vec<CarriedKeeper> {
        let carried = |(number, end): (&KeeperNumber, &End)| CarriedKeeper {
            number: *number,
            waiting: end.line.waiting(),
            partial: end.assembly.partial().clone(),
        };
        self.0.iter().map(carried).collect()
    }

    /// Duplicates of the sockets, in the same order.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        self.0.values().map(|end| end.socket.as_fd().try_clone_to_owned()).collect()
    }

    /// Writes what waits and reads what came; ready with at least one event.
    pub fn poll_events(&mut self, cx: &mut Context<'_>, events: &mut Vec<KeeperEvent>) -> Poll<()> {
        let mut gone = Vec::new();
        for (number, end) in &mut self.0 {
            if let Err(why) = end.poll(cx, *number, events) {
                gone.push(*number);
                events.push(KeeperEvent::Gone(*number, why));
            }
        }
        for number in gone {
            self.0.remove(&number);
        }
        if events.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl End {
    /// An error when there is nothing more to come, with what is wrong if it did not simply end.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        keeper: KeeperNumber,
        events: &mut Vec<KeeperEvent>,
    ) -> Result<(), Option<String>> {
        let Self { socket, line, assembly } = self;
        let wrong = |error: io::Error| Some(error.to_string());
        while line.is_waiting() && socket.poll_write_ready(cx).map_err(wrong)?.is_ready() {
            let flushed = socket.try_io(Interest::WRITABLE, || {
                line.flush(|frame| send(&*socket, frame))?;
                if line.is_waiting() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match flushed {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What it had said before is still read.
                Err(_) => break,
            }
        }
        let mut buffer = [0; MAX_FRAME + 1];
        let mut taken = 0;
        while taken < BATCH && socket.poll_read_ready(cx).map_err(wrong)?.is_ready() {
            let read = socket.try_io(Interest::READABLE, || match receive(&*socket, &mut buffer)? {
                Some(frame) => Ok(FromKeeper::parse(frame).map_err(|error| (frame.is_empty(), error))),
                None => Err(io::ErrorKind::WouldBlock.into()),
            });
            let (session, said) = match read {
                Ok(Ok(said)) => said,
                Ok(Err((true, _))) => return Err(None),
                Ok(Err((false, error))) => return Err(Some(error.to_string())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(Some(error.to_string())),
            };
            taken += 1;
            let event = match said {
                FromKeeper::Datagram(datagram) => KeptEvent::Datagram(datagram),
                FromKeeper::Text { last, piece } => match assembly.add(session, (false, last), piece) {
                    Ok(Some((_, text))) => KeptEvent::Text(text),
                    Ok(None) => continue,
                    Err(error) => return Err(Some(error.to_string())),
                },
                FromKeeper::Opened => KeptEvent::Opened,
                FromKeeper::Closed { stalled } => KeptEvent::Closed { stalled },
                FromKeeper::Ended { by_peer: true, .. } => KeptEvent::Ended(DtlsError::Closed),
                FromKeeper::Ended { by_peer: false, reason } => KeptEvent::Ended(DtlsError::Protocol(reason)),
                FromKeeper::Counted { which, times } => {
                    events.push(KeeperEvent::Counted { which, times });
                    continue;
                }
            };
            events.push(KeeperEvent::Session(keeper, EndpointId(session), event));
        }
        // More may be there: it has its turn after the others.
        if taken == BATCH {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }
}
