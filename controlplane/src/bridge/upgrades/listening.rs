//! The sockets at which connections arrive: bound by this process, or by the one before it.

use std::os::fd::{AsFd, OwnedFd};

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::bridge::error::BridgeError;
use crate::bridge::settings::BridgeSettings;
use crate::rest;
use crate::upgrade::listening;

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
