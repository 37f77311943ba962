//! A running bridge that can be handed over: its workers, its control plane, its listening sockets.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ringbridge_dataplane::Dataplane;
use ringbridge_dataplane::handover::Suspended;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::descriptors::Descriptors;
use super::history::{Loss, UpgradeCounters};
use super::listening::{Inherited, Listening};
use crate::bridge::handover::{Affected, Handover, Outlook};
use crate::channel::keeper::MAX_KEEPERS;
use crate::notify::Notifier;
use crate::upgrade::{Beside, BesideLoad, Calls, Load, PartName, StateParts};

/// How long handshakes under way are waited for.
const HANDSHAKES: Duration = Duration::from_secs(2);
/// Names that are given of many.
const NAMES: usize = 5;

/// The media workers, at work or at rest.
#[derive(Debug)]
enum Media {
    Running(Dataplane),
    Suspended(Suspended),
    /// In between, or handed over.
    Gone,
}

/// A bridge that can be handed over.
#[derive(Debug)]
pub(in crate::bridge) struct Running {
    media: Media,
    handover: Handover,
    /// The focus in the same process, if there is one.
    beside: Option<Beside>,
    /// Duplicates.
    listening: Inherited,
    held: watch::Sender<bool>,
    notifier: Option<Notifier>,
    counters: Arc<UpgradeCounters>,
    /// What stays in this process after it was handed over: the end of data channels.
    keeping: Option<JoinHandle<()>>,
    /// Between the freeze and what follows it: nobody may stop in the middle.
    frozen: Arc<AtomicBool>,
}

impl Running {
    pub fn new(
        dataplane: Dataplane,
        handover: Handover,
        listening: &Listening,
        counters: Arc<UpgradeCounters>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            media: Media::Running(dataplane),
            handover,
            beside: None,
            listening: listening.duplicate()?,
            held: listening.held.clone(),
            notifier: Notifier::from_environment(),
            counters,
            keeping: None,
            frozen: Arc::default(),
        })
    }

    /// The thread that this process has to stay for, if it was handed over and there is one.
    pub fn take_keeping(&mut self) -> Option<JoinHandle<()>> {
        self.keeping.take()
    }

    /// With something that goes along in an upgrade.
    pub fn beside(self, beside: Option<Beside>) -> Self {
        Self { beside, ..self }
    }

    /// What would be carried now, and what not, of all there is.
    pub fn outlook(&self) -> impl Future<Output = Result<Outlook, String>> + Send + use<> {
        let (handover, beside) = (self.handover.clone(), self.beside.clone());
        async move {
            let mut outlook = handover.outlook().await.map_err(|error| error.to_string())?;
            if let Some(beside) = beside {
                outlook.not_resumed.extend(beside.quiesce(false).await?);
            }
            Ok(outlook)
        }
    }

    /// True while it must not be left alone.
    pub fn frozen(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.frozen)
    }

    /// What became of upgrades.
    pub fn counters(&self) -> &UpgradeCounters {
        &self.counters
    }

    /// The workers, if they were not handed over.
    pub fn into_dataplane(self) -> Option<Dataplane> {
        match self.media {
            Media::Running(dataplane) => Some(dataplane),
            Media::Suspended(suspended) => Some(suspended.resume()),
            Media::Gone => None,
        }
    }

    async fn suspend(&mut self) -> Result<(), String> {
        let Media::Running(dataplane) = std::mem::replace(&mut self.media, Media::Gone) else {
            return Err("the media workers are not running".to_owned());
        };
        // Waiting for threads blocks for a moment.
        match tokio::task::spawn_blocking(move || dataplane.suspend()).await.map_err(|error| error.to_string())? {
            Ok(suspended) => {
                self.media = Media::Suspended(suspended);
                Ok(())
            }
            Err((dataplane, error)) => {
                self.media = Media::Running(*dataplane);
                Err(error.to_string())
            }
        }
    }

    async fn export(&mut self) -> Result<(Zeroizing<Vec<u8>>, Vec<OwnedFd>), String> {
        let Media::Suspended(mut suspended) = std::mem::replace(&mut self.media, Media::Gone) else {
            return Err("the media workers still run".to_owned());
        };
        let exported = tokio::task::spawn_blocking(move || {
            let exported = suspended.export().map_err(|error| error.to_string());
            (suspended, exported)
        });
        let (suspended, exported) = exported.await.map_err(|error| error.to_string())?;
        self.media = Media::Suspended(suspended);
        let (state, sockets) = exported?;
        let bytes = postcard::to_allocvec(&state).map_err(|error| error.to_string())?;
        Ok((Zeroizing::new(bytes), sockets))
    }
}

/// The first of these.
pub(super) fn names(affected: &[Affected]) -> String {
    let named: Vec<_> = affected.iter().take(NAMES).map(|one| format!("{} in {}", one.name, one.meeting)).collect();
    let more = if affected.len() > NAMES { ", ..." } else { "" };
    named.join(", ") + more
}

/// What an operator is shown of an upgrade that would be seen by everybody, or that is one too many.
pub(super) fn objection(outlook: &Outlook) -> Option<String> {
    if !outlook.not_resumed.is_empty() {
        return Some(format!(
            "the XMPP server would not keep the session of {}: everybody would see it leave; enable stream management there \
             (Prosody: the module smacks), and look whether the connection is up",
            outlook.not_resumed.join(", ")
        ));
    }
    (outlook.keepers >= MAX_KEEPERS && !outlook.data_channels.is_empty()).then(|| {
        format!(
            "{} former processes stay already as the end of data channels, which is the most, and this one would have to, for {} ({}); \
             wait until participants have left, or drain the bridge and restart it",
            outlook.keepers,
            outlook.data_channels.len(),
            names(&outlook.data_channels)
        )
    })
}

impl Calls for Running {
    async fn quiesce(&mut self) -> Result<(), String> {
        // Together they have the time of one.
        let focus = async { if let Some(beside) = &self.beside { beside.quiesce(true).await } else { Ok(Vec::new()) } };
        let (outlook, not_resumed) = tokio::join!(self.handover.quiesce(HANDSHAKES), focus);
        let mut outlook = outlook.map_err(|error| error.to_string())?;
        outlook.not_resumed.extend(not_resumed?);
        objection(&outlook).map_or(Ok(()), Err)
    }

    async fn freeze(&mut self) -> Result<Load, String> {
        self.frozen.store(true, Ordering::Release);
        // First, while media still flows.
        let focus = match &self.beside {
            Some(beside) => Some(beside.freeze().await?),
            None => None,
        };
        self.held.send_replace(true);
        self.handover.freeze().await.map_err(|error| error.to_string())?;
        self.suspend().await?;
        let (media, mut descriptors) = self.export().await?;
        let control = self.handover.export().await.map_err(|error| error.to_string())?;
        let lost = self.handover.outlook().await.map_err(|error| error.to_string())?;
        // A data channel may have been opened meanwhile.
        if let Some(why) = objection(&lost) {
            return Err(why);
        }
        let keepers = self.handover.keepers().await.map_err(|error| error.to_string())?;
        // Of this upgrade, if it succeeds: nobody else will count them.
        let counters = UpgradeCounters::from(self.counters.history());
        counters.lose(Loss::Handshake, lost.handshakes.len());
        let roles = Descriptors {
            media: u32::try_from(descriptors.len()).map_err(|error| error.to_string())?,
            channel: self.listening.channel.is_some(),
            pages: self.listening.pages.is_some(),
            keepers: u32::try_from(keepers.len()).map_err(|error| error.to_string())?,
            focus: focus.as_ref().map_or(0, |load| u32::try_from(load.descriptors.len()).unwrap_or(u32::MAX)),
            history: counters.history(),
        };
        for listener in [&self.listening.channel, &self.listening.pages].into_iter().flatten() {
            descriptors.push(listener.try_clone().map_err(|error| error.to_string())?);
        }
        descriptors.extend(keepers);
        let mut parts = StateParts::default();
        parts.insert(PartName::Worker, 0, media);
        parts.insert(PartName::Control, 0, Zeroizing::new(control.as_bytes().to_vec()));
        let roles = postcard::to_allocvec(&roles).map_err(|error| error.to_string())?;
        parts.insert(PartName::Descriptors, 0, Zeroizing::new(roles));
        if let Some(BesideLoad { state, descriptors: further }) = focus {
            parts.insert(PartName::Focus, 0, state);
            descriptors.extend(further);
        }
        Ok(Load { parts, descriptors })
    }

    async fn resume(&mut self) {
        self.media = match std::mem::replace(&mut self.media, Media::Gone) {
            Media::Suspended(suspended) => Media::Running(suspended.resume()),
            other => other,
        };
        self.held.send_replace(false);
        if let Err(error) = self.handover.resume().await {
            tracing::error!(%error, "the bridge does not go on after an upgrade that was given up");
        }
        if let Some(beside) = &self.beside
            && let Err(error) = beside.resume().await
        {
            tracing::error!(%error, "the focus does not go on after an upgrade that was given up");
        }
        self.frozen.store(false, Ordering::Release);
    }

    async fn retire(&mut self, successor: u32) {
        match self.handover.commit().await {
            Ok(Some(kept)) => {
                // At once: the new process serves already.
                let thread = std::thread::Builder::new().name("keeper".to_owned());
                self.keeping = thread
                    .spawn(move || kept.serve())
                    .inspect_err(|error| tracing::error!(%error, "no thread for data channels: they are lost"))
                    .ok();
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the bridge had ended already"),
        }
        if let Some(beside) = &self.beside
            && let Err(error) = beside.commit().await
        {
            tracing::debug!(%error, "the focus had ended already");
        }
        let media = std::mem::replace(&mut self.media, Media::Gone);
        let notifier = self.notifier.take();
        let told = tokio::task::spawn_blocking(move || {
            if let Some(notifier) = notifier {
                notifier.hand_over(successor);
            }
            // Joins threads.
            drop(media);
        });
        let _ = told.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_keeper_too_many_is_refused_and_only_that() {
        let one = Affected { meeting: "m".to_owned(), name: "aaaa".to_owned() };
        let of = |keepers, data_channels| objection(&Outlook { keepers, data_channels, ..Outlook::default() });
        assert_eq!(of(MAX_KEEPERS - 1, vec![one.clone()]), None);
        assert_eq!(of(MAX_KEEPERS, Vec::new()), None, "this process does not have to stay");
        let why = of(MAX_KEEPERS, vec![one]).expect("refused");
        assert!(why.contains("32 former processes") && why.contains("aaaa in m") && why.contains("drain"), "{why}");
        let unresumed = Outlook { not_resumed: vec!["shard".to_owned()], ..Outlook::default() };
        assert!(objection(&unresumed).is_some_and(|why| why.contains("shard") && why.contains("smacks")));
    }
}
