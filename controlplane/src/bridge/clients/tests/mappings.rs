//! What the clients' SSRCs carry.

use ringbridge_dataplane::ids::Ssrc;
use ringbridge_dataplane::media::Mid;
use ringbridge_dataplane::messages::MappedSource;

use super::*;
use crate::channel::{AudioSourceMapping, VideoSourceMapping};

fn mapped(name: &str, owner: u32, kind: MediaKind, ssrc: u32) -> MappedSource {
    let rtx = (kind == MediaKind::Video).then_some(ssrc + 1);
    let (name, owner, video_type) = (name.to_owned(), EndpointId(owner), VideoType::Desktop);
    let mid = (kind == MediaKind::Video).then(|| Mid::new(kind, 3));
    MappedSource {
        name,
        owner,
        kind,
        video_type,
        ssrcs: Encoding { ssrc: Ssrc::new(ssrc), rtx: rtx.map(Ssrc::new) },
        mid,
    }
}

fn video_map(source: &str, owner: &str, ssrc: u32) -> ToClient {
    let (source, owner) = (source.to_owned(), owner.to_owned());
    ToClient::VideoSources(vec![VideoSourceMapping {
        source,
        owner,
        ssrc,
        rtx: ssrc + 1,
        video_type: "DESKTOP",
        mid: Some("v3".to_owned()),
    }])
}

fn audio_map(source: &str, owner: &str, ssrc: u32) -> ToClient {
    ToClient::AudioSources(vec![AudioSourceMapping {
        source: source.to_owned(),
        owner: owner.to_owned(),
        ssrc,
        mid: None,
    }])
}

impl Fixture {
    /// Everything that is to be done until all is quiet, the messages and confirmations of it in order.
    fn settled(&mut self) -> Vec<Result<ToClient, u64>> {
        let mut out = Vec::new();
        loop {
            for action in self.actions() {
                match action {
                    Action::Send { endpoint: EndpointId(1), message } => out.push(Ok(message)),
                    Action::Command { worker: 3, command: Command::MappingsSignalled { endpoint, announcement } } => {
                        assert_eq!(endpoint, EndpointId(1));
                        out.push(Err(announcement));
                    }
                    other => panic!("{other:?}"),
                }
            }
            if !self.endpoints.flush(self.now) {
                return out;
            }
        }
    }
}

#[test]
fn a_client_is_told_what_is_new_of_its_ssrcs_and_the_worker_after_that() {
    let mut fixture = Fixture::new(3);
    let id = EndpointId(1);
    let (camera, voice) = (mapped("b-v0", 2, MediaKind::Video, 10), mapped("b-a0", 2, MediaKind::Audio, 20));
    fixture.endpoints.handle_mapped(id, 1, vec![voice.clone(), camera.clone()]);
    let expected = vec![Ok(video_map("b-v0", "b", 10)), Ok(audio_map("b-a0", "b", 20)), Err(1)];
    assert_eq!(fixture.settled(), expected);
    // Another source on a known SSRC, the other one unchanged, and one of somebody who has left just now.
    let remapped = mapped("c-v0", 3, MediaKind::Video, 10);
    let gone = mapped("z-v0", 99, MediaKind::Video, 30);
    fixture.endpoints.handle_mapped(id, 2, vec![voice.clone(), remapped.clone(), gone]);
    assert_eq!(fixture.settled(), [Ok(video_map("c-v0", "c", 10)), Err(2)]);
    // One less is nothing to signal, but the worker waits for the answer.
    fixture.endpoints.handle_mapped(id, 3, vec![voice.clone()]);
    assert_eq!(fixture.settled(), [Err(3)]);
    // And its return is news.
    fixture.endpoints.handle_mapped(id, 4, vec![voice, remapped]);
    assert_eq!(fixture.settled(), [Ok(video_map("c-v0", "c", 10)), Err(4)]);
}

#[test]
fn without_a_channel_nothing_is_told_and_a_new_one_is_told_everything() {
    let mut fixture = Fixture::new(2);
    let id = EndpointId(1);
    fixture.close(id);
    let (camera, voice) = (mapped("b-v0", 2, MediaKind::Video, 10), mapped("b-a0", 2, MediaKind::Audio, 20));
    fixture.endpoints.handle_mapped(id, 1, vec![camera.clone()]);
    fixture.endpoints.handle_mapped(id, 2, vec![voice, camera]);
    assert_eq!(fixture.settled(), []);
    let shown = |fixture: &Fixture| fixture.endpoints.debug(id).unwrap()["mapped_sources"].clone();
    let expected = json!([
        { "source": "b-a0", "ssrc": 20, "rtx": null, "mid": null, "sent": false },
        { "source": "b-v0", "ssrc": 10, "rtx": 11, "mid": "v3", "sent": false },
    ]);
    assert_eq!(shown(&fixture), expected);
    for _ in 0..2 {
        fixture.open(id);
        let expected = [
            Ok(ToClient::ServerHello),
            Ok(ToClient::ForwardedSources(Vec::new())),
            Ok(video_map("b-v0", "b", 10)),
            Ok(audio_map("b-a0", "b", 20)),
            Err(2),
        ];
        assert_eq!(fixture.settled(), expected);
    }
    assert_eq!(shown(&fixture)[1]["sent"], json!(true));
    // One that never had a mapping is sent none.
    fixture.open(EndpointId(2));
    assert_eq!(fixture.messages(), [(2, ToClient::ServerHello), (2, ToClient::ForwardedSources(Vec::new()))]);
}
