//! A STUN server of the tests' own.

#![allow(dead_code)] // Each test binary uses its own part.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use ringbridge_dataplane::ice::stun::{Class, MAX_MESSAGE, Message, Writer};

/// A running one; its thread ends with the process.
pub struct StunServer(SocketAddr);

impl StunServer {
    /// On a free port of loopback; sees everybody under this address and the right port, as a plain port forward would.
    pub fn start(public: IpAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = socket.local_addr().expect("bound");
        std::thread::spawn(move || serve(&socket, |from| SocketAddr::new(public, from.port())));
        Self(address)
    }

    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

/// Answers every Binding request with what `see` makes of its sender.
pub fn serve(socket: &UdpSocket, see: impl Fn(SocketAddr) -> SocketAddr) {
    let (mut request, mut answer) = ([0; MAX_MESSAGE], [0; MAX_MESSAGE]);
    while let Ok((length, from)) = socket.recv_from(&mut request) {
        let Ok(message) = Message::parse(&request[..length]) else { continue };
        if message.class() != Class::Request {
            continue;
        }
        let writer = Writer::new(&mut answer, Class::Success, &message.transaction()).mapped(see(from));
        let length = writer.finish_unsigned().expect("room");
        let _ = socket.send_to(&answer[..length], from);
    }
}
