//! Both I/O backends pass the same tests over loopback. io_uring's are skipped, with a message, where the kernel or
//! a sandbox forbids it; IPv6's where the host has none.

#[macro_use]
mod io_rig;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::io::{
    EventFd, Flush, IoChoice, IoError, IoExtras, IoLimits, MAX_DATAGRAM, Mmsg, PacketIo, PacketSink, Path,
    SocketOptions, Uring, bind_sockets, probe,
};
use ringbridge_dataplane::stats::{Counter, WorkerStats};

use io_rig::*;

#[test]
fn mmsg_refuses_what_only_uring_has() {
    let sockets = bind_sockets(&[V4], 0, &SocketOptions::default()).unwrap();
    let extras = IoExtras { zero_copy: true, ..Default::default() };
    let made = Mmsg::new(sockets, EventFd::new().unwrap(), IoLimits { extras, ..Default::default() }, Arc::default());
    let text = made.map(drop).unwrap_err().to_string();
    assert!(text.contains("zero-copy") && text.contains("io_uring only"), "{text}");
}

fn busily<T: PacketIo>(new: Constructor<T>) {
    let extras = IoExtras { busy_poll: 50, ..Default::default() };
    let sockets = bind_sockets(&[V4], 0, &SocketOptions::default()).unwrap();
    match new(sockets, EventFd::new().unwrap(), IoLimits { extras, ..Default::default() }, Arc::default()) {
        Ok(_) => {
            let mut rig = Rig::new(new, &[V4], IoLimits { extras, ..Default::default() });
            let (socket, _) = peer();
            socket.send_to(b"polled", rig.addresses[0]).unwrap();
            rig.echo(1);
            assert_eq!(read(&socket).0, b"polled");
        }
        Err(error) => eprintln!("skipped in part: {error}"),
    }
}

#[test]
fn a_wait_may_poll_the_card() {
    busily(Mmsg::new);
    match probe(IoChoice::Uring, IoExtras::default()) {
        Ok(_) => busily(Uring::new),
        Err(error) => eprintln!("skipped in part: {error}"),
    }
}

on_both_backends!(
    echoes_every_size,
    echoes_without_offload,
    drops_and_counts_what_is_too_long,
    keeps_order_per_destination,
    mixes_sizes_in_runs,
    receives_runs_as_separate_datagrams,
    names_the_local_socket,
    speaks_ipv6,
    wakes_up_from_another_thread,
    wake_up_before_the_wait_counts,
    what_comes_meanwhile_comes_together,
    times_out,
    does_not_wait_with_zero_timeout,
    flushes_by_itself_when_full,
    loses_nothing_beyond_its_buffers,
    counts_what_the_kernel_refuses,
    counts_what_the_socket_drops,
    batch_may_be_changed_in_place,
    goes_away_cleanly,
    refuses_bad_limits,
);

fn echoes_every_size<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    let (socket, _) = peer();
    for len in [0, 1, 2, 60, 100, 512, 1199, 1200, 1472, 1499, MAX_DATAGRAM] {
        let data = pattern(len, len);
        socket.send_to(&data, rig.addresses[0]).unwrap();
        rig.echo(1);
        assert_eq!(read(&socket), (data, rig.addresses[0]), "{len} bytes");
    }
    assert_eq!(rig.stats.get(Counter::PacketsSent), 11);
    assert_eq!(rig.stats.get(Counter::BytesSent), [1, 2, 60, 100, 512, 1199, 1200, 1472, 1499, 1500].iter().sum());
    assert_eq!(rig.stats.get(Counter::DropSendError), 0);
}

fn echoes_without_offload<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::new(new, &[V4], IoLimits { offload: false, ..Default::default() });
    assert!(!rig.io.offloads().gso && !rig.io.offloads().gro);
    let (socket, _) = peer();
    for i in 0..50 {
        socket.send_to(&pattern(1200, i), rig.addresses[0]).unwrap();
    }
    rig.echo(50);
    for i in 0..50 {
        assert_eq!(read(&socket).0, pattern(1200, i));
    }
}

fn drops_and_counts_what_is_too_long<T: PacketIo>(new: Constructor<T>) {
    for offload in [true, false] {
        let mut rig = Rig::new(new, &[V4], IoLimits { offload, ..Default::default() });
        let (socket, _) = peer();
        for len in [MAX_DATAGRAM + 1, 1800, 3000, 60_000] {
            socket.send_to(&vec![1; len], rig.addresses[0]).unwrap();
        }
        socket.send_to(&[9; MAX_DATAGRAM], rig.addresses[0]).unwrap();
        assert_eq!(rig.collect(1)[0].1, [9; MAX_DATAGRAM]);
        assert_eq!(rig.stats.get(Counter::DropOversized), 4, "offload {offload}");
    }
}

fn keeps_order_per_destination<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    let peers: Vec<_> = (0..7).map(|_| peer()).collect();
    let mut expect: HashMap<usize, Vec<Vec<u8>>> = HashMap::new();
    for i in 0..700 {
        let to = i * i % 7;
        let data = pattern(if i % 5 == 0 { 300 + i } else { 1000 }, i);
        rig.send(Path { local: 0, remote: peers[to].1 }, &data);
        expect.entry(to).or_default().push(data);
        if i % 200 == 199 {
            rig.flush();
        }
    }
    rig.flush();
    for (to, datagrams) in expect {
        for (n, data) in datagrams.into_iter().enumerate() {
            assert_eq!(read(&peers[to].0), (data, rig.addresses[0]), "datagram {n} to peer {to}");
        }
    }
    assert_eq!(rig.stats.get(Counter::PacketsSent), 700);
}

fn mixes_sizes_in_runs<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    assert!(rig.io.offloads().gso, "every kernel since 4.18 has it");
    let (socket, address) = peer();
    // Runs over 64 segments and 65,000 bytes, short ends, growing and shrinking sizes, empty datagrams, MTU-sized ones.
    let sizes: Vec<usize> =
        [vec![1200; 130], vec![1500; 50], vec![100; 65], vec![1200, 1200, 7, 7, 8, 0, 0, 1, 1500, 1]].concat();
    for (i, &len) in sizes.iter().enumerate() {
        rig.send(Path { local: 0, remote: address }, &pattern(len, i));
    }
    rig.flush();
    for (i, &len) in sizes.iter().enumerate() {
        assert!(read(&socket).0 == pattern(len, i), "datagram {i} of {len} bytes");
    }
    assert_eq!(rig.stats.get(Counter::PacketsSent), sizes.len() as u64);
    assert_eq!(rig.stats.get(Counter::BytesSent), sizes.iter().sum::<usize>() as u64);
}

fn receives_runs_as_separate_datagrams<T: PacketIo>(new: Constructor<T>) {
    let mut sender = Rig::simple(Mmsg::new);
    let mut rig = Rig::simple(new);
    assert!(rig.io.offloads().gro, "every kernel since 5.0 has it");
    let sizes = [vec![1000; 60], vec![333], vec![50; 64], vec![49]].concat();
    for (i, &len) in sizes.iter().enumerate() {
        sender.send(Path { local: 0, remote: rig.addresses[0] }, &pattern(len, i));
    }
    sender.flush();
    for (i, (path, data)) in rig.collect(sizes.len()).into_iter().enumerate() {
        assert_eq!((path, data), (Path { local: 0, remote: sender.addresses[0] }, pattern(sizes[i], i)));
    }
}

fn names_the_local_socket<T: PacketIo>(new: Constructor<T>) {
    let addresses: Vec<IpAddr> = (1..=4).map(|n| IpAddr::from([127, 0, 0, n])).collect();
    let mut rig = Rig::new(new, &addresses, IoLimits::default());
    let (socket, address) = peer();
    for to in &rig.addresses {
        socket.send_to(&[to.ip().to_string().as_bytes()[8]], to).unwrap();
    }
    for (path, data) in rig.collect(4) {
        assert_eq!(data, [b'1' + path.local as u8]);
        assert_eq!(path.remote, address);
    }
    for local in [2, 0, 3, 1, 2] {
        rig.send(Path { local, remote: address }, &[local as u8]);
    }
    rig.flush();
    let mut seen: Vec<_> = (0..5).map(|_| read(&socket)).collect();
    seen.sort();
    let expect: Vec<_> = [0, 1, 2, 2, 3].map(|local| (vec![local], rig.addresses[usize::from(local)])).into();
    assert_eq!(seen, expect);
}

fn speaks_ipv6<T: PacketIo>(new: Constructor<T>) {
    if !v6_allowed() {
        return;
    }
    let mut rig = Rig::new(new, &[V4, V6], IoLimits::default());
    for local in [0, 1] {
        let (socket, address) = peer_at([V4, V6][local]);
        for i in 0..20 {
            socket.send_to(&pattern(900, i), rig.addresses[local]).unwrap();
        }
        for (i, (path, data)) in rig.collect(20).into_iter().enumerate() {
            assert_eq!(path, Path { local: local as u16, remote: address });
            rig.send(path, &data);
            assert_eq!(data, pattern(900, i));
        }
        rig.flush();
        for i in 0..20 {
            assert_eq!(read(&socket), (pattern(900, i), rig.addresses[local]));
        }
    }
    // An address of the wrong family is a counted drop, and disturbs nothing.
    let (_, v4) = peer();
    rig.send(Path { local: 1, remote: v4 }, &[1]);
    rig.flush();
    assert_eq!(rig.stats.get(Counter::DropSendError), 1);
}

fn wakes_up_from_another_thread<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    // More than once: the wake-up must survive being used.
    for _ in 0..3 {
        let wake = rig.wake.clone();
        let start = Instant::now();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            wake.notify();
        });
        assert_eq!(rig.io.receive(LONG).unwrap(), 0);
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(25) && waited < LONG / 2, "{waited:?}");
        thread.join().unwrap();
    }
    // It is drained: the next wait really waits.
    let start = Instant::now();
    assert_eq!(rig.io.receive(Duration::from_millis(50)).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(45), "{:?}", start.elapsed());
}

fn wake_up_before_the_wait_counts<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    for _ in 0..3 {
        rig.wake.notify();
        rig.wake.notify();
        let start = Instant::now();
        assert_eq!(rig.io.receive(LONG).unwrap(), 0);
        assert!(start.elapsed() < LONG / 2);
    }
}

fn times_out<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    for millis in [1, 20, 100] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        assert_eq!(rig.io.receive(timeout).unwrap(), 0);
        let waited = start.elapsed();
        // The upper bound is wide: tests share their cores.
        assert!(waited >= timeout.mul_f64(0.9) && waited < timeout + Duration::from_millis(500), "{waited:?}");
    }
}

fn does_not_wait_with_zero_timeout<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(rig.io.receive(Duration::ZERO).unwrap(), 0);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // Yet it sees what is there.
    let (socket, _) = peer();
    socket.send_to(&[5], rig.addresses[0]).unwrap();
    let deadline = Instant::now() + LONG;
    while rig.io.receive(Duration::ZERO).unwrap() == 0 {
        assert!(Instant::now() < deadline, "polling never saw the datagram");
    }
    assert_eq!(rig.io.parts().0.get(0).unwrap().data, [5]);
}

fn flushes_by_itself_when_full<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::new(new, &[V4], IoLimits { tx_slots: 8, ..Default::default() });
    let (socket, address) = peer();
    for i in 0..100 {
        rig.send(Path { local: 0, remote: address }, &pattern(200, i));
    }
    // 96 went out without a flush of ours.
    for i in 0..96 {
        assert_eq!(read(&socket).0, pattern(200, i));
    }
    rig.flush();
    for i in 96..100 {
        assert_eq!(read(&socket).0, pattern(200, i));
    }
    // Asked twice, the slot is the same one; what is written first is not sent twice.
    let (_, tx) = rig.io.parts();
    tx.slot().unwrap()[0] = 1;
    tx.slot().unwrap()[0] = 2;
    tx.commit(1, Path { local: 0, remote: address });
    tx.flush().unwrap();
    tx.flush().unwrap();
    assert_eq!(read(&socket).0, [2]);
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 8]).is_err(), "one datagram was committed");
}

fn loses_nothing_beyond_its_buffers<T: PacketIo>(new: Constructor<T>) {
    for offload in [true, false] {
        let limits = IoLimits { rx_buffers: 4, batch: 2, offload, ..Default::default() };
        let mut rig = Rig::new(new, &[V4], limits);
        let (socket, _) = peer();
        for i in 0..200 {
            socket.send_to(&pattern(100 + i, i), rig.addresses[0]).unwrap();
        }
        for (i, (_, data)) in rig.collect(200).into_iter().enumerate() {
            assert_eq!(data, pattern(100 + i, i));
        }
    }
}

fn counts_what_the_kernel_refuses<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    let (socket, address) = peer();
    let to = |remote| Path { local: 0, remote };
    let bad = [SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([255, 255, 255, 255], 9))];
    for i in 0..30 {
        rig.send(to(address), &pattern(100, i));
        if i % 10 == 0 {
            bad.iter().for_each(|&bad| rig.send(to(bad), &[0; 100]));
        }
    }
    rig.send(Path { local: 7, remote: address }, &[1]);
    rig.flush();
    for i in 0..30 {
        assert_eq!(read(&socket).0, pattern(100, i));
    }
    assert_eq!(rig.stats.get(Counter::DropSendError), 7);
    assert_eq!(rig.stats.get(Counter::PacketsSent), 30);
}

fn counts_what_the_socket_drops<T: PacketIo>(new: Constructor<T>) {
    let options = SocketOptions { receive_buffer: 4096, ..Default::default() };
    let sockets = bind_sockets(&[V4], 0, &options).unwrap();
    let to = sockets[0].local_addr().unwrap();
    let stats = Arc::new(WorkerStats::default());
    // Few buffers, so that the datagrams stay in the socket whatever the backend.
    let limits = IoLimits { rx_buffers: 1, batch: 1, offload: false, ..Default::default() };
    let mut io = new(sockets, EventFd::new().unwrap(), limits, stats.clone()).unwrap();
    let (socket, _) = peer();
    let mut sent = 200;
    for _ in 0..sent {
        socket.send_to(&[1; 1000], to).unwrap();
    }
    let mut received = 0;
    let deadline = Instant::now() + LONG;
    // The kernel reports drops with the next datagram that it queues, and its thread may get to that late.
    while received == 0 || received + stats.get(Counter::DropSocketOverflow) != sent {
        assert!(
            Instant::now() < deadline,
            "{received} of {sent}, dropped {:?}",
            stats.get(Counter::DropSocketOverflow)
        );
        socket.send_to(&[2], to).unwrap();
        sent += 1;
        while io.receive(Duration::from_millis(50)).unwrap() > 0 {
            received += 1;
        }
    }
    assert!(stats.get(Counter::DropSocketOverflow) > 0);
}

fn what_comes_meanwhile_comes_together<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::new(new, &[V4], IoLimits { batch: 8, ..IoLimits::default() });
    let to = rig.addresses[0];
    let (socket, _) = peer();
    // From this thread's point of view: one before, one during the pause.
    socket.send_to(&[1], to).unwrap();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        socket.send_to(&[2], to).unwrap();
        socket
    });
    let start = Instant::now();
    rig.io.coalesce(Duration::from_millis(200)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
    let socket = later.join().unwrap();
    assert_eq!(rig.io.receive(LONG).unwrap(), 2);
    // Nothing comes: the next receive waits as ever, and a later datagram is found.
    rig.io.coalesce(Duration::from_millis(1)).unwrap();
    assert_eq!(rig.io.receive(Duration::from_millis(1)).unwrap(), 0);
    assert_eq!(rig.io.parts().0.len(), 0, "the batch before is forgotten");
    socket.send_to(&[3], to).unwrap();
    rig.io.coalesce(Duration::ZERO).unwrap();
    assert_eq!(rig.io.receive(LONG).unwrap(), 1);
    // A wake-up during the pause is not lost: the receive after it does not sleep, and the one after that does.
    rig.wake.notify();
    let start = Instant::now();
    rig.io.coalesce(Duration::from_millis(1)).unwrap();
    assert_eq!(rig.io.receive(LONG).unwrap(), 0);
    assert!(start.elapsed() < LONG / 2);
    assert_eq!(rig.io.receive(Duration::from_millis(50)).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(45), "{:?}", start.elapsed());
    // What is more than a batch comes in several.
    for i in 0..12 {
        socket.send_to(&[i], to).unwrap();
    }
    rig.io.coalesce(Duration::from_millis(20)).unwrap();
    assert_eq!(rig.io.receive(LONG).unwrap(), 8);
    assert_eq!(rig.collect(4).len(), 4);
}

fn batch_may_be_changed_in_place<T: PacketIo>(new: Constructor<T>) {
    let mut rig = Rig::simple(new);
    let mut sender = Rig::simple(Mmsg::new);
    for i in 0..10 {
        sender.send(Path { local: 0, remote: rig.addresses[0] }, &[i; 10]);
    }
    sender.flush();
    let mut received = 0;
    while received < 10 {
        let count = rig.io.receive(LONG).unwrap();
        let (batch, _) = rig.io.parts();
        (0..count).for_each(|i| batch.get(i).unwrap().data.fill(100 + (received + i) as u8));
        for i in (0..count).rev() {
            assert_eq!(batch.get(i).unwrap().data, [100 + (received + i) as u8; 10], "neighbours are untouched");
        }
        received += count;
    }
}

fn goes_away_cleanly<T: PacketIo>(new: Constructor<T>) {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for _ in 0..100 {
        let mut rig = Rig::new(new, &[V4], IoLimits { rx_buffers: 4, tx_slots: 4, ..Default::default() });
        let (socket, address) = peer();
        socket.send_to(&[1], rig.addresses[0]).unwrap();
        rig.send(Path { local: 0, remote: address }, &[2]);
        if address.port() % 2 == 0 {
            rig.flush();
        }
    }
    // Other tests open descriptors at the same time, but not hundreds.
    assert!(descriptors() < before + 100, "{} descriptors after {before}", descriptors());
}

fn refuses_bad_limits<T: PacketIo>(new: Constructor<T>) {
    let refused = |limits| {
        let sockets = bind_sockets(&[V4], 0, &SocketOptions::default()).unwrap();
        match new(sockets, EventFd::new().unwrap(), limits, Arc::default()) {
            Err(IoError::Limit { name, .. }) => name,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("accepted"),
        }
    };
    assert_eq!(refused(IoLimits { batch: 0, ..Default::default() }), "batch");
    assert_eq!(refused(IoLimits { batch: 1 << 20, ..Default::default() }), "batch");
    assert_eq!(refused(IoLimits { tx_slots: 0, ..Default::default() }), "tx_slots");
    assert!(matches!(
        new(vec![], EventFd::new().unwrap(), IoLimits::default(), Arc::default()),
        Err(IoError::SocketCount(0))
    ));
}
