//! What the focus runs with.

mod recording;
mod sources;
mod visitors;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jid::BareJid;

use super::ice_failures::IceFailureSettings;
use super::logins::LoginSettings;
use super::selection::SelectionSettings;
use crate::xmpp::XmppSettings;

pub use self::recording::RecordingSettings;
pub use self::sources::{SenderLimits, SignalingDelays, SourceLimits, SourceSettings};
pub use self::visitors::{VisitorNode, VisitorSettings};

/// How overloaded bridges are relieved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadRedistribution {
    /// Time between two checks of the bridges' load.
    pub interval: Duration,
    /// Corrected stress from which a bridge is relieved.
    pub stress: f64,
    /// How long a bridge that was relieved is left alone.
    pub timeout: Duration,
    /// Number of participants moved away from it at a time.
    pub endpoints: usize,
}

/// What the focus runs with.
#[derive(Debug, Clone)]
pub struct FocusSettings {
    /// Its account; the resource must be `focus`.
    pub xmpp: XmppSettings,
    /// The brewery room where bridges announce themselves.
    pub brewery: BareJid,
    /// Who may be a bridge there: accounts and domains; none are all accounts of our own domain.
    pub brewery_trusted: Vec<BareJid>,
    /// The MUC service of the conferences, e.g. `conference.example.net`; requests for other services are refused.
    pub conference_muc: BareJid,
    /// The MUC service of breakout rooms; none is the one that announces itself.
    pub breakout_muc: Option<BareJid>,
    /// The clients' host, whose components are asked for; none is `conference_muc` without its first label.
    pub client_domain: Option<BareJid>,
    /// Where health and statistics are served.
    pub rest_listen: SocketAddr,
    /// Participants before media is allocated (2).
    pub min_participants: usize,
    /// Ends the media session of the last one left.
    pub single_participant_timeout: Duration,
    /// Leaves a room that nobody joins.
    pub initial_timeout: Duration,
    /// Offers data channels over SCTP to clients and asks bridges for them; off until the bridge has SCTP.
    pub sctp: bool,
    /// Asks bridges to restart ICE in place for clients that want it.
    pub ice_restart: bool,
    /// Conferences at a time.
    pub max_conferences: usize,
    /// Whether only moderators may record and call out; without, everybody in the room may.
    pub moderator_checks: bool,
    /// Domains and accounts, beside those of our own domain, whose members of a room are believed to be recorders or gateways.
    pub trusted_domains: Vec<BareJid>,
    /// Whether the first participant becomes owner where nobody has to log in; else the server names the owners.
    pub auto_owner: bool,
    /// Who has to be logged in to begin a conference; nobody without.
    pub login: Option<LoginSettings>,
    /// The component by which clients reach the focus; the addresses behind it are believed.
    pub client_proxy: Option<BareJid>,
    /// The brewery of gateways to telephones; without one, nobody can call out.
    pub jigasi_brewery: Option<BareJid>,
    /// Recording, live streams, SIP calls.
    pub recording: RecordingSettings,
    /// What of its members' sources a conference bounds.
    pub sources: SourceSettings,
    /// When a bridge counts as one that clients do not reach; none is never.
    pub ice_failure: Option<IceFailureSettings>,
    /// Who watches without taking part, and where; nobody without.
    pub visitors: Option<VisitorSettings>,
    /// How bridges are chosen.
    pub selection: SelectionSettings,
    /// When participants leave overloaded bridges; none is never.
    pub load_redistribution: Option<LoadRedistribution>,
    /// Whether bridges talk with each other over SCTP; else over WebSockets.
    pub relay_sctp: bool,
    /// The folder of what the next process needs to go on with the calls; without one they begin anew.
    pub state_directory: Option<PathBuf>,
}

impl FocusSettings {
    /// The host where clients log in, and that announces the server's components.
    pub(super) fn client_host(&self) -> BareJid {
        self.client_domain.clone().unwrap_or_else(|| {
            let service = self.conference_muc.domain().as_str();
            let host = service.split_once('.').and_then(|(_, host)| host.parse().ok());
            host.unwrap_or_else(|| self.conference_muc.clone())
        })
    }
}
