//! Has the kernel deliver a path's datagrams to the worker that owns the endpoint: a program on the sockets that share
//! the port (`SO_ATTACH_REUSEPORT_EBPF`) looks the sender up in a map that the workers write.
//!
//! What is not in the map goes where the kernel's hash sends it, as without the program, and is handed over by ring.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::bpf::{Instruction, LoadError, Map, MapKind, load};
use super::socket::set_option;
use super::{IoError, Path};
use crate::ids::WorkerId;

const SO_ATTACH_REUSEPORT_EBPF: libc::c_int = 52;

/// Sender's address (IPv4 in the first four bytes), its port in network order, index of the local socket, zeros.
type Key = [u8; 24];
/// From a sender to the index of its worker.
type Senders = Map<Key, u32>;
/// From the index of a worker to the descriptor of its socket.
type Group = Map<u32, u64>;

/// Where senders are steered to. Clones share the map.
#[derive(Debug, Clone)]
pub struct Steering(Arc<Senders>);

impl Steering {
    /// Puts the program on every local address. `sockets` holds each worker's sockets, in the order of their local
    /// addresses; `paths` bounds the map. An error when the kernel or the process's privileges do not allow it.
    pub fn attach(sockets: &[Vec<UdpSocket>], paths: usize) -> Result<Self, IoError> {
        let failed = |step| move |source| IoError::Steering { step, source, log: String::new() };
        let max_entries = u32::try_from(paths).unwrap_or(u32::MAX);
        let senders = Senders::new(MapKind::Hash, max_entries).map_err(failed("creating the map of senders"))?;
        let addresses = sockets.first().map_or(0, Vec::len);
        for local in 0..addresses {
            let workers: Vec<&UdpSocket> = sockets.iter().filter_map(|set| set.get(local)).collect();
            let group =
                Group::new(MapKind::Sockets, workers.len() as u32).map_err(failed("creating the map of sockets"))?;
            for (worker, socket) in workers.iter().enumerate() {
                let fd = u64::from(socket.as_raw_fd().unsigned_abs());
                group.set(&(worker as u32), &fd).map_err(failed("naming a worker's socket"))?;
            }
            let Some(first) = workers.first() else { continue };
            let ipv6 = first.local_addr().map_err(failed("getsockname"))?.is_ipv6();
            let refused = |LoadError { source, log }| IoError::Steering { step: "loading the program", source, log };
            let program = load(&program(&senders, &group, local as u16, ipv6)).map_err(refused)?;
            // The kernel keeps the program, and through it the maps, as long as the sockets live.
            set_option(first, libc::SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.as_raw_fd())
                .map_err(failed("attaching the program"))?;
        }
        Ok(Self(Arc::new(senders)))
    }

    /// A further descriptor of the map, for [`Self::taken_over`] in another process.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.duplicate()
    }

    /// The map of another process, whose program stays on the sockets: it goes on all the time, and the kernel would not take another
    /// one as long as it has the sockets. An error where it is no such map.
    pub fn taken_over(map: OwnedFd) -> Result<Self, IoError> {
        let refused = |source| IoError::Steering { step: "taking over the map of senders", source, log: String::new() };
        Ok(Self(Arc::new(Senders::taken_over(MapKind::Hash, map).map_err(refused)?)))
    }

    /// Steers a path to a worker from now on, whoever had it before.
    pub fn claim(&self, path: &Path, worker: WorkerId) -> io::Result<()> {
        self.0.set(&key(path), &u32::from(worker.get()))
    }

    /// Ends the steering of a path, if it still leads to this worker.
    pub fn release(&self, path: &Path, worker: WorkerId) {
        let key = key(path);
        if self.0.get(&key).is_ok_and(|owner| owner == u32::from(worker.get())) {
            // An entry that is gone already is as good.
            let _ = self.0.remove(&key);
        }
    }
}

fn key(path: &Path) -> Key {
    let mut key = [0; 24];
    match path.remote {
        SocketAddr::V4(remote) => key[..4].copy_from_slice(&remote.ip().octets()),
        SocketAddr::V6(remote) => key[..16].copy_from_slice(&remote.ip().octets()),
    }
    key[16..18].copy_from_slice(&path.remote.port().to_be_bytes());
    key[18..20].copy_from_slice(&path.local.to_ne_bytes());
    key
}

/// The few instructions that the program is made of.
mod assembly {
    use super::Instruction;

    pub const FRAME: u8 = 10;

    const fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction { code, registers: dst | src << 4, offset, immediate }
    }
    pub const fn set(dst: u8, value: i32) -> Instruction {
        instruction(0xb7, dst, 0, 0, value)
    }
    pub const fn copy(dst: u8, src: u8) -> Instruction {
        instruction(0xbf, dst, src, 0, 0)
    }
    pub const fn add(dst: u8, value: i32) -> Instruction {
        instruction(0x07, dst, 0, 0, value)
    }
    pub const fn store_u64(at: i16, value: i32) -> Instruction {
        instruction(0x7a, FRAME, 0, at, value)
    }
    pub const fn store_u16(at: i16, value: i32) -> Instruction {
        instruction(0x6a, FRAME, 0, at, value)
    }
    pub const fn load_u32(dst: u8, src: u8) -> Instruction {
        instruction(0x61, dst, src, 0, 0)
    }
    pub const fn spill_u32(at: i16, src: u8) -> Instruction {
        instruction(0x63, FRAME, src, at, 0)
    }
    pub const fn call(helper: i32) -> Instruction {
        instruction(0x85, 0, 0, 0, helper)
    }
    /// Jumps to the end; `program` fills in how far that is.
    pub const fn end_if_zero(dst: u8) -> Instruction {
        instruction(0x15, dst, 0, 0, 0)
    }
    /// Likewise.
    pub const fn end_unless_zero(dst: u8) -> Instruction {
        instruction(0x55, dst, 0, 0, 0)
    }
    pub const fn is_jump(instruction: &Instruction) -> bool {
        matches!(instruction.code, 0x15 | 0x55)
    }
    /// A map's descriptor, which takes the place of two instructions.
    pub const fn map(dst: u8, fd: i32) -> [Instruction; 2] {
        const MAP_FD: u8 = 1;
        [instruction(0x18, dst, MAP_FD, 0, fd), instruction(0, 0, 0, 0, 0)]
    }
    pub const fn end() -> Instruction {
        instruction(0x95, 0, 0, 0, 0)
    }
}

/// Looks the sender up, and selects the socket of the worker found. Always passes: without a selection the kernel's own
/// hash decides.
fn program(senders: &Senders, group: &Group, local: u16, ipv6: bool) -> Vec<Instruction> {
    use assembly::*;
    const CONTEXT: u8 = 6;
    /// The key on the stack, its fields, and the worker's number.
    const KEY: i16 = -24;
    const PORT: i16 = KEY + 16;
    const LOCAL: i16 = KEY + 18;
    const WORKER: i16 = -32;
    // Helpers of the kernel, by number.
    const MAP_LOOKUP_ELEM: i32 = 1;
    const SKB_LOAD_BYTES: i32 = 26;
    const SKB_LOAD_BYTES_RELATIVE: i32 = 68;
    const SK_SELECT_REUSEPORT: i32 = 82;
    const NETWORK_HEADER: i32 = 1;
    const PASS: i32 = 1;
    let (offset, len) = if ipv6 { (8, 16) } else { (12, 4) };
    let [senders0, senders1] = map(1, senders.as_raw_fd());
    let [group0, group1] = map(2, group.as_raw_fd());
    let mut code = vec![copy(CONTEXT, 1), store_u64(KEY, 0), store_u64(KEY + 8, 0), store_u64(KEY + 16, 0)];
    code.push(store_u16(LOCAL, i32::from(local)));
    // The source port: the first two bytes of the UDP header, where the packet's data begins.
    code.extend([copy(1, CONTEXT), set(2, 0), copy(3, FRAME), add(3, PORT.into()), set(4, 2), call(SKB_LOAD_BYTES)]);
    code.push(end_unless_zero(0));
    // The source address.
    code.extend([copy(1, CONTEXT), set(2, offset), copy(3, FRAME), add(3, KEY.into()), set(4, len)]);
    code.extend([set(5, NETWORK_HEADER), call(SKB_LOAD_BYTES_RELATIVE)]);
    code.push(end_unless_zero(0));
    code.extend([senders0, senders1, copy(2, FRAME), add(2, KEY.into()), call(MAP_LOOKUP_ELEM)]);
    code.push(end_if_zero(0));
    code.extend([load_u32(1, 0), spill_u32(WORKER, 1)]);
    code.extend([copy(1, CONTEXT), group0, group1, copy(3, FRAME), add(3, WORKER.into()), set(4, 0)]);
    code.push(call(SK_SELECT_REUSEPORT));
    let target = code.len();
    for (at, jump) in code.iter_mut().enumerate().filter(|(_, i)| is_jump(i)) {
        jump.offset = (target - at - 1) as i16;
    }
    code.extend([set(0, PASS), end()]);
    code
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::io::{SocketOptions, bind_sockets};

    const LOOPBACKS: [IpAddr; 2] =
        [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];

    /// Which worker's socket the next datagram arrives at.
    fn arrives_at(workers: &[Vec<UdpSocket>], local: usize) -> Option<usize> {
        for _ in 0..1000 {
            for (worker, sockets) in workers.iter().enumerate() {
                if sockets[local].recv_from(&mut [0; 64]).is_ok() {
                    return Some(worker);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    #[test]
    fn a_claimed_sender_reaches_its_worker() {
        let mut port = 0;
        let workers: Vec<Vec<UdpSocket>> = (0..3)
            .map(|worker| {
                let options = SocketOptions { check_port_free: worker == 0, ..Default::default() };
                let set = bind_sockets(&LOOPBACKS, port, &options).unwrap();
                port = set[0].local_addr().unwrap().port();
                set
            })
            .collect();
        let steering = match Steering::attach(&workers, 100) {
            Ok(steering) => steering,
            Err(IoError::Steering { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {
                return eprintln!("skipped: this process may not load programs ({source})");
            }
            Err(error) => panic!("{error}"),
        };
        for (local, ip) in LOOPBACKS.iter().enumerate() {
            for i in 0..30 {
                let client = UdpSocket::bind((*ip, 0)).unwrap();
                client.connect(workers[0][local].local_addr().unwrap()).unwrap();
                let path = Path { local: local as u16, remote: client.local_addr().unwrap() };
                client.send(b"who gets this?").unwrap();
                let hashed = arrives_at(&workers, local).expect("the kernel's own choice");
                let wanted = i % 3;
                steering.claim(&path, WorkerId::from_index(wanted)).unwrap();
                for _ in 0..3 {
                    client.send(b"the owner").unwrap();
                    assert_eq!(arrives_at(&workers, local), Some(wanted), "{ip}");
                }
                steering.release(&path, WorkerId::from_index((wanted + 1) % 3));
                client.send(b"still the owner").unwrap();
                assert_eq!(arrives_at(&workers, local), Some(wanted), "only the owner can let go");
                steering.release(&path, WorkerId::from_index(wanted));
                client.send(b"as before").unwrap();
                assert_eq!(arrives_at(&workers, local), Some(hashed));
            }
        }
    }

    #[test]
    fn another_process_goes_on_with_the_map_and_nothing_else_as_one() {
        let bind =
            |port| bind_sockets(&LOOPBACKS[..1], port, &SocketOptions { check_port_free: false, ..Default::default() });
        let first = bind(0).unwrap();
        let workers = [bind(first[0].local_addr().unwrap().port()).unwrap(), first];
        let Ok(steering) = Steering::attach(&workers, 100) else {
            return eprintln!("skipped: this process may not load programs");
        };
        assert!(Steering::attach(&workers, 100).is_err(), "why it is handed over: the kernel takes no second one");
        let other = Steering::taken_over(steering.duplicate().unwrap()).unwrap();
        drop(steering);
        let client = UdpSocket::bind((LOOPBACKS[0], 0)).unwrap();
        client.connect(workers[0][0].local_addr().unwrap()).unwrap();
        let path = Path { local: 0, remote: client.local_addr().unwrap() };
        for wanted in [0, 1, 0] {
            other.claim(&path, WorkerId::from_index(wanted)).unwrap();
            client.send(b"the owner").unwrap();
            assert_eq!(arrives_at(&workers, 0), Some(wanted));
        }
        let group = Group::new(MapKind::Sockets, 2).unwrap().duplicate().unwrap();
        let wider = Map::<[u8; 24], u64>::new(MapKind::Hash, 2).unwrap().duplicate().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap().into();
        let program = load(&program(&other.0, &Group::new(MapKind::Sockets, 2).unwrap(), 0, false)).unwrap();
        for (what, descriptor) in [("sockets", group), ("wider", wider), ("a file", file), ("a program", program)] {
            assert!(Steering::taken_over(descriptor).is_err(), "{what}");
        }
    }

    #[test]
    fn a_full_map_is_an_error() {
        let workers = [bind_sockets(&LOOPBACKS[..1], 0, &SocketOptions::default()).unwrap()];
        let Ok(steering) = Steering::attach(&workers, 1) else {
            return eprintln!("skipped: this process may not load programs");
        };
        let path = |port: u16| Path { local: 0, remote: ([127, 0, 0, 1], port).into() };
        steering.claim(&path(1), WorkerId::new(0)).unwrap();
        assert!(steering.claim(&path(2), WorkerId::new(0)).is_err());
        steering.release(&path(1), WorkerId::new(0));
        steering.claim(&path(2), WorkerId::new(0)).unwrap();
    }
}
