//! A minimal forwarder on tokio and webrtc-rs: a peer connection per participant; each of the publisher's tracks is read
//! and written to one local track that all subscribers share, as the project's own broadcast example does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ringbridge_bench_peers::{Reply, Request, reply, start};
use tokio::sync::mpsc;
use webrtc::api::media_engine::MediaEngine;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::api::{API, APIBuilder};
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;
use webrtc::track::track_local::{TrackLocal, TrackLocalWriter};

type Error = Box<dyn std::error::Error>;

struct Hub {
    api: API,
    connections: HashMap<usize, Arc<RTCPeerConnection>>,
    rooms: HashMap<usize, Room>,
}

/// What is published in a room.
#[derive(Default)]
struct Room {
    tracks: Arc<std::sync::Mutex<Vec<Arc<TrackLocalStaticRTP>>>>,
    /// How many there will be.
    offered: usize,
}

fn main() -> Result<(), Error> {
    let requests = start("webrtc 0.17");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || requests.into_iter().try_for_each(|request| sender.send(request)));
    runtime.block_on(async move {
        let mut media = MediaEngine::default();
        media.register_default_codecs()?;
        let mut settings = SettingEngine::default();
        settings.set_include_loopback_candidate(true);
        settings.set_ip_filter(Box::new(|ip| ip.is_loopback() && ip.is_ipv4()));
        settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
        // Others have their turns in between.
        let patience = Duration::from_secs(600);
        settings.set_ice_timeouts(Some(patience), Some(patience), Some(Duration::from_secs(2)));
        let api = APIBuilder::new().with_media_engine(media).with_setting_engine(settings).build();
        let mut hub = Hub { api, connections: HashMap::new(), rooms: HashMap::new() };
        while let Some(request) = receiver.recv().await {
            let (Request::Publish { id, .. } | Request::Subscribe { id, .. } | Request::Answer { id, .. }) = request;
            match hub.handle(request).await {
                Ok(answer) => reply(&answer),
                Err(error) => reply(&Reply::Failed { id, error: error.to_string() }),
            }
        }
        Ok(())
    })
}

impl Hub {
    async fn handle(&mut self, request: Request) -> Result<Reply, Error> {
        match request {
            Request::Publish { id, room, sdp } => {
                let connection = self.connect(id).await?;
                let room = self.rooms.entry(room).or_default();
                room.offered += sdp.lines().filter(|line| line.starts_with("m=")).count();
                let tracks = Arc::clone(&room.tracks);
                connection.on_track(Box::new(move |remote, _, _| {
                    let local = Arc::new(TrackLocalStaticRTP::new(
                        remote.codec().capability,
                        remote.kind().to_string(),
                        "bench".to_owned(),
                    ));
                    if let Ok(mut tracks) = tracks.lock() {
                        tracks.push(Arc::clone(&local));
                    }
                    tokio::spawn(async move {
                        while let Ok((packet, _)) = remote.read_rtp().await {
                            // A subscriber that left is not the others' concern.
                            let _ = local.write_rtp(&packet).await;
                        }
                    });
                    Box::pin(async {})
                }));
                connection.set_remote_description(RTCSessionDescription::offer(sdp)?).await?;
                let answer = connection.create_answer(None).await?;
                Ok(Reply::Answer { id, sdp: gathered(&connection, answer).await? })
            }
            Request::Subscribe { id, room } => {
                let Room { tracks, offered } = self.rooms.get(&room).ok_or("nobody publishes in this room")?;
                let (tracks, offered) = (Arc::clone(tracks), *offered);
                // Tracks appear with their first packets.
                for _ in 0..500 {
                    if tracks.lock().is_ok_and(|tracks| tracks.len() >= offered) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let connection = self.connect(id).await?;
                let tracks = tracks.lock().map_err(|error| error.to_string())?.clone();
                for track in tracks {
                    connection.add_track(track as Arc<dyn TrackLocal + Send + Sync>).await?;
                }
                let offer = connection.create_offer(None).await?;
                Ok(Reply::Offer { id, sdp: gathered(&connection, offer).await? })
            }
            Request::Answer { id, sdp } => {
                let connection = self.connections.get(&id).ok_or("nobody subscribed")?;
                connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await?;
                Ok(Reply::Accepted { id })
            }
        }
    }

    async fn connect(&mut self, id: usize) -> Result<Arc<RTCPeerConnection>, Error> {
        let connection = Arc::new(self.api.new_peer_connection(RTCConfiguration::default()).await?);
        self.connections.insert(id, Arc::clone(&connection));
        Ok(connection)
    }
}

/// Our description with all candidates in it.
async fn gathered(connection: &RTCPeerConnection, description: RTCSessionDescription) -> Result<String, Error> {
    let mut done = connection.gathering_complete_promise().await;
    connection.set_local_description(description).await?;
    let _ = done.recv().await;
    Ok(connection.local_description().await.ok_or("no local description")?.sdp)
}
