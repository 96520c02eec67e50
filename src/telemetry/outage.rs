//! An outage as the log tells of it: that it has begun, once a minute that it lasts, and how long it was. A value, without a
//! clock or a timer: whoever finds again that something is down says so here.

use std::time::{Duration, Instant};

/// How often it is told that an outage lasts.
const REPEAT: Duration = Duration::from_secs(60);

/// Whether something is down, since when, and when that was last told.
#[derive(Debug, Default)]
pub struct Outage(Option<Told>);

#[derive(Debug)]
struct Told {
    since: Instant,
    last: Instant,
}

/// What is to be told now. Durations are since the first failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageNews {
    /// It has gone down.
    Began,
    /// It is still down.
    Lasts(Duration),
    /// It is back.
    Ended(Duration),
}

impl Outage {
    /// It is down, and has been `since` then, or since it was first said.
    pub fn goes_on(&mut self, since: Instant, now: Instant) -> Option<OutageNews> {
        let Some(told) = &mut self.0 else {
            self.0 = Some(Told { since, last: now });
            return Some(OutageNews::Began);
        };
        if now < told.last + REPEAT {
            return None;
        }
        told.last = now;
        Some(OutageNews::Lasts(now.saturating_duration_since(told.since)))
    }

    /// It is not down.
    pub fn is_over(&mut self, now: Instant) -> Option<OutageNews> {
        self.0.take().map(|told| OutageNews::Ended(now.saturating_duration_since(told.since)))
    }

    /// Since when it is down; None: it is not.
    pub fn since(&self) -> Option<Instant> {
        self.0.as_ref().map(|told| told.since)
    }
}

/// Seconds, to a tenth, for a log line.
pub fn down_seconds(lasted: Duration) -> f64 {
    (lasted.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_of_when_it_begins_once_a_minute_and_when_it_is_over() {
        let (mut outage, begun) = (Outage::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(outage.is_over(begun), None);
        assert_eq!(outage.goes_on(begun, at(5)), Some(OutageNews::Began));
        for second in 6..65 {
            assert_eq!(outage.goes_on(at(second), at(second)), None, "{second}");
        }
        assert_eq!(outage.goes_on(at(65), at(65)), Some(OutageNews::Lasts(Duration::from_secs(65))));
        assert_eq!(outage.goes_on(at(66), at(66)), None);
        assert_eq!(outage.goes_on(at(500), at(500)), Some(OutageNews::Lasts(Duration::from_secs(500))));
        assert_eq!(outage.since(), Some(begun));
        assert_eq!(outage.is_over(at(501)), Some(OutageNews::Ended(Duration::from_secs(501))));
        assert_eq!((outage.is_over(at(502)), outage.since()), (None, None));
        assert_eq!(outage.goes_on(at(503), at(503)), Some(OutageNews::Began));
    }

    #[test]
    fn seconds_are_told_to_a_tenth() {
        assert_eq!(down_seconds(Duration::from_millis(61_249)), 61.2);
    }
}
