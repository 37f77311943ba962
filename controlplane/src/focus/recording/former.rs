//! Tasks that Jibris began for the process before. They go on; who asked for them can end them.

use std::time::{Duration, Instant};

use jid::BareJid;

use super::element::{Order, Report, Secret, Status, Task};
use super::session::{Session, Stage};
use super::{MAX_CALLS, Recording, Tasks};
use crate::focus::kept::{KeptKind, KeptTask};

/// A Jibri that is not in its brewery yet may take so long to come, beyond the time that one has that is idle.
const UNSEEN_GRACE: Duration = Duration::from_secs(10);

impl Recording {
    /// For the next process: what Jibris work on. What was only found is found again.
    pub fn kept(&self, room: &BareJid) -> Vec<KeptTask> {
        let kept = |session: &Session| {
            let kind = match &session.order.task {
                Task::File => KeptKind::File,
                Task::Stream { .. } => KeptKind::Stream,
                Task::Sip { address } => KeptKind::Sip(address.clone()),
            };
            Some(KeptTask {
                id: session.id.clone(),
                jibri: session.jibri()?.to_owned(),
                kind,
                initiator: session.initiator.clone(),
                begun: matches!(session.stage, Stage::Running { .. }),
            })
        };
        self.rooms.get(room).into_iter().flat_map(Tasks::all).filter_map(kept).collect()
    }

    /// Goes on with what the process before kept. A Jibri that turns out to be idle, or not to be there, ends its task; another
    /// one does not begin it again.
    pub fn restore(&mut self, now: Instant, room: &BareJid, kept: &[KeptTask]) {
        for task in kept.iter().take(MAX_CALLS) {
            let order = Order {
                task: match &task.kind {
                    KeptKind::File => Task::File,
                    KeptKind::Stream => Task::Stream { key: Secret::none(), broadcast: None },
                    KeptKind::Sip(address) => Task::Sip { address: address.clone() },
                },
                display_name: None,
                app_data: None,
            };
            let Some(instances) = self.instances(&order.task) else { continue };
            let idle = match instances.is_idle(&task.jibri) {
                Some(false) => None,
                Some(true) => Some(now),
                None => Some(now + UNSEEN_GRACE),
            };
            let jibri = task.jibri.clone();
            let stage = match task.begun {
                true => Stage::Running { jibri, idle },
                false => Stage::Starting { jibri, until: now + self.settings.pending_timeout },
            };
            tracing::info!(%room, session = task.id, jibri = task.jibri, "a recording or call of the process before goes on");
            self.totals.found += 1;
            self.rooms.entry(room.clone()).or_default().put(Session {
                id: task.id.clone(),
                order,
                initiator: task.initiator.clone(),
                waiting: None,
                stage,
                retries: u32::MAX,
                attempt: 0,
            });
            if task.begun {
                let on = Report { status: Status::On, failure: None, retry: false };
                self.announce(room, &task.id, on, task.initiator.as_deref());
            }
        }
    }
}
