//! A focus over a real Prosody, with recorders, that can be killed. Whoever uses it has `account`, `focus_world` and `prosody`, too.

use std::net::SocketAddr;

use ringbridge_controlplane::focus::{self, FocusSettings, RecordingSettings};
use ringbridge_controlplane::rest::Process;
use tokio::sync::watch;

use crate::account::RECORDERS;
use crate::focus_world;
use crate::prosody::{self, Prosody};

/// A focus that ends like a killed process when this is dropped: nothing is sent, its connection just breaks.
pub struct Running(Option<tokio::runtime::Runtime>, #[allow(dead_code)] watch::Sender<bool>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts one; `rest` is where its pages are.
pub fn start(server: &Prosody, rest: SocketAddr) -> Running {
    let (stop, stopped) = watch::channel(false);
    let settings = FocusSettings {
        xmpp: server.account("focus", Some("focus")),
        brewery: prosody::BREWERY.parse().unwrap(),
        rest_listen: rest,
        recording: RecordingSettings { brewery: RECORDERS.parse().ok(), ..RecordingSettings::default() },
        ..focus_world::settings()
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.spawn(async move { focus::run(settings, Process::default(), stopped).await.expect("the focus runs") });
    Running(Some(runtime), stop)
}
