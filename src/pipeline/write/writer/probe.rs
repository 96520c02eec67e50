//! How a writer finds out whether its cache answers, and whom it tells.

use std::borrow::Cow;
use std::time::Instant;

use log::{info, warn};

use super::{Activity, Membership, Writer};
use crate::cache::CacheError;
use crate::pipeline::runtime::StageContext;

impl Writer {
    /// A batch or a ping was answered.
    pub(super) fn is_well(&mut self) {
        self.health.done();
        self.show_well();
    }

    pub(super) fn show_well(&mut self) {
        self.queue.pace().set_silent(false);
        self.readiness.set_writer(self.index, None);
        if self.membership == Membership::Joining {
            self.membership = Membership::Open;
            self.active.open(self.index);
        }
    }

    pub(super) fn note_failure(&mut self, cause: Cow<'static, str>, begun: Instant, some_done: bool, is_ping: bool) {
        if !self.health.is_failing() {
            warn!(writer = self.index, cause:% = cause; "write to the cache failed, retrying");
        }
        self.health.failed(cause, begun, some_done, is_ping);
        self.queue.pace().set_silent(true);
        // Before it is in the active set it has nobody's work, and its failure does not change readiness.
        if !some_done && self.membership != Membership::Joining {
            self.readiness.set_writer(self.index, self.health.hindrance());
        }
    }

    /// Said once when the cache begins to refuse commands, and once when it has ended.
    pub(super) fn note_refusal(&mut self, cause: Option<Cow<'static, str>>, some_done: bool, now: Instant) {
        match (cause, &mut self.refusal) {
            (Some(cause), Some((last, _))) => *last = cause,
            (Some(cause), none) => {
                warn!(writer = self.index, cause:% = cause; "cache refuses commands, retrying");
                *none = Some((cause, now));
            }
            (None, Some((_, since))) if some_done && self.queue.next_due().is_none() => {
                let ms = u64::try_from((now - *since).as_millis()).unwrap_or(u64::MAX);
                info!(writer = self.index, ms; "cache accepts commands again");
                self.refusal = None;
            }
            _ => {}
        }
    }

    pub(super) fn back_off(&mut self, context: &mut StageContext<'_, Self>) {
        self.activity = Activity::BackingOff;
        self.answer_expired(Instant::now());
        context.after(self.health.pause(), |writer, context| {
            if !matches!(writer.activity, Activity::BackingOff) {
                return;
            }
            writer.activity = Activity::Idle;
            if writer.health.wants_ping() { writer.ping(context) } else { writer.pump(context) }
        });
    }

    /// Makes the connection on which the next batch is sent. That it answers a ping tells nothing of what becomes of the batch.
    pub(super) fn connect(&mut self, context: &mut StageContext<'_, Self>) {
        self.ask(context, |writer, (result, begun), context| match result {
            Ok(()) | Err(CacheError::RefusedForNow(_) | CacheError::Down(_)) => writer.write(context),
            Err(error) => {
                writer.metrics.redis_batch_failed();
                writer.note_failure(error.cause(), begun, false, false);
                writer.back_off(context);
            }
        });
    }

    pub(super) fn ping(&mut self, context: &mut StageContext<'_, Self>) {
        self.ask(context, |writer, (result, begun), context| {
            match result {
                Ok(()) => {
                    writer.health.pinged();
                    writer.show_well();
                    writer.pump(context);
                }
                // A part of the cache: others go on.
                Err(CacheError::RefusedForNow(cause) | CacheError::Down(cause)) => {
                    writer.health.pinged();
                    writer.readiness.set_writer(writer.index, Some((&cause, begun)));
                    writer.pump(context);
                }
                Err(error) => {
                    writer.note_failure(error.cause(), begun, false, true);
                    writer.back_off(context);
                }
            }
        });
    }

    /// Asks for a sign of life, connecting if need be; `then` learns what came of it and when it began.
    fn ask(
        &mut self,
        context: &mut StageContext<'_, Self>,
        then: impl FnOnce(&mut Self, (Result<(), CacheError>, Instant), &mut StageContext<'_, Self>) + 'static,
    ) {
        self.activity = Activity::Pinging;
        let (session, within) = (self.session.clone(), self.limits.retry);
        let work = async move {
            let begun = Instant::now();
            let mut session = session.lock().await;
            let result = session.ping(within).await;
            (result, begun, session.reconnects())
        };
        context.spawn(work, |writer, (result, begun, reconnects), context| {
            writer.activity = Activity::Idle;
            writer.last_used = Instant::now();
            writer.note_reconnects(reconnects);
            then(writer, (result, begun), context);
        });
    }

    pub(super) fn note_reconnects(&mut self, reconnects: u64) {
        for _ in self.reconnects..reconnects {
            self.metrics.redis_reconnected();
        }
        self.reconnects = self.reconnects.max(reconnects);
    }
}
