//! One batch of a writer: from what waits in its queue to the outcome of each operation.

use std::future::ready;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

use super::told::Told;
use super::{Activity, Writer};
use crate::cache::{CacheError, Command, Reply};
use crate::event::outcome::Outcome;
use crate::pipeline::runtime::StageContext;
use crate::pipeline::work::key_order::KeyTicket;
use crate::pipeline::work::reply::settle_all;
use crate::pipeline::write::queue::{Again, BatchLimits, Pending};
use crate::telemetry::Metrics;

/// With less than this part of a batch waiting, the next may wait for more.
const FEW: usize = 8;

impl Writer {
    /// Starts the next batch when `first` is over, with all that waits by then.
    pub(super) fn pump_after(
        &mut self,
        first: impl Future<Output = ()> + 'static,
        context: &mut StageContext<'_, Self>,
    ) {
        if matches!(self.activity, Activity::Idle) && !self.queue.is_empty() {
            self.activity = Activity::Gathering;
            context.spawn(first, |writer, (), context| writer.pump(context));
        }
    }

    /// Starts the next batch if none is in flight.
    pub(super) fn pump(&mut self, context: &mut StageContext<'_, Self>) {
        if !matches!(self.activity, Activity::Idle | Activity::Gathering) {
            return;
        }
        // What expires while it connects is not to be sent.
        if self.queue.is_empty() || self.session.try_lock().is_none_or(|mut session| session.is_connected()) {
            self.write(context);
        } else {
            self.connect(context);
        }
    }

    /// Sends what waits, as one batch, and connects for it if need be.
    pub(super) fn write(&mut self, context: &mut StageContext<'_, Self>) {
        self.activity = Activity::Idle;
        let begun = Instant::now();
        let most = self.limits.batch_max.min(self.queue.pace().batch());
        let bounds = BatchLimits { commands: most, bytes: self.limits.batch_max_bytes, repeats: most.div_ceil(2) };
        let (commands, pending) = self.queue.next_batch(bounds, self.health.hindrance(), begun);
        if commands.is_empty() {
            return self.wake_when_due(begun, context);
        }
        // What may not begin later must not be sent later either.
        let (mut last, mut lease) = (begun, Duration::MAX);
        for pending in &pending {
            last = last.max(pending.expires);
            lease = lease.min(pending.end.entry().and_then(|slot| slot.validity_left(begun)).unwrap_or(lease));
        }
        let left = lease.min(last - begun);
        let commands = Rc::new(commands);
        let (session, batch, metrics) = (self.session.clone(), commands.clone(), self.metrics.clone());
        self.activity = Activity::Writing(commands, pending);
        let work = async move {
            let begun = Instant::now();
            let mut session = session.lock().await;
            let results = session.apply(&batch, left).await;
            metrics.redis_batch(batch.len(), begun.elapsed());
            (results, begun, session.reconnects())
        };
        context.spawn(work, |writer, (results, begun, reconnects), context| {
            writer.note_reconnects(reconnects);
            writer.batch_ended(results, begun, context);
        });
    }

    /// Nothing can be sent before what was refused is due.
    pub(super) fn wake_when_due(&mut self, now: Instant, context: &mut StageContext<'_, Self>) {
        let Some(due) = self.queue.next_due() else { return };
        if self.wake_at.is_some_and(|at| at <= due) {
            return;
        }
        self.wake_at = Some(due);
        context.after(due.saturating_duration_since(now), |writer, context| {
            writer.wake_at = None;
            writer.pump(context);
        });
    }

    pub(super) fn batch_ended(
        &mut self,
        mut results: Vec<Result<Reply, CacheError>>,
        begun: Instant,
        context: &mut StageContext<'_, Self>,
    ) {
        let Activity::Writing(commands, pending) = std::mem::replace(&mut self.activity, Activity::Idle) else {
            return;
        };
        let commands = Rc::unwrap_or_clone(commands);
        let now = Instant::now();
        self.last_used = now;
        let (mut again, sent) = (Again::default(), commands.len());
        if self.has_enough() && self.refusal.is_none() && results.len() == sent && results.iter().all(Result::is_ok) {
            self.landed_well(sent, begun, again, now);
            // The cache is to go on with the next batch while this thread tells of this one.
            self.pump(context);
            return context.spawn(ready(()), move |writer, (), _| {
                KeyTicket::fetch(pending.iter().skip(1).map(Pending::ticket));
                tell(commands.into_iter().zip(pending).zip(results), now, &writer.metrics);
            });
        }
        // What a session gives no result for is not known to be done.
        results.resize(sent, Err(CacheError::Unavailable("the cache gave no result".into())));
        KeyTicket::fetch(pending.iter().skip(1).map(Pending::ticket));
        let queue = &mut self.queue;
        let ended = commands.into_iter().zip(pending).zip(results);
        let done = ended.filter_map(|((command, pending), result)| {
            if queue.is_done(&mut again, &pending, &result) {
                return Some(((command, pending), result));
            }
            again.add(command, pending);
            None
        });
        tell(done, now, &self.metrics);
        let done = sent - again.count();
        self.note_refusal(again.refusal().cloned(), done > 0, now);
        let failure = again.failure.clone();
        if failure.is_none() {
            // What the cache refuses for now tells nothing of its pace.
            let counted = if again.refusal().is_none() { done } else { 0 };
            self.landed_well(counted, begun, again, now);
            return self.advance(context);
        }
        self.metrics.redis_batch_failed();
        self.note_failure(failure.unwrap_or_default(), begun, done > 0, false);
        if self.health.is_suspect() {
            again.give_up(self.health.hindrance(), now);
        }
        self.queue.landed(again, now);
        self.back_off(context);
    }

    /// A batch was answered. Of it so many count for the pace; the others are tried again.
    fn landed_well(&mut self, counted: usize, begun: Instant, again: Again, now: Instant) {
        let waiting = self.queue.ready();
        self.queue.pace().landed(counted, now - begun, waiting);
        self.queue.landed(again, now);
        self.is_well();
    }

    /// Whether the next batch is not to wait for more.
    fn has_enough(&self) -> bool {
        self.queue.ready() >= self.limits.batch_max / FEW
    }

    pub(super) fn advance(&mut self, context: &mut StageContext<'_, Self>) {
        if self.has_enough() {
            self.pump(context);
        } else {
            // While this thread tells of what is done, more comes in: a larger batch costs both sides less.
            self.pump_after(yield_now(), context);
        }
    }
}

/// Answers those of a batch that are done.
fn tell(done: impl Iterator<Item = ((Command, Pending), Result<Reply, CacheError>)>, now: Instant, metrics: &Metrics) {
    let (mut told, mut written) = (Told::default(), 0);
    let ended = done.filter_map(|((command, pending), result)| {
        let ended = told.add(command, pending, result);
        if let Some((_, Outcome::Stored { bytes, .. })) = &ended {
            written += *bytes as u64;
        }
        ended
    });
    settle_all(ended, now);
    told.tell(now);
    metrics.written(written);
}
