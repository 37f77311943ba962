//! The bare loop of a bridge that decides nothing: it receives, opens, copies, seals and sends, under keys of each client's
//! own. With the packets and arrivals of a scenario this is what no bridge can go below.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use ringbridge_dataplane::io::{Flush, PacketIo, PacketSink, Path};
use ringbridge_dataplane::rtp::Packet;
use ringbridge_dataplane::srtp::{MasterKey, Opener, Sealer, SrtpKeys, SrtpProfile};

use super::bare::{BATCH, PACKET, segments, send};

/// What DTLS negotiates with the generator's clients: sealing costs the same in all contestants.
const PROFILE: SrtpProfile = SrtpProfile::AeadAes256Gcm;
/// How long the loop sleeps at most, so that it sees when it is to end.
const SLEEP: Duration = Duration::from_millis(10);
/// Copies that wait for being sent together; as many as a batch of ringbridge's has.
const COPIES: usize = 256;

/// Keys of a client, from its own point of view.
pub(super) fn keys(client: usize) -> SrtpKeys {
    let master = |direction: u8| {
        let mut key = [direction; 32];
        key[..8].copy_from_slice(&(client as u64).to_be_bytes());
        MasterKey { key, salt: [direction; 14] }
    };
    SrtpKeys { profile: PROFILE, inbound: master(1), outbound: master(2) }
}

/// One client as the loop needs it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) client: usize,
    pub(super) address: SocketAddrV4,
    pub(super) room: usize,
}

/// All clients: who sends, to whom it goes, under which keys.
#[derive(Default)]
pub(super) struct Table {
    by_address: HashMap<SocketAddrV4, usize, foldhash::fast::RandomState>,
    senders: Vec<(Opener, Vec<usize>)>,
    receivers: Vec<(SocketAddrV4, Sealer)>,
}

impl Table {
    pub(super) fn of(members: &[Member]) -> Self {
        let mut rooms: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, member) in members.iter().enumerate() {
            rooms.entry(member.room).or_default().push(index);
        }
        let others =
            |index: usize| rooms[&members[index].room].iter().copied().filter(|other| *other != index).collect();
        let keys: Vec<SrtpKeys> = members.iter().map(|member| keys(member.client)).collect();
        Self {
            by_address: members.iter().enumerate().map(|(index, member)| (member.address, index)).collect(),
            senders: (0..members.len()).map(|i| (Opener::new(&keys[i].outbound, PROFILE), others(i))).collect(),
            receivers: members
                .iter()
                .zip(&keys)
                .map(|(member, keys)| (member.address, Sealer::new(&keys.inbound, PROFILE)))
                .collect(),
        }
    }

    /// Opens a datagram in place, and calls `each` with every receiver's address and a writer of its copy, which returns how
    /// many bytes that has.
    fn forward(
        &mut self,
        from: SocketAddrV4,
        datagram: &mut [u8],
        mut each: impl FnMut(SocketAddrV4, &dyn Fn(&mut [u8]) -> Option<usize>),
    ) {
        let Some((opener, to)) = self.by_address.get(&from).and_then(|index| self.senders.get_mut(*index)) else {
            return;
        };
        let Ok(header) = Packet::parse_sealed(datagram).map(|packet| packet.header_len()) else { return };
        let Ok(opened) = opener.open_rtp(datagram, header) else { return };
        let plain = &datagram[..opened.len];
        for receiver in to {
            let (address, sealer) = &self.receivers[*receiver];
            each(*address, &|slot| {
                slot.get_mut(..plain.len())?.copy_from_slice(plain);
                sealer.seal_rtp(slot, header, plain.len(), (opened.index >> 16) as u32).ok()
            });
        }
    }
}

/// Receives and sends by one of ringbridge's backends. `refresh` says whether to go on, and replaces the table at changes.
pub(super) fn over(mut io: impl PacketIo, mut refresh: impl FnMut(&mut Table) -> bool) -> io::Result<()> {
    let mut table = Table::default();
    while refresh(&mut table) {
        let received = io.receive(SLEEP)?;
        let (batch, tx) = io.parts();
        for i in 0..received {
            let Some(datagram) = batch.get(i) else { continue };
            let SocketAddr::V4(from) = datagram.path.remote else { continue };
            table.forward(from, datagram.data, |to, write| {
                if let Some(len) = tx.slot().and_then(write) {
                    tx.commit(len, Path { local: 0, remote: SocketAddr::V4(to) });
                }
            });
        }
        tx.flush()?;
    }
    Ok(())
}

/// Waits and receives by one `recvmmsg`; sends what is alone by one `sendmmsg`, and runs by a `sendmsg` with GSO each.
pub(super) fn direct(socket: &UdpSocket, mut refresh: impl FnMut(&mut Table) -> bool) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(SLEEP))?;
    let mut table = Table::default();
    let mut headers: MultiHeaders<SockaddrIn> = MultiHeaders::preallocate(BATCH, None);
    let mut many: MultiHeaders<SockaddrIn> = MultiHeaders::preallocate(COPIES, None);
    let mut buffers = vec![0u8; BATCH * PACKET];
    let mut slots = vec![0u8; COPIES * PACKET];
    let mut batch: Vec<(SocketAddrV4, usize, usize)> = Vec::with_capacity(BATCH);
    let mut copies: Vec<(SocketAddrV4, usize, usize)> = Vec::with_capacity(COPIES);
    while refresh(&mut table) {
        batch.clear();
        {
            let mut parts = buffers.chunks_exact_mut(PACKET);
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
                std::array::from_fn(|_| [IoSliceMut::new(parts.next().unwrap_or_default())]);
            match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
                Ok(messages) => {
                    let message = |(i, message): (usize, nix::sys::socket::RecvMsg<'_, '_, SockaddrIn>)| {
                        Some((SocketAddrV4::from(message.address?), i, message.bytes))
                    };
                    batch.extend(messages.enumerate().filter_map(message));
                }
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        for (from, i, len) in &batch {
            table.forward(*from, &mut buffers[i * PACKET..i * PACKET + len], |to, write| {
                if copies.len() == COPIES {
                    hand_over(socket, &mut many, &slots, &mut copies);
                }
                let slot = copies.len();
                if let Some(len) = write(&mut slots[slot * PACKET..(slot + 1) * PACKET]) {
                    copies.push((to, slot, len));
                }
            });
        }
        hand_over(socket, &mut many, &slots, &mut copies);
    }
    Ok(())
}

/// Sends all copies.
fn hand_over(
    socket: &UdpSocket,
    many: &mut MultiHeaders<SockaddrIn>,
    slots: &[u8],
    copies: &mut Vec<(SocketAddrV4, usize, usize)>,
) {
    let bytes = |(_, slot, len): &(SocketAddrV4, usize, usize)| &slots[slot * PACKET..slot * PACKET + len];
    // Stable: what goes to one receiver keeps its order.
    copies.sort_by_key(|(to, ..)| *to);
    let (mut slices, mut addresses) = (Vec::with_capacity(copies.len()), Vec::with_capacity(copies.len()));
    for of_one in copies.chunk_by(|a, b| a.0 == b.0) {
        segments(of_one, |run| match run {
            [one] => {
                slices.push([IoSlice::new(bytes(one))]);
                addresses.push(Some(SockaddrIn::from(one.0)));
            }
            _ => {
                let parts: Vec<_> = run.iter().map(|copy| IoSlice::new(bytes(copy))).collect();
                send(socket, &parts, Some(run[0].2 as u16), Some(run[0].0));
            }
        });
    }
    if !slices.is_empty() {
        let no_control: [ControlMessage<'_>; 0] = [];
        let _ = sendmmsg(socket.as_raw_fd(), many, &slices, addresses, no_control, MsgFlags::MSG_DONTWAIT);
    }
    copies.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringbridge_dataplane::ids::{PayloadType, Ssrc};
    use ringbridge_dataplane::rtp::header::{self, HeaderFields};

    #[test]
    fn every_other_member_of_the_room_can_open_its_copy() {
        let address = |client: usize| SocketAddrV4::new([127, 0, 0, 1].into(), client as u16 + 1);
        let members: Vec<Member> =
            (0..5).map(|client| Member { client, address: address(client), room: client / 3 }).collect();
        let mut table = Table::of(&members);
        let (mut datagram, mut seen) = ([0; 200], Vec::new());
        let fields = HeaderFields {
            padding: false,
            marker: true,
            payload_type: PayloadType::new(96).unwrap(),
            sequence: 7,
            timestamp: 1,
            ssrc: Ssrc::new(9),
        };
        let at = header::write(&fields, std::iter::empty(), &[], &mut datagram).unwrap();
        datagram[at..at + 4].copy_from_slice(b"abcd");
        let len = Sealer::new(&keys(1).outbound, PROFILE).seal_rtp(&mut datagram, at, at + 4, 0).unwrap();
        table.forward(address(1), &mut datagram[..len], |to, write| {
            let mut slot = [0; 200];
            let len = write(&mut slot).unwrap();
            let client = usize::from(to.port()) - 1;
            let opened = Opener::new(&keys(client).inbound, PROFILE).open_rtp(&mut slot[..len], at).unwrap();
            assert_eq!(slot[at..opened.len], *b"abcd");
            seen.push(client);
        });
        assert_eq!(seen, [0, 2]);
        table.forward(address(9), &mut datagram[..len], |_, _| panic!("nobody knows that sender"));
    }
}
