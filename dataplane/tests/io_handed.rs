//! Sockets that a backend is handed while it runs, and gives up again: the same tests on both, as in `io.rs`.

#[macro_use]
mod io_rig;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ringbridge_dataplane::io::{
    HandedSocket, IoError, IoLimits, Mmsg, PacketIo, Path, RelayPorts, SocketOptions, SocketPool, Uring,
};
use ringbridge_dataplane::stats::Counter;

use io_rig::*;

on_both_backends!(
    takes_up_a_socket_while_it_runs,
    speaks_ipv6_over_a_handed_socket,
    receives_runs_over_it,
    gives_it_up_after_what_was_queued,
    an_index_brings_nothing_of_who_had_it_before,
    sends_nothing_over_a_socket_that_is_gone,
    takes_no_more_than_its_limit,
    a_busy_shared_port_does_not_starve_the_others,
    serves_many_with_few_buffers,
    shared_sockets_cannot_be_closed,
    goes_away_with_sockets_open_and_closing,
    refuses_a_bad_limit,
);

fn socket_at(ip: IpAddr) -> (HandedSocket, SocketAddr) {
    let mut bound = RelayPorts::new(vec![ip], None, SocketOptions::default()).bind().unwrap();
    let socket = bound.remove(0);
    let address = socket.address();
    (socket, address)
}

/// Hands over one more socket; its index and address.
fn open<T: PacketIo>(rig: &mut Rig<T>) -> (u16, SocketAddr) {
    let (socket, address) = socket_at(V4);
    (rig.io.parts().1.open(socket).unwrap(), address)
}

/// The same; waits while a former one is being closed, which a thread of the kernel does in its own time.
fn open_when_there_is_room<T: PacketIo>(rig: &mut Rig<T>) -> (u16, SocketAddr) {
    let deadline = Instant::now() + LONG;
    loop {
        let (socket, address) = socket_at(V4);
        match rig.io.parts().1.open(socket) {
            Ok(local) => return (local, address),
            Err(IoError::HandedSockets(_)) if Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(rig.io.receive(Duration::from_millis(1)).unwrap(), 0, "of a socket that is closed");
    }
}

fn close<T: PacketIo>(rig: &mut Rig<T>, local: u16) {
    rig.io.parts().1.close(local).unwrap();
}

/// Passes the time until a port is free: the kernel may let go of it a little later.
fn wait_until_free<T: PacketIo>(rig: &mut Rig<T>, address: SocketAddr) {
    let deadline = Instant::now() + LONG;
    while UdpSocket::bind(address).is_err() {
        assert!(Instant::now() < deadline, "{address} is still taken");
        rig.io.receive(Duration::from_millis(1)).unwrap();
    }
}

fn takes_up_a_socket_while_it_runs<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::new(new, &[V4, "127.0.0.2".parse().unwrap()], IoLimits::default());
    let (socket, address) = peer();
    for round in 0..3u8 {
        let (local, handed) = open(&mut rig);
        assert_eq!(local, 2 + u16::from(round), "after the shared ones");
        for (to, data) in [(handed, [b'h', round]), (rig.addresses[0], [b's', round])] {
            socket.send_to(&data, to).unwrap();
        }
        let mut got = rig.collect(2);
        got.sort_by_key(|(path, _)| path.local);
        let path = |local| Path { local, remote: address };
        assert_eq!(got, [(path(0), vec![b's', round]), (path(local), vec![b'h', round])]);
        rig.send(path(local), &[1, round]);
        rig.send(path(1), &[2, round]);
        rig.flush();
        let got: HashSet<_> = [read(&socket), read(&socket)].into();
        assert_eq!(got, [(vec![1, round], handed), (vec![2, round], rig.addresses[1])].into());
    }
}

fn speaks_ipv6_over_a_handed_socket<T: PacketIo>(new: Constructor<T>) {
    if !v6_allowed() {
        return;
    }
    let mut rig = Rig::simple(new);
    let (handed, to) = socket_at(V6);
    let local = rig.io.parts().1.open(handed).unwrap();
    let (socket, address) = peer_at(V6);
    socket.send_to(&[6], to).unwrap();
    let path = Path { local, remote: address };
    assert_eq!(rig.collect(1), [(path, vec![6])]);
    rig.send(path, &[7]);
    rig.flush();
    assert_eq!(read(&socket), (vec![7], to));
}

fn receives_runs_over_it<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    let (local, handed) = open(&mut rig);
    // The other end is a backend too: what it sends in one flush goes as one run.
    let mut far = Rig::simple(new);
    let (far_local, far_address) = open(&mut far);
    for i in 0..40 {
        far.send(Path { local: far_local, remote: handed }, &pattern(1200, i));
    }
    far.flush();
    for (i, (path, data)) in rig.collect(40).into_iter().enumerate() {
        assert_eq!((path, data), (Path { local, remote: far_address }, pattern(1200, i)), "datagram {i}");
    }
}

fn gives_it_up_after_what_was_queued<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    let ((one, first), (two, second)) = (open(&mut rig), open(&mut rig));
    let (socket, address) = peer();
    rig.send(Path { local: one, remote: address }, b"the last");
    close(&mut rig, one);
    assert_eq!(read(&socket), (b"the last".to_vec(), first));
    // Again, or what never was, changes nothing.
    for local in [one, 400, u16::MAX] {
        close(&mut rig, local);
    }
    wait_until_free(&mut rig, first);
    for (to, data) in [(rig.addresses[0], [0]), (second, [2])] {
        socket.send_to(&data, to).unwrap();
    }
    let mut got: Vec<_> = rig.collect(2).into_iter().map(|(path, data)| (path.local, data)).collect();
    got.sort();
    assert_eq!(got, [(0, vec![0]), (two, vec![2])], "the others go on");
}

fn an_index_brings_nothing_of_who_had_it_before<T: PacketIo>(new: Constructor<T>) {
    let limits = IoLimits { handed_sockets: 1, rx_buffers: 32, batch: 4, ..IoLimits::default() };
    let mut rig = Rig::new(new, &[V4], limits);
    let (socket, address) = peer();
    let mut looked_at = 0;
    for round in 0..60u8 {
        let (local, handed) = open_when_there_is_room(&mut rig);
        assert_eq!(local, 1);
        // More than a batch: some lies in the backend, some in the socket, when the next one gets the index.
        for _ in 0..12 {
            socket.send_to(&[round; 20], handed).unwrap();
        }
        // What is left of the former one may take a turn of its own.
        let received = (0..20).map(|_| rig.io.receive(LONG).unwrap()).find(|received| *received > 0).unwrap();
        let (batch, tx) = rig.io.parts();
        for i in 0..received {
            let datagram = batch.get(i).unwrap();
            assert_eq!((datagram.path, datagram.data), (Path { local, remote: address }, &mut [round; 20][..]));
            looked_at += 1;
        }
        tx.close(local).unwrap();
        let deadline = Instant::now() + LONG;
        // Whether the kernel has let go at once or not.
        while round % 2 == 0 && UdpSocket::bind(handed).is_err() {
            assert!(Instant::now() < deadline);
            assert_eq!(rig.io.receive(Duration::from_millis(1)).unwrap(), 0, "of a socket that is closed");
        }
    }
    assert!(looked_at >= 60, "{looked_at}");
}

fn sends_nothing_over_a_socket_that_is_gone<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    let (local, _) = open(&mut rig);
    let (socket, address) = peer();
    close(&mut rig, local);
    for local in [local, 300, 512, 513, 60_000] {
        rig.send(Path { local, remote: address }, b"stray");
    }
    rig.send(Path { local: 0, remote: address }, b"fine");
    rig.flush();
    assert_eq!(read(&socket).0, b"fine");
    assert_eq!(rig.stats.get(Counter::DropSendError), 5);
}

fn takes_no_more_than_its_limit<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::new(new, &[V4], IoLimits { handed_sockets: 2, ..IoLimits::default() });
    let ((one, first), (two, second)) = (open(&mut rig), open(&mut rig));
    let (third, address) = socket_at(V4);
    let error = rig.io.parts().1.open(third).unwrap_err();
    assert!(matches!(error, IoError::HandedSockets(2)), "{error}");
    UdpSocket::bind(address).expect("closed when it was refused");
    let (socket, _) = peer();
    for to in [first, second] {
        socket.send_to(&[1], to).unwrap();
    }
    let locals: HashSet<_> = rig.collect(2).into_iter().map(|(path, _)| path.local).collect();
    assert_eq!(locals, [one, two].into());
    close(&mut rig, one);
    wait_until_free(&mut rig, first);
    assert_eq!(open(&mut rig).0, one);
    let mut none = Rig::new(new, &[V4], IoLimits { handed_sockets: 0, ..IoLimits::default() });
    let error = none.io.parts().1.open(socket_at(V4).0).unwrap_err();
    assert!(matches!(error, IoError::HandedSockets(0)), "{error}");
}

fn a_busy_shared_port_does_not_starve_the_others<T: PacketIo>(new: Constructor<T>) {
    let limits = IoLimits { rx_buffers: 8, batch: 4, offload: false, ..IoLimits::default() };
    let mut rig = Rig::new(new, &[V4], limits);
    let (local, handed) = open(&mut rig);
    let (socket, _) = peer();
    let mut turns = 0;
    for round in 0..20u8 {
        for _ in 0..40 {
            socket.send_to(&[round; 100], rig.addresses[0]).unwrap();
        }
        socket.send_to(&[round], handed).unwrap();
        let mut found = false;
        while !found {
            assert!(turns < 20 * 40, "the handed socket's turn does not come");
            turns += 1;
            let received = rig.io.receive(LONG).unwrap();
            let (batch, _) = rig.io.parts();
            found = (0..received).any(|i| batch.get(i).unwrap().path.local == local);
        }
    }
    // And the other way round.
    for _ in 0..400 {
        socket.send_to(&[9; 100], handed).unwrap();
    }
    socket.send_to(&[10], rig.addresses[0]).unwrap();
    let deadline = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < deadline, "the shared port's turn does not come");
        let received = rig.io.receive(LONG).unwrap();
        let (batch, _) = rig.io.parts();
        if (0..received).any(|i| batch.get(i).unwrap().data == [10]) {
            break;
        }
    }
}

fn serves_many_with_few_buffers<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::new(new, &[V4], IoLimits { rx_buffers: 4, batch: 2, ..IoLimits::default() });
    let (socket, _) = peer();
    let handed: Vec<_> = (0..150).map(|_| open(&mut rig)).collect();
    for round in 0..2 {
        for (local, to) in &handed {
            socket.send_to(&local.to_be_bytes(), to).unwrap();
        }
        let got: HashSet<_> = rig.collect(150).into_iter().map(|(path, data)| (path.local, data)).collect();
        let expect: HashSet<_> = handed.iter().map(|(local, _)| (*local, local.to_be_bytes().to_vec())).collect();
        assert_eq!(got, expect, "round {round}");
    }
    assert_eq!(rig.stats.get(Counter::HandedSocketsFailed), 0);
}

fn shared_sockets_cannot_be_closed<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    close(&mut rig, 0);
    let (socket, address) = peer();
    socket.send_to(&[1], rig.addresses[0]).unwrap();
    rig.echo(1);
    assert_eq!(read(&socket), (vec![1], rig.addresses[0]));
    let _ = address;
}

fn goes_away_with_sockets_open_and_closing<T: PacketIo>(new: Constructor<T>) {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for round in 0..40 {
        let mut rig = Rig::new(new, &[V4], IoLimits { rx_buffers: 4, tx_slots: 4, ..IoLimits::default() });
        let (socket, address) = peer();
        let handed: Vec<_> = (0..3).map(|_| open(&mut rig)).collect();
        for (local, to) in &handed {
            socket.send_to(&[1], to).unwrap();
            rig.send(Path { local: *local, remote: address }, &[2]);
        }
        if round % 2 == 0 {
            rig.io.receive(Duration::from_millis(1)).unwrap();
        }
        close(&mut rig, handed[1].0);
    }
    // Other tests open descriptors at the same time, but not so many.
    assert!(descriptors() < before + 400, "{} descriptors after {before}", descriptors());
}

fn refuses_a_bad_limit<T: PacketIo>(new: Constructor<T>) {
    let sockets = ringbridge_dataplane::io::bind_sockets(&[V4], 0, &SocketOptions::default()).unwrap();
    let limits = IoLimits { handed_sockets: 16_385, ..IoLimits::default() };
    let made = new(sockets, ringbridge_dataplane::io::EventFd::new().unwrap(), limits, Default::default());
    assert!(matches!(made, Err(IoError::Limit { name: "handed_sockets", value: 16_385, max: 16_384, .. })));
}
