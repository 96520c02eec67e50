//! One batch of a writer: from what waits in its queue to the outcome of each operation.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

use super::told::Told;
use super::{Activity, Writer};
use crate::cache::{CacheError, Reply};
use crate::event::outcome::Outcome;
use crate::pipeline::runtime::StageContext;
use crate::pipeline::work::reply::settle_all;
use crate::pipeline::write::queue::{Again, BatchLimits};

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
        self.activity = Activity::Idle;
        let begun = Instant::now();
        let most = self.limits.batch_max.min(self.queue.pace().batch());
        let bounds = BatchLimits { commands: most, bytes: self.limits.batch_max_bytes, repeats: most.div_ceil(2) };
        let (commands, pending) = self.queue.next_batch(bounds, self.health.hindrance(), begun);
        if commands.is_empty() {
            return self.wake_when_due(begun, context);
        }
        let left = pending.iter().map(|pending| pending.expires).max().unwrap_or(begun) - begun;
        // What may not begin later must not be sent later either.
        let leases = pending.iter().filter_map(|pending| pending.end.entry()?.validity_left(begun));
        let left = leases.fold(left, Duration::min);
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
        // What a session gives no result for is not known to be done.
        results.resize(sent, Err(CacheError::Unavailable("the cache gave no result".into())));
        let (queue, mut told, mut written) = (&mut self.queue, Told::default(), 0);
        let ended = commands.into_iter().zip(pending).zip(results);
        let done = ended.filter_map(|((command, pending), result)| {
            if queue.is_done(&mut again, &pending, &result) {
                let ended = told.add(command, pending, result);
                if let Some((_, Outcome::Stored { bytes, .. })) = &ended {
                    written += *bytes as u64;
                }
                return ended;
            }
            again.add(command, pending);
            None
        });
        settle_all(done, now);
        told.tell(now);
        self.metrics.written(written);
        let done = sent - again.count();
        self.note_refusal(again.refusal().cloned(), done > 0, now);
        let failure = again.failure.clone();
        if failure.is_none() {
            // What the cache refuses for now tells nothing of its pace.
            let counted = if again.refusal().is_none() { done } else { 0 };
            let waiting = self.queue.ready();
            self.queue.pace().landed(counted, now - begun, waiting);
            self.queue.landed(again, now);
            self.is_well();
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

    pub(super) fn advance(&mut self, context: &mut StageContext<'_, Self>) {
        if self.queue.ready() >= self.limits.batch_max / FEW {
            self.pump(context);
        } else {
            // While this thread tells of what is done, more comes in: a larger batch costs both sides less.
            self.pump_after(yield_now(), context);
        }
    }
}
