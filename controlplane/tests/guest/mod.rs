//! An anonymous client that writes whatever bytes a test gives it: a library would not send most of it.

#![allow(dead_code)] // Each test binary uses its own part of the harness.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A guest of `meet.test`, logged in.
pub struct Guest {
    socket: TcpStream,
    /// What the server sent and nobody has looked for yet.
    heard: String,
    /// Its full address.
    pub jid: String,
}

const HEADER: &str = "<stream:stream to='meet.test' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

impl Guest {
    /// Logs in at a server on this host.
    pub fn login(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        socket.set_write_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut guest = Self { socket, heard: String::new(), jid: String::new() };
        guest.write(HEADER);
        guest.hear("</stream:features>");
        guest.write("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>");
        guest.hear("<success");
        guest.write(HEADER);
        guest.hear("</stream:features>");
        guest.write("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        let answer = guest.hear("</jid>");
        let jid = answer.split("<jid>").nth(1).expect("an address").trim_end_matches("</jid>");
        guest.jid = jid.to_owned();
        guest
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &str) {
        self.socket.write_all(bytes.as_bytes()).expect("the server reads");
    }

    /// Reads up to and including `wanted`; panics after 10 seconds without it.
    pub fn hear(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(at) = self.heard.find(wanted) {
                let rest = self.heard.split_off(at + wanted.len());
                return std::mem::replace(&mut self.heard, rest);
            }
            assert!(Instant::now() < deadline, "no {wanted} in {}", self.heard);
            let mut bytes = [0; 65_536];
            match self.socket.read(&mut bytes) {
                Ok(0) => panic!("the server closed the stream before {wanted}: {}", self.heard),
                Ok(length) => self.heard.push_str(&String::from_utf8_lossy(&bytes[..length])),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}
