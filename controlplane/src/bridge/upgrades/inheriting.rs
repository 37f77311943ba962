//! A bridge that begins with what another process had.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::Instant;

use ringbridge_dataplane::handover::{DataplaneState, Prepared};
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::{Dataplane, DataplaneConfig};

use super::descriptors::Descriptors;
use super::history::History;
use super::listening::{Inherited, Listening};
use crate::bridge::handover::{BridgeState, Takeover};
use crate::bridge::settings::BridgeSettings;
use crate::upgrade::{BesideHeir, BesideLoad, Heir, PartName, StateParts};

/// What a new process was given, at work.
pub(in crate::bridge) struct Heritage {
    pub takeover: Takeover,
    pub listening: Listening,
    pub links: Vec<WorkerLink>,
    pub dataplane: Dataplane,
    pub(super) history: History,
}

/// The same before it may work.
struct Imported {
    takeover: Takeover,
    listening: Listening,
    links: Vec<WorkerLink>,
    prepared: Prepared,
    history: History,
}

/// A bridge that is going to begin with what another process has.
pub(in crate::bridge) struct Inheriting<'a> {
    settings: &'a BridgeSettings,
    config: DataplaneConfig,
    /// The focus in the same process, if there is to be one.
    beside: Option<BesideHeir>,
    imported: Option<Imported>,
    heritage: Option<Heritage>,
}

impl<'a> Inheriting<'a> {
    pub fn new(settings: &'a BridgeSettings, config: DataplaneConfig, beside: Option<BesideHeir>) -> Self {
        Self { settings, config, beside, imported: None, heritage: None }
    }

    /// Once it serves.
    pub fn into_heritage(self) -> Option<Heritage> {
        self.heritage
    }
}

impl Heir for Inheriting<'_> {
    async fn prepare(&mut self) -> Result<(), String> {
        let mut config = self.config.clone();
        let chosen = tokio::task::spawn_blocking(move || Dataplane::choose_backend(&mut config).map(|()| config)).await;
        self.config = chosen.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(())
    }

    async fn import(&mut self, mut parts: StateParts, mut descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let mut part = |name| parts.remove(name, 0).ok_or_else(|| format!("the state has no part {name:?}"));
        let (media, control, roles) = (part(PartName::Worker)?, part(PartName::Control)?, part(PartName::Descriptors)?);
        let state: DataplaneState =
            postcard::from_bytes(&media).map_err(|error| format!("the workers' state: {error}"))?;
        let roles: Descriptors = postcard::from_bytes(&roles).map_err(|error| format!("the descriptors: {error}"))?;
        if descriptors.len() != roles.count() || !roles.history.is_plausible() {
            return Err(format!("{} descriptors came, and {} were announced", descriptors.len(), roles.count()));
        }
        // From the end.
        let of_focus = descriptors.split_off(descriptors.len().saturating_sub(roles.focus as usize));
        let focus = parts.remove(PartName::Focus, 0).map(|state| BesideLoad { state, descriptors: of_focus });
        let keepers = descriptors.split_off(descriptors.len().saturating_sub(roles.keepers as usize));
        let pages = if roles.pages { descriptors.pop() } else { None };
        let channel = if roles.channel { descriptors.pop() } else { None };
        let settings = self.settings;
        let listening =
            Listening::take(settings, Inherited { channel, pages }).await.map_err(|error| error.to_string())?;
        same_port(&descriptors, self.config.port)?;
        let workers = state.workers();
        let takeover =
            Takeover::new(Instant::now(), settings, workers, (&BridgeState::from_bytes(control.to_vec()), keepers))
                .map_err(|error| error.to_string())?;
        match (&mut self.beside, focus) {
            (Some(beside), Some(load)) => beside.import(load).await?,
            (None, None) => {}
            (beside, _) => return Err(other_parts(beside.is_some())),
        }
        let config = self.config.clone();
        let prepared = tokio::task::spawn_blocking(move || Dataplane::start_from(config, state, descriptors)).await;
        let mut prepared = prepared.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let links = prepared.take_links();
        self.imported = Some(Imported { takeover, listening, links, prepared, history: roles.history });
        Ok(())
    }

    async fn serve(&mut self) {
        if let Some(beside) = &mut self.beside {
            beside.serve();
        }
        self.heritage = self.imported.take().map(|imported| {
            let Imported { takeover, listening, links, prepared, history } = imported;
            Heritage { takeover, listening, links, dataplane: prepared.go(), history }
        });
    }
}

/// One of the two processes is a bridge alone, and the other is the focus as well.
fn other_parts(here: bool) -> String {
    let (running, new) =
        if here { ("a bridge alone", "the focus as well") } else { ("the focus as well", "a bridge alone") };
    format!("the running process is {running}, and this one is configured to be {new}; restart for that")
}

/// The media port is in every candidate that was given out.
fn same_port(media: &[OwnedFd], configured: u16) -> Result<(), String> {
    let Some(first) = media.first() else { return Ok(()) };
    let socket = first.try_clone().map(UdpSocket::from).and_then(|socket| socket.local_addr());
    match socket.map_err(|error| error.to_string())?.port() {
        port if configured == 0 || port == configured => Ok(()),
        port => Err(format!(
            "bridge.port is {configured}, and the running process has {port}; it cannot change in an upgrade: restart"
        )),
    }
}
