//! What a focus leaves for the next process: which rooms it is in, and what nobody else knows of them. Who is in a room, who
//! owns it, which bridges and recorders there are, the server sends anew.

mod directory;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json_message::RoomMetadata;
use super::limits::{MAX_LISTED, MAX_MEMBERS, MAX_NAME, MAX_NICK};

pub(super) use directory::Directory;

/// What is written in another form is not read.
const VERSION: u32 = 1;
/// Rooms of which anything is read.
const MAX_ROOMS: usize = 100_000;
/// Tasks of a room of which anything is read.
const MAX_TASKS: usize = 32;
/// Bytes of an address (RFC 7622 section 3.1).
const MAX_ADDRESS: usize = 3_071;

/// What one process leaves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// By address.
    pub rooms: BTreeMap<String, KeptRoom>,
}

/// A room that the focus is in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptRoom {
    /// Under which id it is on bridges, and on which.
    pub meeting_id: String,
    pub bridges: Vec<String>,
    /// Participants after the n-th start muted: audio, video.
    pub start_muted: (Option<usize>, Option<usize>),
    /// Whether others may collect statistics.
    pub rtcstats: bool,
    /// By medium.
    pub moderation: BTreeMap<String, KeptModeration>,
    pub metadata: Option<RoomMetadata>,
    /// By nickname.
    pub members: BTreeMap<String, KeptMember>,
    /// What is recorded, and who is called.
    pub tasks: Vec<KeptTask>,
}

/// Moderation of one medium.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptModeration {
    pub enabled: bool,
    /// Who may unmute all the same, by nickname.
    pub allowed: Vec<String>,
}

/// Somebody who has a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptMember {
    /// Its Jingle session, empty when there was none.
    pub sid: String,
    /// Media that others muted of it.
    pub muted: Vec<String>,
}

/// A Jibri at work. What it was given to stream with is not kept: nobody begins it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptTask {
    pub id: String,
    /// Its address in the brewery.
    pub jibri: String,
    pub kind: KeptKind,
    /// Who began it.
    pub initiator: Option<String>,
    /// Whether it has begun.
    pub begun: bool,
}

/// What a Jibri does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum KeptKind {
    File,
    Stream,
    /// A call of that address.
    Sip(String),
}

impl Kept {
    /// As it is written now.
    pub fn of(rooms: BTreeMap<String, KeptRoom>) -> Self {
        Self { version: VERSION, rooms }
    }

    /// As text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From text; an error says why it is not used. Rooms beyond what a focus would write are left out.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut kept: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if kept.version != VERSION {
            return Err(format!("it is of version {}, {VERSION} is the one that is read", kept.version));
        }
        if kept.rooms.len() > MAX_ROOMS {
            return Err(format!("it has {} rooms, {MAX_ROOMS} are the most", kept.rooms.len()));
        }
        kept.rooms.retain(|_, room| room.is_sound());
        Ok(kept)
    }
}

impl KeptRoom {
    /// Whether it is as a focus would have written it.
    fn is_sound(&self) -> bool {
        let short = |text: &String| text.len() <= MAX_NAME;
        let listed = |list: &Vec<String>| list.len() <= MAX_LISTED && list.iter().all(short);
        let member = |(nick, member): (&String, &KeptMember)| {
            nick.len() <= MAX_NICK && short(&member.sid) && member.muted.len() <= 3
        };
        let address = |text: &String| text.len() <= MAX_ADDRESS;
        let task = |task: &KeptTask| {
            let called = if let KeptKind::Sip(called) = &task.kind { address(called) } else { true };
            short(&task.id) && address(&task.jibri) && called && task.initiator.as_ref().is_none_or(address)
        };
        let metadata =
            |metadata: &RoomMetadata| listed(&metadata.moderators) && metadata.participants.as_ref().is_none_or(listed);
        short(&self.meeting_id)
            && self.bridges.len() <= MAX_LISTED
            && self.bridges.iter().all(address)
            && self.members.len() <= MAX_MEMBERS
            && self.members.iter().all(member)
            && self.moderation.len() <= 3
            && self.moderation.values().all(|of| listed(&of.allowed))
            && self.metadata.as_ref().is_none_or(metadata)
            && self.tasks.len() <= MAX_TASKS
            && self.tasks.iter().all(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let member = KeptMember { sid: "s".to_owned(), muted: vec!["audio".to_owned()] };
        let task = KeptTask {
            id: "t".to_owned(),
            jibri: "jibribrewery@internal.x/jibri-1".to_owned(),
            kind: KeptKind::Sip("sip:a@b".to_owned()),
            initiator: None,
            begun: true,
        };
        let room = KeptRoom {
            meeting_id: "m".to_owned(),
            bridges: vec!["brewery@internal.x/jvb1".to_owned()],
            start_muted: (Some(3), None),
            rtcstats: true,
            moderation: BTreeMap::from([("audio".to_owned(), KeptModeration { enabled: true, allowed: vec![] })]),
            metadata: Some(RoomMetadata { start_muted: Some((true, false)), ..RoomMetadata::default() }),
            members: BTreeMap::from([("alice".to_owned(), member)]),
            tasks: vec![task],
        };
        Kept::of(BTreeMap::from([("room@conference.x".to_owned(), room)]))
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Kept::read(&kept().to_text()), Ok(kept()));
        assert_eq!(Kept::read(&Kept::of(BTreeMap::new()).to_text()).map(|kept| kept.rooms.len()), Ok(0));
    }

    #[test]
    fn what_no_focus_wrote_is_not_used() {
        let of_version = |version| Kept { version, ..kept() }.to_text();
        for text in ["", "{", "[]", "null", "{\"version\":1}", &of_version(0), &of_version(VERSION + 1)] {
            assert!(Kept::read(text).is_err(), "{text}");
        }
        let with = |change: &dyn Fn(&mut KeptRoom)| {
            let mut kept = kept();
            kept.rooms.values_mut().for_each(change);
            Kept::read(&kept.to_text()).map(|kept| kept.rooms.len())
        };
        assert_eq!(with(&|_| {}), Ok(1));
        let long = "x".repeat(MAX_NAME + 1);
        for change in [
            &(|room: &mut KeptRoom| room.meeting_id.clone_from(&long)) as &dyn Fn(&mut KeptRoom),
            &|room| room.bridges = vec!["x".repeat(MAX_ADDRESS + 1)],
            &|room| room.tasks[0].jibri = "x".repeat(MAX_ADDRESS + 1),
            &|room| room.tasks[0].kind = KeptKind::Sip("x".repeat(MAX_ADDRESS + 1)),
            &|room| room.bridges = vec![String::new(); MAX_LISTED + 1],
            &|room| drop(room.members.insert("x".repeat(MAX_NICK + 1), KeptMember::default())),
            &|room| drop(room.members.insert("b".to_owned(), KeptMember { sid: long.clone(), muted: vec![] })),
            &|room| room.members = (0..=MAX_MEMBERS).map(|n| (n.to_string(), KeptMember::default())).collect(),
            &|room| room.tasks = vec![room.tasks[0].clone(); MAX_TASKS + 1],
            &|room| room.metadata = Some(RoomMetadata { moderators: vec![long.clone()], ..RoomMetadata::default() }),
        ] {
            assert_eq!(with(change), Ok(0));
        }
    }
}
