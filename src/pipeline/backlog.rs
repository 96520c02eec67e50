//! How long what waits for a writer will wait, and whether that is too long to take on more.
//!
//! How much is inside says little: a cache that is ten times slower makes the same queue ten times longer to wait for. So
//! a writer compares its queue with the pace at which it has been emptied. The pace is measured only while something is
//! left behind, for otherwise it is the work that is scarce; and only by batches that were answered, so that a cache that
//! does not answer at all closes no door: what waits for it has its own limit, `redis.retry_ms`.

use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;

/// With more than this to wait the gate is closed.
const MAX_WAIT: Duration = Duration::from_millis(750);
/// A batch takes about so long at most: what is behind it waits for all of it.
const MAX_BATCH: Duration = Duration::from_millis(250);
/// So few are no backlog, whatever their size: large values are few. Nor does so small a batch show a pace: it was cut.
const FEW: usize = 64;

/// One writer's.
pub struct Backlog {
    gate: Arc<Gate>,
    /// Operations done in a second. None: there was never a backlog.
    pace: Option<f64>,
    is_late: bool,
}

impl Backlog {
    pub fn new(gate: Arc<Gate>) -> Self {
        Backlog { gate, pace: None, is_late: false }
    }

    /// So many were done in one batch, and so many wait.
    pub fn landed(&mut self, done: usize, took: Duration, waiting: usize) {
        if waiting > FEW && done >= FEW {
            let now = done as f64 / took.as_secs_f64().max(f64::EPSILON);
            self.pace = Some(self.pace.map_or(now, |before| (before + now) / 2.0));
        }
        self.judge(waiting);
    }

    /// More have come: so many wait now.
    pub fn judge(&mut self, waiting: usize) {
        let is_late = waiting > self.done_within(MAX_WAIT);
        if is_late != self.is_late {
            self.is_late = is_late;
            self.gate.note_late(is_late);
        }
    }

    /// How many a batch may hold.
    pub fn batch(&self) -> usize {
        self.done_within(MAX_BATCH)
    }

    fn done_within(&self, time: Duration) -> usize {
        self.pace.map_or(usize::MAX, |pace| (pace * time.as_secs_f64()) as usize).max(FEW)
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.judge(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    fn backlog() -> Backlog {
        Backlog::new(Gate::new(100_000, 1 << 30, 1 << 20))
    }

    #[test]
    fn the_gate_closes_when_the_queue_takes_too_long_and_opens_when_it_is_shorter() {
        let mut backlog = backlog();
        backlog.landed(100, TENTH, 700);
        assert!(!backlog.gate.is_late(), "700 at 1,000 a second");
        assert_eq!(backlog.batch(), 250);
        backlog.judge(800);
        assert!(backlog.gate.is_late());
        backlog.landed(100, TENTH, 700);
        assert!(!backlog.gate.is_late());
    }

    #[test]
    fn a_burst_and_a_cache_that_does_not_answer_close_nothing() {
        let mut backlog = backlog();
        backlog.judge(100_000);
        assert!(!backlog.gate.is_late(), "no pace is known yet");
        backlog.landed(1, TENTH, 0);
        backlog.judge(100_000);
        assert!(!backlog.gate.is_late(), "one in a tenth of a second, but nothing was left behind");
        backlog.landed(10_000, TENTH, 5_000);
        backlog.landed(0, TENTH * 100, 50_000);
        assert!(!backlog.gate.is_late());
    }

    #[test]
    fn any_late_writer_closes_the_gate_and_a_lost_one_does_not_keep_it_closed() {
        let (mut one, gate) = (backlog(), Gate::new(1, 1, 1));
        let mut other = Backlog::new(gate.clone());
        one.gate = gate.clone();
        for backlog in [&mut one, &mut other] {
            backlog.landed(100, TENTH, 5_000);
        }
        drop(one);
        assert!(gate.is_late());
        drop(other);
        assert!(!gate.is_late());
    }
}
