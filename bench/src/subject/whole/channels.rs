//! The clients' ends of the bridge channel: they ask for video, and send statistics as lib-jitsi-meet does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::Message;

/// How often a client sends its statistics to the others (lib-jitsi-meet's usual interval).
const STATISTICS: Duration = Duration::from_secs(10);
/// What it wants: everything, as high as there is.
const WANTS: &str = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":-1,"defaultConstraints":{"maxHeight":2160}}"#;
/// Of the size of what lib-jitsi-meet sends in a call of three.
const SAYS: &str = r#"{"colibriClass":"EndpointStats","bitrate":{"upload":2412,"download":4830,"audio":{"upload":41,"download":80},"video":{"upload":2371,"download":4750}},"packetLoss":{"total":0,"download":0,"upload":0},"connectionQuality":100,"jvbRTT":24,"serverRegion":"here","maxEnabledResolution":720}"#;

/// All channels, on a thread of their own.
pub(super) struct Channels {
    runtime: Option<Runtime>,
    open: Arc<AtomicUsize>,
}

impl Channels {
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("channels").enable_all().build()?;
        Ok(Self { runtime: Some(runtime), open: Arc::default() })
    }

    /// Opens one from a client's own address; it stays open until the bridge closes it.
    pub(super) fn open(&self, from: Ipv4Addr, url: String) {
        let Some(runtime) = &self.runtime else { return };
        let open = Arc::clone(&self.open);
        runtime.spawn(async move {
            if let Err(error) = run(from, &url, &open).await {
                tracing::warn!(%from, %url, error, "a bridge channel failed");
            }
        });
    }

    /// How many are open.
    pub(super) fn open_now(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn run(from: Ipv4Addr, url: &str, open: &AtomicUsize) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let authority = url.split('/').nth(2).ok_or("the URL names no host")?;
    let to: SocketAddr = authority.parse().map_err(|error| text(&error))?;
    let socket = TcpSocket::new_v4().map_err(|error| text(&error))?;
    socket.bind((from, 0).into()).map_err(|error| text(&error))?;
    let stream = socket.connect(to).await.map_err(|error| text(&error))?;
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(|error| text(&error))?;
    open.fetch_add(1, Ordering::Relaxed);
    let result = converse(&mut socket, from).await;
    open.fetch_sub(1, Ordering::Relaxed);
    result.map_err(|error| text(&error))
}

async fn converse(
    socket: &mut tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>,
    from: Ipv4Addr,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    socket.send(Message::text(WANTS)).await?;
    // Not all of them at once.
    let [.., high, low] = from.octets();
    let begin = STATISTICS.mul_f64(f64::from(u16::from_be_bytes([high, low]) % 997) / 997.0);
    let mut statistics = interval_at(Instant::now() + begin, STATISTICS);
    statistics.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = statistics.tick() => socket.send(Message::text(SAYS)).await?,
            message = socket.next() => match message {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}
