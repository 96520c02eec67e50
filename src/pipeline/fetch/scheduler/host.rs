//! What the scheduler knows of one host, and the queues that hosts wait in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::pipeline::fetch::request::{FetchRequest, Liveness};
use crate::pipeline::work::Seq;
use crate::telemetry::outage::{Outage, OutageNews, down_seconds};

/// How long a host counts as alive after a sign of life.
const ALIVE_FOR: Duration = Duration::from_secs(60);

/// The hosts of one liveness that wait for a place.
#[derive(Default)]
pub(super) struct HostQueue {
    /// Hosts that may have something to start, the next first.
    pub(super) turns: VecDeque<Arc<str>>,
    /// Attempts in progress.
    pub(super) busy: usize,
}

/// What is known of one host, and the fetches that wait for it.
#[derive(Default)]
pub(super) struct Host {
    /// Fetches that wait, the oldest first.
    pub(super) waiting: BTreeMap<Seq, FetchRequest>,
    /// Attempts in progress, probes left out.
    pub(super) busy: usize,
    /// Probes in progress: a probe starts even while every other place hangs.
    pub(super) probes: usize,
    /// How many attempts and probes count in which queue.
    pub(super) counted: [usize; 3],
    /// The queue in which the host has its turn.
    pub(super) queued_in: Option<Liveness>,
    /// While it lasts, fetches for the host fail at once, but for a probe every second.
    pub(super) outage: Outage,
    /// Whether the host was asked something since its last sign of life.
    pub(super) is_asked: bool,
    /// When the last probe was queued.
    pub(super) probed: Option<Instant>,
    /// When something was last wanted of it while it was down.
    pub(super) named: Option<Instant>,
    /// The last sign of life.
    pub(super) answered: Option<Instant>,
    /// Until when nothing is started: the host asked for a pause.
    pub(super) paused_until: Option<Instant>,
    /// The end of the pause that the host asked for, which may be later than the one it is granted.
    pub(super) asked_until: Option<Instant>,
}

/// What is to be told of a host, when nobody is held up by that.
pub struct HostNews {
    host: Arc<str>,
    news: OutageNews,
}

impl HostNews {
    /// None: there is none.
    pub(super) fn of(host: &Arc<str>, news: Option<OutageNews>) -> Option<Self> {
        Some(HostNews { host: host.clone(), news: news? })
    }

    /// Logs it.
    pub(in crate::pipeline::fetch) fn tell(&self) {
        let host = &*self.host;
        match self.news {
            OutageNews::Began => warn!(host; "blob host does not answer, its fetches fail at once"),
            OutageNews::Lasts(lasted) => {
                warn!(host, down_seconds = down_seconds(lasted); "blob host still does not answer")
            }
            OutageNews::Ended(lasted) => info!(host, down_seconds = down_seconds(lasted); "blob host answers again"),
        }
    }
}

impl Host {
    /// Whether it does not answer at the moment.
    pub(super) fn is_down(&self) -> bool {
        self.outage.since().is_some()
    }

    /// Whether the pause that it asked for is longer than any fetch may take, or than this one can wait.
    pub(super) fn rests_too_long_for(&self, request: &FetchRequest) -> bool {
        self.asked_until.is_some_and(|until| until >= request.deadline || self.paused_until < Some(until))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.busy == 0 && self.probes == 0 && self.waiting.is_empty() && self.paused_until.is_none()
    }

    pub(super) fn liveness(&self) -> Liveness {
        match (self.answered, self.is_asked) {
            (Some(_), _) => Liveness::Alive,
            (None, false) => Liveness::New,
            (None, true) => Liveness::Asked,
        }
    }

    /// Forgets a sign of life that is too old to count.
    pub(super) fn forget_age(&mut self, now: Instant) {
        if self.answered.is_some_and(|answered| now >= answered + ALIVE_FOR) {
            self.answered = None;
        }
    }

    /// Joins the queue of its liveness, if it has something to start and is in none.
    pub(super) fn join_queue(&mut self, name: &Arc<str>, queues: &mut [HostQueue; 3]) {
        if !self.waiting.is_empty() && self.queued_in.is_none() && self.paused_until.is_none() {
            let liveness = self.liveness();
            self.queued_in = Some(liveness);
            queues[liveness as usize].turns.push_back(name.clone());
        }
    }

    /// An attempt begins.
    pub(super) fn count(&mut self, is_probe: bool, liveness: Liveness, queues: &mut [HostQueue; 3]) {
        *if is_probe { &mut self.probes } else { &mut self.busy } += 1;
        self.is_asked = true;
        self.counted[liveness as usize] += 1;
        queues[liveness as usize].busy += 1;
    }

    /// An attempt ends. It may count in another queue by now.
    pub(super) fn discount(&mut self, was_probe: bool, liveness: Liveness, queues: &mut [HostQueue; 3]) {
        let count = if was_probe { &mut self.probes } else { &mut self.busy };
        *count = count.saturating_sub(1);
        let others = Liveness::ALL.into_iter().filter(|other| *other != liveness);
        let liveness = std::iter::once(liveness).chain(others).find(|liveness| self.counted[*liveness as usize] > 0);
        if let Some(liveness) = liveness {
            self.counted[liveness as usize] -= 1;
            queues[liveness as usize].busy = queues[liveness as usize].busy.saturating_sub(1);
        }
    }
}
