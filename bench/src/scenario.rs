//! Who takes part in a run, in which rooms, publishing what.

use clap::{Args, ValueEnum};

use crate::generator::media_numbers::Numbers;
use crate::generator::receiver::Expected;
use crate::generator::world::World;
use crate::media::Track;
use crate::media::audio::GeneratedAudio;
use crate::media::video::{GeneratedVideo, VideoShape};
use crate::subject::{Subject, SubjectError};
use crate::window;

/// Clients that connect at the same time: handshakes mostly wait.
const TOGETHER: usize = 25;
/// Participants of a room, where nothing else is said.
pub const PAIR: usize = 2;
/// Bits per second of each camera in many rooms: hundreds of them at 2.5 Mbit/s are more than one core can generate.
pub const ROOM_BITRATE: u64 = 300_000;

/// The shapes of conferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One publishes video to all others.
    Fanout,
    /// All publish video and audio to all.
    Mesh,
    /// Many small conferences, in which all publish video and audio to all.
    Rooms,
    /// All publish audio to all.
    Audio,
    /// One publishes video and audio to a large audience.
    Webinar,
}

impl Shape {
    /// Participants beside the publisher (fanout, webinar), in the conference (mesh, audio), or conferences (rooms).
    pub const fn usual_size(self) -> usize {
        match self {
            Self::Fanout => 50,
            Self::Mesh | Self::Audio => 20,
            Self::Rooms => 50,
            Self::Webinar => 500,
        }
    }

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Mesh => "mesh",
            Self::Rooms => "rooms",
            Self::Audio => "audio",
            Self::Webinar => "webinar",
        }
    }
}

/// A scenario with its size.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Scenario {
    /// Shape of the conferences.
    pub shape: Shape,
    /// See [`Shape::usual_size`].
    pub size: usize,
    /// Participants of each conference of [`Shape::Rooms`]; the other shapes have one conference.
    pub participants: usize,
    /// Media of each video stream.
    #[serde(skip)]
    pub video: VideoShape,
}

/// A scenario, as on the command line.
#[derive(Debug, Clone, Copy, Args)]
pub struct ScenarioArgs {
    /// Shape of the conferences.
    #[arg(long, value_enum, default_value = "fanout")]
    scenario: Shape,
    /// Receivers (fanout, webinar), participants (mesh, audio) or conferences (rooms).
    #[arg(long)]
    size: Option<usize>,
    /// Participants of each conference of rooms.
    #[arg(long, default_value_t = PAIR)]
    participants: usize,
}

impl From<ScenarioArgs> for Scenario {
    fn from(args: ScenarioArgs) -> Self {
        let size = args.size.unwrap_or(args.scenario.usual_size());
        Self { participants: args.participants, ..Self::new(args.scenario, size) }
    }
}

/// One participant of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Role {
    room: usize,
    video: bool,
    audio: bool,
}

impl Scenario {
    /// A scenario with generated media of the usual shape.
    pub fn new(shape: Shape, size: usize) -> Self {
        Self { shape, size, participants: PAIR, video: VideoShape::default() }
    }

    /// So many conferences of so many participants each, whose cameras send [`ROOM_BITRATE`].
    pub fn rooms(conferences: usize, participants: usize) -> Self {
        let video = VideoShape { bitrate: ROOM_BITRATE, ..VideoShape::default() };
        Self { video, participants, ..Self::new(Shape::Rooms, conferences) }
    }

    fn roles(&self, bundled: bool) -> Vec<Role> {
        let role = |room, video, audio| Role { room, video, audio };
        match self.shape {
            Shape::Rooms if !bundled => {
                // The same packets to as many receivers: each participant has a room to itself, in which the others listen.
                let publishers = self.size * self.participants;
                let listeners =
                    |room| std::iter::repeat_n(role(room, false, false), self.participants.saturating_sub(1));
                (0..publishers).map(|room| role(room, true, true)).chain((0..publishers).flat_map(listeners)).collect()
            }
            Shape::Fanout | Shape::Webinar => {
                let publisher = role(0, true, self.shape == Shape::Webinar);
                std::iter::once(publisher).chain((0..self.size).map(|_| role(0, false, false))).collect()
            }
            Shape::Mesh => vec![role(0, true, true); self.size],
            Shape::Audio => vec![role(0, false, true); self.size],
            Shape::Rooms => {
                let members = |room| std::iter::repeat_n(role(room, true, true), self.participants);
                (0..self.size).flat_map(members).collect()
            }
        }
    }

    /// Packets that should arrive for every packet that is sent, when all are forwarded.
    pub fn fan_out(&self) -> u64 {
        match self.shape {
            Shape::Fanout | Shape::Webinar => self.size as u64,
            Shape::Mesh | Shape::Audio => self.size.saturating_sub(1) as u64,
            Shape::Rooms => self.participants.saturating_sub(1) as u64,
        }
    }

    /// Brings everybody in. `tracks` replaces the generated media of the first publisher (a recording).
    /// About `samples` receivers decrypt. `progress` is called often, with how many of how many are in.
    pub fn join(
        &self,
        world: &mut World,
        subject: &mut dyn Subject,
        samples: usize,
        mut tracks: Vec<Box<dyn Track>>,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(), SubjectError> {
        let roles = self.roles(subject.bundles());
        world.set_fan_out(self.fan_out());
        let last_publisher = roles.iter().rposition(|role| role.video || role.audio);
        let total = roles.len();
        let stride = (total / samples.max(1)).max(1);
        let mut connecting = Vec::with_capacity(TOGETHER);
        for (i, role) in roles.into_iter().enumerate() {
            // Every third has other numbers, where the bridge translates.
            let other = subject.translates() && i % 3 == 2;
            let numbers = if other { Numbers::OTHER } else { Numbers::USUAL };
            let sampled = samples > 0 && (i % stride == stride - 1 || i + 1 == total);
            let expected = Expected { numbers: subject.translates().then_some(numbers) };
            let client = world.add_client(numbers, sampled, expected);
            let recorded = std::mem::take(&mut tracks);
            if !recorded.is_empty() {
                for track in recorded {
                    world.add_stream(client, track);
                }
            } else {
                if role.video {
                    world.add_stream(client, Box::new(GeneratedVideo::new(self.video, client as u64 + 1)));
                }
                if role.audio {
                    world.add_stream(client, Box::new(GeneratedAudio::new(client as u64 + 1)));
                }
            }
            subject.join(world, client, role.room)?;
            progress(i, total);
            connecting.push(client);
            // Publishers are waited for: some servers offer a stream only once its packets flow.
            let all_publish = (i == 0 || !subject.bundles()) && last_publisher == Some(i);
            if i == 0 || all_publish || connecting.len() == TOGETHER || i + 1 == total {
                for client in connecting.drain(..) {
                    world.connect(client, |now| {
                        progress(i, total);
                        subject.poll(now)
                    })?;
                }
            }
            if all_publish {
                world.play();
            }
        }
        world.pause();
        // What was played meanwhile belongs to no measurement.
        window::drain(world, subject, &mut |_| {
            progress(total, total);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_their_participants() {
        let count = |shape, size| {
            let roles = Scenario::new(shape, size).roles(true);
            (roles.len(), roles.iter().filter(|r| r.video).count(), roles.iter().filter(|r| r.audio).count())
        };
        assert_eq!(count(Shape::Fanout, 50), (51, 1, 0));
        assert_eq!(count(Shape::Webinar, 500), (501, 1, 1));
        assert_eq!(count(Shape::Mesh, 20), (20, 20, 20));
        assert_eq!(count(Shape::Audio, 20), (20, 0, 20));
        assert_eq!(count(Shape::Rooms, 3), (6, 6, 6));
        let rooms = Scenario::rooms(4, 5);
        assert_eq!((rooms.roles(true).len(), rooms.fan_out()), (20, 4));
        assert_eq!(rooms.roles(true).iter().filter(|role| role.room == 3).count(), 5);
        let apart = rooms.roles(false);
        assert_eq!((apart.len(), apart.iter().filter(|role| role.video).count()), (20 + 80, 20));
        assert_eq!(apart.iter().filter(|role| role.room == 19 && !role.video).count(), 4);
    }
}
