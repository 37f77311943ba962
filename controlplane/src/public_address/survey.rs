//! The search as `check-config --connect` runs it: once, with sockets of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::aws::AwsLookup;
use super::finding::Finding;
use super::look_up::{self, LookedUp};
use super::settings::DiscoverySettings;
use super::stun::{Output, Socket, StunDiscovery};
use ringbridge_dataplane::ice::stun::{Class, MAX_MESSAGE, Writer};

/// How long it takes at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// Datagrams and results that may wait.
const QUEUE: usize = 256;

enum Input {
    Datagram(u16, SocketAddr, Vec<u8>),
    LookedUp(LookedUp),
}

/// Asks as the bridge would, from these addresses: over the media port where nobody has it, else over any.
pub async fn survey(settings: &DiscoverySettings, hosts: &[IpAddr], port: u16) -> Vec<Finding> {
    let (inputs, mut input) = mpsc::channel(QUEUE);
    let reply = {
        let inputs = inputs.clone();
        move |answer| drop(inputs.try_send(Input::LookedUp(answer)))
    };
    let mut findings = Vec::new();
    let (mut open, mut sockets, mut readers) = (Vec::new(), Vec::new(), JoinSet::new());
    for (index, host) in hosts.iter().enumerate() {
        let Ok(index) = u16::try_from(index) else { break };
        let Some((socket, address)) = bind(*host, port).await else { continue };
        sockets.push(Socket { index, address, is_media: address.port() == port });
        let (socket, inputs) = (Arc::new(socket), inputs.clone());
        open.push((index, Arc::clone(&socket)));
        readers.spawn(async move {
            let mut buffer = [0; MAX_MESSAGE];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                if inputs.send(Input::Datagram(index, from, datagram)).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut awaits_metadata = settings.aws != AwsLookup::Off;
    if awaits_metadata {
        look_up::metadata(settings.aws_service, reply.clone());
    }
    let now = Instant::now();
    let mut stun = (!settings.stun_servers.is_empty())
        .then(|| StunDiscovery::new(now, &settings.stun_servers, sockets, Box::new(|| rand::rng().random())));
    let end = now + PATIENCE;
    loop {
        while let Some(output) = stun.as_mut().and_then(StunDiscovery::poll_output) {
            match output {
                Output::Resolve { server } => {
                    if let Some(named) = stun.as_ref().and_then(|stun| stun.server(server)) {
                        look_up::resolve(server, named, reply.clone());
                    }
                }
                Output::Ask { socket, server, transaction } => {
                    let mut request = [0; MAX_MESSAGE];
                    let written = Writer::new(&mut request, Class::Request, &transaction).finish_unsigned();
                    let from = open.iter().find(|(index, _)| *index == socket);
                    if let (Some(length), Some((_, socket))) = (written, from) {
                        // What cannot be sent gets no answer.
                        let _ = socket.try_send_to(request.get(..length).unwrap_or_default(), server);
                    }
                }
                Output::Report(finding) => findings.push(finding),
            }
        }
        let asks = stun.as_ref().is_some_and(|stun| !stun.is_settled());
        if !asks && !awaits_metadata {
            break;
        }
        let next = stun.as_ref().and_then(StunDiscovery::poll_timeout).filter(|_| asks).unwrap_or(end).min(end);
        let came = timeout_at(next.into(), input.recv()).await;
        let now = Instant::now();
        match (came, &mut stun) {
            (Ok(Some(Input::Datagram(index, from, datagram))), Some(stun)) => {
                stun.handle_datagram(now, index, from, &datagram);
            }
            (Ok(Some(Input::LookedUp(LookedUp::Resolved { server, addresses }))), Some(stun)) => {
                stun.handle_resolved(now, server, &addresses);
            }
            (Ok(Some(Input::LookedUp(LookedUp::Metadata(result)))), _) => {
                awaits_metadata = false;
                findings.push(Finding::of_metadata(settings, hosts, result));
            }
            (Ok(_), _) => {}
            (Err(_), _) if now >= end => break,
            (Err(_), Some(stun)) => stun.handle_timeout(now),
            (Err(_), None) => {}
        }
    }
    findings
}

async fn bind(host: IpAddr, port: u16) -> Option<(UdpSocket, SocketAddr)> {
    for port in [port, 0] {
        if let Ok(socket) = UdpSocket::bind((host, port)).await {
            // Sending does not wait for the first time that it is asked.
            let _ = socket.writable().await;
            return socket.local_addr().ok().map(|address| (socket, address));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringbridge_dataplane::ice::stun::Message;

    /// A server that sees everybody under one address and the right port.
    async fn server(public: &'static str) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; MAX_MESSAGE];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let Ok(request) = Message::parse(&buffer[..length]) else { continue };
                let (id, mut answer) = (request.transaction(), [0; 100]);
                let mapped = SocketAddr::new(public.parse().unwrap(), from.port());
                let length = Writer::new(&mut answer, Class::Success, &id).mapped(mapped).finish_unsigned().unwrap();
                socket.send_to(&answer[..length], from).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn it_finds_what_a_server_says_and_ends_without_one() {
        let known = server("198.51.100.7").await;
        let hosts = ["127.0.0.1".parse().unwrap()];
        let mut settings = DiscoverySettings {
            stun_servers: vec![known.to_string().parse().unwrap()],
            ..DiscoverySettings::default()
        };
        let start = Instant::now();
        let findings = survey(&settings, &hosts, 0).await;
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [format!("public address 198.51.100.7 of 127.0.0.1 found by STUN server {known}")]);
        assert!(start.elapsed() < PATIENCE);

        // Nobody answers there, and nobody listens here.
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        settings.stun_servers = vec![silent.local_addr().unwrap().to_string().parse().unwrap()];
        (settings.aws, settings.aws_service) = (AwsLookup::On, free);
        let start = Instant::now();
        let findings = survey(&settings, &hosts, 0).await;
        assert!(start.elapsed() < PATIENCE + Duration::from_millis(500), "{:?}", start.elapsed());
        assert_eq!(findings.iter().filter(|finding| finding.is_warning()).count(), 2, "{findings:?}");
    }
}
