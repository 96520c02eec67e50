//! What is counted with every request and every event. All threads share the counters and histograms, and to pass their memory
//! from core to core costs more than to count. So each thread counts on a page of its own, and whoever reads the metrics first
//! takes over what stands on the pages.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::Histogram;
use prometheus::local::LocalHistogram;

use super::labels::{EVENT_TYPES, ROUTES, STATUSES, status_position};
use super::{Metrics, Registered};
use crate::event::EventType;
use crate::event::outcome::Class;
use crate::telemetry::series::position;

/// Threads beyond share pages.
const PAGES: usize = 32;
/// Where the requests are counted that nearly all are: to `POST /events`, and answered 200.
const USUAL: (usize, usize) = (0, 0);

thread_local! {
    static OWN_PAGE: usize = {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        STARTED.fetch_add(1, Relaxed) % PAGES
    };
}

/// The pages of all threads.
pub(super) struct Pages(Box<[Page]>);

/// On lines of the processor's cache of its own, and their neighbours, which it fetches along.
#[repr(align(128))]
struct Page(Mutex<Counts>);

/// What has been counted and not been taken over yet.
struct Counts {
    /// By type and class, and by type and status.
    events: [[u64; Class::ALL.len()]; EVENT_TYPES.len()],
    entries: [[u64; STATUSES.len()]; EventType::ALL.len()],
    /// The last status of each type, and its place among all: mostly the next is the same.
    last: [(&'static str, usize); EventType::ALL.len()],
    delays: LocalHistogram,
    ages: LocalHistogram,
    requests: LocalHistogram,
}

impl Pages {
    pub(super) fn new(delays: &Histogram, ages: &Histogram, requests: &Histogram) -> Self {
        let page = |_| {
            let [delays, ages, requests] = [delays, ages, requests].map(Histogram::local);
            let (events, entries, last) = Default::default();
            Page(Mutex::new(Counts { events, entries, last, delays, ages, requests }))
        };
        Pages((0..PAGES).map(page).collect())
    }

    fn own(&self) -> MutexGuard<'_, Counts> {
        self.0[OWN_PAGE.with(|page| *page)].lock()
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pages")
    }
}

impl Page {
    /// What a panic left behind is at worst a count too few.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the events of one request. Nothing else may be counted by the same thread while it lives, but what failed.
pub struct Settled<'m>(MutexGuard<'m, Counts>);

impl Metrics {
    /// Events of one request have been answered.
    pub fn settled(&self) -> Settled<'_> {
        Settled(self.inner.pages.own())
    }

    /// A request has been answered. A path that is no route of ours counts as `other`.
    pub fn request_done(&self, route: &str, status: u16, took: Duration) {
        let (route, status) = (position(&ROUTES, route), status_position(status));
        let took = took.as_secs_f64();
        match (route, status) {
            USUAL => self.inner.pages.own().requests.observe(took),
            _ => self.inner.requests[route].at(status).observe(took),
        }
    }
}

impl Settled<'_> {
    /// An event of a known type has ended.
    pub fn event(&mut self, event: EventType, class: Class) {
        self.0.events[event as usize][class as usize] += 1;
    }

    /// An entry of an event has ended with this status (`Outcome::status`).
    pub fn entry(&mut self, event: EventType, status: &'static str) {
        let counts = &mut *self.0;
        let (last, place) = &mut counts.last[event as usize];
        if !std::ptr::eq(*last, status) {
            (*last, *place) = (status, position(&STATUSES, status));
        }
        counts.entries[event as usize][*place] += 1;
    }

    /// An event has ended ok, so long after it was accepted, and after its own time, if it has one.
    pub fn took(&mut self, delay: Duration, age: Option<Duration>) {
        self.0.delays.observe(delay.as_secs_f64());
        if let Some(age) = age {
            self.0.ages.observe(age.as_secs_f64());
        }
    }
}

impl Registered {
    /// To be called before anything is read.
    pub(super) fn take_over(&self) {
        for page in &self.pages.0 {
            let counts = &mut *page.lock();
            for (event, classes) in counts.events.iter_mut().enumerate() {
                for (class, count) in classes.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                    self.events[event][class].inc_by(std::mem::take(count));
                }
            }
            for (event, statuses) in counts.entries.iter_mut().enumerate() {
                for (status, count) in statuses.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                    self.entries[event].at(status).inc_by(std::mem::take(count));
                }
            }
            [&counts.delays, &counts.ages, &counts.requests].into_iter().for_each(LocalHistogram::flush);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::labels::HTTP_STATUSES;

    #[test]
    fn what_threads_count_on_their_pages_is_in_every_reading() {
        let metrics = Metrics::new("").unwrap();
        assert_eq!((ROUTES[USUAL.0], HTTP_STATUSES[USUAL.1]), ("/events", "200"));
        let second = Duration::from_secs(1);
        for round in 1..=2u64 {
            let count = || {
                metrics.request_done("/events", 200, second);
                let mut settled = metrics.settled();
                for status in ["hit", "miss", "hit"] {
                    settled.event(EventType::Get, Class::Ok);
                    settled.entry(EventType::Get, status);
                    settled.took(second, Some(second));
                }
            };
            std::thread::scope(|scope| (0..2 * PAGES).for_each(|_| drop(scope.spawn(count))));
            let threads = 2 * PAGES as u64 * round;
            assert_eq!(metrics.read().events[EventType::Get as usize][Class::Ok as usize], 3 * threads);
            let text = metrics.encode().unwrap();
            for line in [
                format!(r#"cache_sync_events_total{{outcome="ok",type="GET"}} {}"#, 3 * threads),
                format!(r#"cache_sync_entries_total{{outcome="hit",type="GET"}} {}"#, 2 * threads),
                format!(r#"cache_sync_entries_total{{outcome="miss",type="GET"}} {threads}"#),
                format!("cache_sync_event_delay_seconds_count {}", 3 * threads),
                format!("cache_sync_event_age_seconds_sum {}", 3 * threads),
                format!(r#"cache_sync_request_duration_seconds_count{{route="/events",status="200"}} {threads}"#),
            ] {
                assert!(text.lines().any(|shown| shown == line), "{line} is not among\n{text}");
            }
        }
    }
}
