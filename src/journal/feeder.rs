//! The feeder: asks for the lease, and while it has it, brings the journal's events to the pipeline in their order.
//!
//! All of its state is in one future, and what it knows is in Redis: after a panic, or when the line to the journal's Redis is
//! lost, it begins anew, and what was not trimmed is run again.

mod able;
mod fence;
mod hold;
mod round;
mod stream;
mod take_in;
mod told;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use log::{info, warn};
use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::able::is_able;
use self::hold::hold;
use super::Journal;
use super::lease::{self, ASK_EVERY};
use super::link::{Link, LinkError};
use super::promise::{Loss, losses};
use crate::pipeline::Pipeline;
use crate::pipeline::runtime::{Stage, StageContext, Thread};
use crate::telemetry::metrics::ActorKind;
use crate::telemetry::outage::{Outage, OutageNews, down_seconds};

/// The shortest time between two askings, however much is appended meanwhile.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// How long a holder that ends waits at most for what it handed over.
const LAST: Duration = Duration::from_secs(10);
/// For giving the lease back, before the service must have ended.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// What a feeder is built of.
#[derive(Clone)]
struct Parts {
    journal: Journal,
    pipeline: Pipeline,
    stopping: CancellationToken,
    /// How long a holder that ends waits for what it handed over.
    last: Duration,
    /// Whether something that was sent to the cache under a lease may have had no reply: it may lie in a socket.
    is_unsure: Arc<AtomicBool>,
    stopped: Arc<watch::Sender<bool>>,
}

/// A feeder that runs.
pub struct Feeding {
    stopping: CancellationToken,
    stopped: watch::Receiver<bool>,
    _thread: Thread,
}

impl Feeding {
    /// Has it finish what it handed over, for so long at most, and give the lease back.
    pub async fn stop(&mut self, within: Duration) {
        self.stopping.cancel();
        let stopped = self.stopped.wait_for(|stopped| *stopped);
        if tokio::time::timeout(within, stopped).await.is_err() {
            warn!("journal's feeder did not end in time, its lease will run out");
        }
    }
}

/// Starts the feeder, on a thread of its own. `drain` is how long the service may take to end.
pub fn feed(journal: Journal, pipeline: Pipeline, drain: Duration) -> Feeding {
    let (stopping, (stopped, receiver)) = (CancellationToken::new(), watch::channel(false));
    let thread = Thread::new();
    let registry = pipeline.registry.clone();
    let last = LAST.min(drain.saturating_sub(GIVE_BACK));
    let (is_unsure, stopped) = (Arc::default(), Arc::new(stopped));
    let parts = Parts { journal, pipeline, stopping: stopping.clone(), last, is_unsure, stopped };
    registry.start_on(&thread.handle(), ActorKind::Feeder, move |_, own| Feeder { parts, _own: own });
    Feeding { stopping, stopped: receiver, _thread: thread }
}

/// The actor. It keeps its own address: nobody sends it anything, and it is to go on all the same.
struct Feeder {
    parts: Parts,
    _own: crate::pipeline::runtime::Mailbox<Feeder>,
}

impl Stage for Feeder {
    type Message = ();

    fn started(&mut self, context: &mut StageContext<'_, Self>) {
        context.spawn(run(self.parts.clone()), |_, (), _| {});
    }

    fn handle(&mut self, (): (), _: &mut StageContext<'_, Self>) {}
}

async fn run(parts: Parts) {
    let mut link = parts.journal.shared.connector.link();
    let mut trouble = Trouble::default();
    let mut is_looked_at = !parts.journal.settings().is_asked_for;
    while !parts.stopping.is_cancelled() {
        // Who cannot reach the cache, or has an actor that hangs, leaves the lease to others.
        let asked = match is_able(&parts) {
            true => lease::acquire(&parts.journal, &mut link).await,
            false => lease::look(&parts.journal, &mut link).await.map(|()| None),
        };
        let pause = match asked {
            Ok(lease) => {
                trouble.ended();
                if !is_looked_at {
                    warn_of_loss(&parts.journal, &mut link).await;
                    is_looked_at = true;
                }
                match lease {
                    Some(lease) => {
                        hold(&parts, lease).await;
                        ASK_EVERY / 2
                    }
                    // Who has lost the lease lets others have it first.
                    None => ASK_EVERY,
                }
            }
            Err(error) => {
                trouble.met(&parts.journal, &error);
                parts.journal.note_refusal(&error);
                parts.journal.pause()
            }
        };
        select! {
            () = parts.stopping.cancelled() => {}
            () = sleep(pause) => {}
            () = parts.journal.shared.appended.notified() => sleep(MIN_PAUSE).await,
        }
    }
    parts.stopped.send_replace(true);
}

/// Says what the journal's Redis may lose of what was accepted.
async fn warn_of_loss(journal: &Journal, link: &mut Link) {
    let redis = journal.shared.connector.describe();
    let redis = redis.as_str();
    for loss in losses(link).await {
        match loss {
            Loss::NoAppendOnlyFile => {
                warn!(redis; "journal's Redis has no append-only file: a crash of it loses what was accepted (appendonly yes)")
            }
            Loss::MayEvict { maxmemory_policy } => {
                let maxmemory_policy = maxmemory_policy.as_str();
                warn!(redis, maxmemory_policy; "journal's Redis may evict the journal: set maxmemory-policy noeviction")
            }
        }
    }
}

/// Says that the journal's Redis cannot be worked with, while that lasts, and that it can again.
#[derive(Default)]
struct Trouble {
    outage: Outage,
}

impl Trouble {
    fn met(&mut self, journal: &Journal, error: &LinkError) {
        journal.note_trouble(error.to_string());
        if !journal.settings().is_asked_for {
            return;
        }
        let now = Instant::now();
        match self.outage.goes_on(now, now) {
            Some(OutageNews::Lasts(lasted)) => {
                warn!(cause:% = error, down_seconds = down_seconds(lasted); "journal still cannot be read")
            }
            Some(_) => warn!(cause:% = error; "journal cannot be read"),
            None => {}
        }
    }

    fn ended(&mut self) {
        if let Some(OutageNews::Ended(lasted)) = self.outage.is_over(Instant::now()) {
            info!(down_seconds = down_seconds(lasted); "journal can be read again");
        }
    }
}
