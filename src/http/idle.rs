//! How long a connection is kept on which nothing happens. actix-http sets a timer anew with each answer, and takes it back with
//! each request; here one runs on, and looks whether anything has happened since it looked last.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_rt::time::{Instant, Sleep, sleep_until};

/// Checks within the time for which a connection is kept: it may last longer by one such part.
const LOOKS: u32 = 8;

pub struct Idle {
    between_looks: Duration,
    /// The timer, and who is woken by it.
    timer: Option<(Pin<Box<Sleep>>, Waker)>,
    is_used: bool,
    /// Looks in a row at which nothing had happened.
    quiet: u32,
}

impl Idle {
    pub fn new(kept: Duration) -> Self {
        Idle { between_looks: kept / LOOKS, timer: None, is_used: true, quiet: 0 }
    }

    /// Something happens on the connection.
    pub fn note(&mut self) {
        self.is_used = true;
    }

    /// Ready once nothing has happened for as long as it is kept. `is_busy`: something is under way.
    pub fn poll(&mut self, context: &mut Context<'_>, is_busy: bool) -> Poll<()> {
        if let Some((timer, waker)) = &self.timer
            && waker.will_wake(context.waker())
            && !timer.is_elapsed()
        {
            return Poll::Pending;
        }
        loop {
            let (timer, waker) = self.timer.get_or_insert_with(|| {
                (Box::pin(sleep_until(Instant::now() + self.between_looks)), context.waker().clone())
            });
            waker.clone_from(context.waker());
            ready!(timer.as_mut().poll(context));
            timer.as_mut().reset(Instant::now() + self.between_looks);
            let is_used = mem::take(&mut self.is_used) || is_busy;
            self.quiet = if is_used { 0 } else { self.quiet + 1 };
            if self.quiet >= LOOKS {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::yield_now;

    use super::*;

    const KEPT: Duration = Duration::from_millis(80);

    #[actix_web::test]
    async fn a_connection_is_kept_for_its_time_after_the_last_that_happened() {
        let mut idle = Idle::new(KEPT);
        let begun = Instant::now();
        while begun.elapsed() < KEPT * 2 {
            idle.note();
            assert!(poll_fn(|context| Poll::Ready(idle.poll(context, false))).await.is_pending());
            yield_now().await;
        }
        let last = Instant::now();
        while last.elapsed() < KEPT * 2 {
            assert!(poll_fn(|context| Poll::Ready(idle.poll(context, true))).await.is_pending(), "it is busy");
            yield_now().await;
        }
        let last = Instant::now();
        idle.note();
        poll_fn(|context| idle.poll(context, false)).await;
        assert!(last.elapsed() >= KEPT, "{:?}", last.elapsed());
    }
}
