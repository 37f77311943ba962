//! The sockets at which connections arrive: bound by this process, or by the one before it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::bridge::error::BridgeError;
use crate::bridge::settings::BridgeSettings;
use crate::rest;

/// Sockets at which connections arrive.
#[derive(Debug)]
pub(in crate::bridge) struct Listening {
    /// The colibri WebSocket's, if it is served.
    pub channel: Option<TcpListener>,
    /// The operators' pages'.
    pub pages: TcpListener,
    /// True from the freeze of an upgrade on: a connection that this process took then would end with it.
    pub held: watch::Sender<bool>,
}

/// The same of another process.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub channel: Option<OwnedFd>,
    pub pages: Option<OwnedFd>,
}

impl Listening {
    /// Binds them.
    pub async fn bind(settings: &BridgeSettings) -> Result<Self, BridgeError> {
        Self::take(settings, Inherited::default()).await
    }

    /// Takes those of another process that are where the settings want them, and binds the others.
    pub(super) async fn take(settings: &BridgeSettings, inherited: Inherited) -> Result<Self, BridgeError> {
        let channel = match settings.websocket_listen {
            None => None,
            Some(address) => Some(match inherited.channel.and_then(|socket| listening(socket, address)) {
                Some(listener) => listener,
                None => TcpListener::bind(address).await.map_err(|source| BridgeError::Listen {
                    address,
                    purpose: "the colibri WebSocket",
                    source,
                })?,
            }),
        };
        let pages = match inherited.pages.and_then(|socket| listening(socket, settings.rest_listen)) {
            Some(listener) => listener,
            None => rest::bind(settings.rest_listen).await?,
        };
        Ok(Self { channel, pages, held: watch::Sender::new(false) })
    }

    /// Further descriptors of the same sockets.
    pub(super) fn duplicate(&self) -> std::io::Result<Inherited> {
        let duplicate = |listener: &TcpListener| listener.as_fd().try_clone_to_owned();
        Ok(Inherited {
            channel: self.channel.as_ref().map(duplicate).transpose()?,
            pages: Some(duplicate(&self.pages)?),
        })
    }
}

/// A listener, if it is that of this address.
fn listening(socket: OwnedFd, address: SocketAddr) -> Option<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    let bound = listener.local_addr().ok()?;
    // Port 0 was some port.
    let same = bound.ip() == address.ip() && (address.port() == 0 || bound.port() == address.port());
    if !same {
        return None;
    }
    listener.set_nonblocking(true).ok()?;
    TcpListener::from_std(listener).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_taken_where_it_is_wanted_only() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let socket = || OwnedFd::from(listener.try_clone().expect("a descriptor"));
        let taken = listening(socket(), address).expect("the same address");
        assert_eq!(taken.local_addr().expect("bound"), address);
        assert!(listening(socket(), SocketAddr::new(address.ip(), 0)).is_some(), "any port is its port");
        let other = SocketAddr::new(address.ip(), address.port() ^ 1);
        assert!(listening(socket(), other).is_none());
        assert!(listening(socket(), SocketAddr::from(([0, 0, 0, 0], address.port()))).is_none());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let named = udp.local_addr().expect("bound");
        // Not a listener: whoever accepts there gets an error, and the bridge goes on without.
        let _ = listening(udp.into(), named);
    }
}
