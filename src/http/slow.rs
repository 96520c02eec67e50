//! Slow operations in the log: what took longer than `log_slow_ms`, and where its time went. Promises that they do not flood
//! it: [`LINES`] in a second, and then one that says how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;

use super::request::{Marks, say};
use crate::event::outcome::Spent;
use crate::event::wire::Answered;

/// Slow operations that are told of in one [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

pub struct SlowLog {
    /// Microseconds.
    limit: u128,
    window: Mutex<Window>,
}

struct Window {
    begun: Instant,
    told: u32,
    left_out: u64,
}

/// Where the time went, in milliseconds; the last three are the first.
pub struct Parts {
    pub ms: u32,
    pub waiting_ms: u32,
    pub fetching_ms: u32,
    pub redis_ms: u32,
}

impl SlowLog {
    pub fn new(limit: Duration) -> Self {
        let window = Window { begun: Instant::now(), told: 0, left_out: 0 };
        SlowLog { limit: limit.as_micros(), window: Mutex::new(window) }
    }

    /// Whether any of its operations was slow.
    pub fn concerns(&self, answered: &Answered) -> bool {
        answered.spent.iter().any(|spent| self.is_slow(*spent))
    }

    /// None: it was not slow.
    pub fn parts(&self, spent: Spent) -> Option<Parts> {
        let (ms, fetching_ms, redis_ms) = (spent.total / 1000, spent.fetching / 1000, spent.cache / 1000);
        let waiting_ms = ms.saturating_sub(fetching_ms).saturating_sub(redis_ms);
        self.is_slow(spent).then_some(Parts { ms, waiting_ms, fetching_ms, redis_ms })
    }

    /// Tells of every operation of the event that ended ok and was slow, as far as there is room.
    pub fn tell(&self, answered: &Answered, marks: &Marks) {
        let (event, event_id) = (answered.event.as_str(), answered.id.as_deref().unwrap_or_default());
        let ended = answered.targets.iter().zip(&answered.outcomes).zip(&answered.spent);
        for ((key, _), spent) in ended.filter(|((_, outcome), _)| outcome.problem().is_none()) {
            let Some(Parts { ms, waiting_ms, fetching_ms, redis_ms }) = self.parts(*spent) else { continue };
            if self.has_room(Instant::now()) {
                say!(warn of marks; event, event_id, key:% = key, ms, waiting_ms, fetching_ms, redis_ms; "slow operation");
            }
        }
    }

    /// To be called now and then: says how many were left out since it was last said.
    pub fn tell_left_out(&self, now: Instant) {
        let left_out = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            if window.left_out == 0 || now < window.begun + WINDOW {
                return;
            }
            window.begin(now)
        };
        warn!(count = left_out; "slow operations left out");
    }

    /// The same at the end of all.
    pub fn end(&self) {
        self.tell_left_out(Instant::now() + WINDOW);
    }

    fn is_slow(&self, spent: Spent) -> bool {
        u128::from(spent.total) > self.limit
    }

    fn has_room(&self, now: Instant) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.left_out == 0 && now >= window.begun + WINDOW {
            window.begin(now);
        }
        let has_room = window.told < LINES;
        window.told += u32::from(has_room);
        window.left_out += u64::from(!has_room);
        has_room
    }
}

impl Window {
    /// A new one; how many the last left out.
    fn begin(&mut self, now: Instant) -> u64 {
        std::mem::replace(self, Window { begun: now, told: 0, left_out: 0 }).left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole_however_they_are_rounded() {
        let slow = SlowLog::new(Duration::from_millis(10));
        for (total, fetching, cache) in [(10_001, 0, 0), (20_999, 10_999, 9_999), (3_600_000_000, 999, 1_999)] {
            let parts = slow.parts(Spent { total, fetching, cache }).unwrap();
            assert_eq!(parts.ms, parts.waiting_ms + parts.fetching_ms + parts.redis_ms);
            assert_eq!((parts.ms, parts.fetching_ms), (total / 1000, fetching / 1000));
        }
        assert!(slow.parts(Spent { total: 10_000, ..Spent::default() }).is_none());
    }

    #[test]
    fn so_many_have_room_in_a_second_and_what_was_left_out_is_counted_to_its_end() {
        let slow = SlowLog::new(Duration::ZERO);
        let begun = Instant::now() + WINDOW;
        assert_eq!((0..500).filter(|_| slow.has_room(begun)).count(), LINES as usize);
        let left_out = || slow.window.lock().unwrap().left_out;
        slow.tell_left_out(begun + WINDOW / 2);
        assert_eq!(left_out(), 500 - u64::from(LINES));
        assert!(!slow.has_room(begun + WINDOW), "until it is said how many");
        slow.tell_left_out(begun + WINDOW);
        assert_eq!(left_out(), 0);
        assert!(slow.has_room(begun + WINDOW));
    }
}
