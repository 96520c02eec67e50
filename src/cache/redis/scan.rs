//! Deleting keys and one step of a scan, as one pipeline; and how far a step goes.
//!
//! Redis does nothing else while it takes a step, so a step is short while this service has others to serve, and longer
//! while it has not, or where asking for it takes longer than carrying it out; and it is cut where the last took longer
//! than it should, for what a look costs depends on the keys. Besides, a scan rests between steps while
//! others are served: it would keep a whole core of Redis's machine busy.

use std::mem;
use std::time::{Duration, Instant};
use std::vec;

use bytes::Bytes;

use super::unexpected;
use super::versioned::{self, VersionKeys};
use super::wait::{self, Wait, Waited};
use crate::cache::version_key::owner;
use crate::cache::{CacheError, Cursor, DeleteGroup, LONG_CALL, Progress, Scan, ScanStep, Unlinked};
use crate::event::OwnKeys;
use crate::redis::{Code, Encoder, Frame, Redirect};

/// A key in the answer to a SCAN, at most: what others wrote may have keys of any size.
pub(super) const MAX_KEY_BYTES: usize = 16 * 1024 * 1024;
/// What a SCAN looks at while others are served: a fifth of a millisecond.
const BUSY_COUNT: usize = 250;
/// The same while none are: about a millisecond.
const QUIET_COUNT: usize = 2000;
/// However many keys are to be deleted: the scan must get on.
const LEAST_COUNT: usize = 100;
/// However long steps take.
const MIN_COUNT: usize = 10;
/// How long none must have been served before steps get longer.
const QUIET_AFTER: Duration = Duration::from_millis(20);
/// So many short steps follow each other, about a millisecond, and then a rest.
const STEPS_IN_A_ROW: u32 = 4;
pub(super) const REST: Duration = Duration::from_millis(1);
/// How long a scan rests between steps; after that it hurries, because it has a deadline.
const PATIENCE: Duration = Duration::from_secs(10);
/// Keys at which Redis could look for the cost of moving and deleting one.
const LOOKS_A_KEY: usize = 3;

/// Sets the length of steps.
pub(super) struct ScanPace {
    count: usize,
    /// What a step looks at while others are served.
    busy: usize,
    /// What it may look at, by how long steps took.
    limit: usize,
    round_trip: Duration,
    begun: Option<Instant>,
    in_a_row: u32,
    batches: u64,
    /// When others were last seen to be served.
    served: Option<Instant>,
}

impl ScanPace {
    pub(super) fn new() -> Self {
        ScanPace {
            count: BUSY_COUNT,
            busy: BUSY_COUNT,
            limit: QUIET_COUNT,
            round_trip: Duration::ZERO,
            begun: None,
            in_a_row: 0,
            batches: 0,
            served: None,
        }
    }

    /// A scan begins, on a connection with such a round trip. For each microsecond of it a step looks at one key, which
    /// costs Redis about half of one: so a scan over a long way is not mostly waiting.
    pub(super) fn begin(&mut self, round_trip: Duration, now: Instant) {
        self.busy = usize::try_from(round_trip.as_micros()).unwrap_or(QUIET_COUNT).clamp(BUSY_COUNT, QUIET_COUNT);
        self.count = self.busy;
        (self.limit, self.round_trip) = (QUIET_COUNT, round_trip);
        self.begun = Some(now);
    }

    /// Notes how long the answer to a step took. Returns about how long the cache was busy with it.
    pub(super) fn took(&mut self, elapsed: Duration) -> Duration {
        let took = elapsed.saturating_sub(self.round_trip);
        if took > LONG_CALL {
            self.limit = (self.count / 2).max(MIN_COUNT);
        } else if took < LONG_CALL / 2 {
            self.limit = (self.limit * 2).min(QUIET_COUNT);
        }
        took
    }

    /// Whether to rest before the next step. `batches` are those that all sessions together have begun.
    pub(super) fn rests(&mut self, batches: u64, now: Instant) -> bool {
        if mem::replace(&mut self.batches, batches) != batches {
            self.served = Some(now);
        }
        let is_new = self.begun.is_some_and(|begun| now.saturating_duration_since(begun) < PATIENCE);
        // A long way is rest enough.
        if !(is_new && self.busy == BUSY_COUNT && self.is_busy(now)) {
            return false;
        }
        self.in_a_row = (self.in_a_row + 1) % STEPS_IN_A_ROW;
        self.in_a_row == 0
    }

    /// The keys at which the next SCAN looks, if it also deletes `deletes` keys.
    pub(super) fn count(&mut self, deletes: usize, now: Instant) -> usize {
        // Redis cannot be asked to stop half-way, so what there is to do is weighed beforehand.
        let limit = if self.is_busy(now) { self.busy } else { QUIET_COUNT };
        let weighed = limit.saturating_sub(deletes * LOOKS_A_KEY).max(LEAST_COUNT);
        self.count = (self.count * 2).min(weighed).min(self.limit);
        self.count
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.served.is_some_and(|served| now.saturating_duration_since(served) < QUIET_AFTER)
    }
}

/// Keys of a group that this node of a Cluster could not delete, being on their way to another.
pub(super) struct MovedKeys {
    pub(super) group: usize,
    pub(super) keys: Vec<Bytes>,
    /// None: some of them are here and others there.
    pub(super) redirect: Option<Redirect>,
}

/// Keys of a group that Redis refused to delete by one call: each is to have its own.
pub(super) struct RefusedKeys {
    pub(super) group: usize,
    pub(super) keys: Vec<Bytes>,
}

/// Keys that a pipeline did not delete, although none of them is forbidden by itself.
#[derive(Default)]
pub(super) struct Undeleted {
    pub(super) moved: Vec<MovedKeys>,
    pub(super) refused: Vec<RefusedKeys>,
}

impl Undeleted {
    /// Takes in an error that answers for these keys. It is a failure only if it concerns more than these keys.
    fn add(
        &mut self,
        (group, keys): (usize, &[Bytes]),
        code: &Code,
        has_version: bool,
        unlinked: &mut Unlinked,
    ) -> Result<(), CacheError> {
        if code.redirect().is_some() || code.as_str() == "TRYAGAIN" {
            self.moved.push(MovedKeys { group, keys: keys.to_vec(), redirect: code.redirect().cloned() });
            return Ok(());
        }
        match code.to_error(if has_version { "EVALSHA" } else { "UNLINK" }).into() {
            CacheError::Refused(_) if keys.len() > 1 && code.concerns_a_key() => {
                self.refused.push(RefusedKeys { group, keys: keys.to_vec() });
            }
            error @ CacheError::Refused(_) if code.concerns_a_key() => unlinked.refuse(keys, &error),
            error => return Err(error),
        }
        Ok(())
    }
}

/// A step of a scan with what is deleted in the same pipeline.
pub(super) struct ScanRequest<'a> {
    pub(super) version_keys: &'a VersionKeys,
    pub(super) groups: &'a [DeleteGroup],
    pub(super) with_scripts: bool,
    /// Each command with an `ASKING` before it.
    pub(super) asking: bool,
    /// Each key that is deleted in a call of its own.
    pub(super) one_each: bool,
    pub(super) wait: Option<Wait>,
    /// What to look for, and at how many keys.
    pub(super) scan: Option<(Scan<'a>, usize)>,
    /// Whose cursors it gives.
    pub(super) server: u64,
}

impl ScanRequest<'_> {
    pub(super) fn encode(&self) -> Encoder {
        let mut encoder = Encoder::new();
        encoder.ask(self.asking);
        if self.with_scripts {
            versioned::load(&mut encoder);
        }
        for DeleteGroup { keys, version } in self.groups {
            match version {
                Some(version) => self.version_keys.sweep(&mut encoder, keys, version, self.one_each),
                None => self.version_keys.unlink(&mut encoder, keys, self.one_each),
            }
        }
        if let Some(wait) = &self.wait {
            wait::add_wait(&mut encoder, wait);
        }
        if let Some((scan, count)) = self.scan {
            add_scan(&mut encoder, scan, count);
        }
        encoder
    }

    /// Reads what arrived of the answers, after those to the scripts; and what became of the wait. What belongs elsewhere is
    /// no failure, and neither is what is to be asked for one by one.
    pub(super) fn decode(
        &self,
        mut frames: vec::IntoIter<Frame>,
        undeleted: &mut Undeleted,
    ) -> (Progress, Option<Waited>) {
        let mut progress = Progress::default();
        for group in self.groups.iter().enumerate() {
            let (unlinked, failure) = self.unlinked(group, &mut frames, undeleted);
            progress.unlinked.push(unlinked);
            progress.failure = progress.failure.or(failure);
        }
        let waited = self.wait.as_ref().map(|wait| wait::waited(frames.by_ref().take(2), wait));
        if let Some((scan, _)) = self.scan {
            match step(frames, &self.version_keys.own, scan.versioned, self.server) {
                Ok(step) => progress.step = Some(step),
                Err(error) => drop(progress.failure.get_or_insert(error)),
            }
        }
        (progress, waited)
    }

    /// Reads the answers to one group, with its index in the call.
    fn unlinked(
        &self,
        (index, group): (usize, &DeleteGroup),
        frames: &mut vec::IntoIter<Frame>,
        undeleted: &mut Undeleted,
    ) -> (Unlinked, Option<CacheError>) {
        let (mut unlinked, mut failure) = (Unlinked::default(), None);
        let has_version = group.version.is_some();
        for keys in self.version_keys.shares(&group.keys, has_version, self.one_each) {
            let Some(frame) = frames.next() else { break };
            let result = match frame {
                Frame::Error(code) => undeleted.add((index, keys), &code, has_version, &mut unlinked),
                frame => counted(keys, &frame, frames, has_version, &mut unlinked),
            };
            failure = failure.or(result.err());
        }
        (unlinked, failure)
    }
}

fn add_scan(encoder: &mut Encoder, Scan { from, only, versioned, .. }: Scan<'_>, count: usize) {
    encoder.command(|cmd| {
        cmd.arg("SCAN").arg(from.map_or(0, |cursor| cursor.at));
        // A key's version key does not match what the key matches.
        if let Some(wider) = only.filter(|_| !versioned) {
            cmd.arg("MATCH").arg(wider.glob());
        }
        cmd.arg("COUNT").arg(count)
    });
}

/// Adds the answer to one call: a number from `UNLINK`, one for each key from the script.
fn counted(
    keys: &[Bytes],
    frame: &Frame,
    frames: &mut vec::IntoIter<Frame>,
    has_version: bool,
    unlinked: &mut Unlinked,
) -> Result<(), CacheError> {
    match frame {
        Frame::Number(deleted) if !has_version => {
            unlinked.deleted += u64::try_from(*deleted).map_err(|_| unexpected())?;
            Ok(())
        }
        Frame::Array(elements) if has_version && *elements == keys.len() => {
            let answers = keys.iter().zip(frames.by_ref().take(*elements));
            answers.map(|(key, frame)| versioned::swept(key, &frame, unlinked)).fold(Ok(()), Result::and)
        }
        _ => Err(unexpected()),
    }
}

fn step(
    mut frames: vec::IntoIter<Frame>,
    own: &OwnKeys,
    with_versioned: bool,
    server: u64,
) -> Result<ScanStep, CacheError> {
    let (at, count) = next_and_count(&mut frames)?;
    let mut step = ScanStep { keys: Vec::with_capacity(count), ..ScanStep::default() };
    for frame in frames {
        let Frame::Text(key) = frame else { return Err(unexpected()) };
        add_key(&mut step, key, own, with_versioned);
    }
    step.next = (at != 0).then_some(Cursor { at, server });
    Ok(step)
}

/// Adds a key that was found, unless it is one of the service's own that tells of no other.
pub(super) fn add_key(step: &mut ScanStep, key: Bytes, own: &OwnKeys, with_versioned: bool) {
    if !own.contain(&key) {
        step.keys.push(key);
    } else if with_versioned && let Some(owner) = owner(own.version_prefix(), &key) {
        step.versioned.push(key.slice_ref(owner));
    }
}

/// The cursor of the next step, and the number of keys, which must be all that follows.
fn next_and_count(frames: &mut vec::IntoIter<Frame>) -> Result<(u64, usize), CacheError> {
    let (at, count) = match (frames.next(), frames.next(), frames.next()) {
        (Some(Frame::Array(2)), Some(Frame::Text(cursor)), Some(Frame::Array(count))) => {
            let at = std::str::from_utf8(&cursor).ok().and_then(|text| text.parse().ok());
            (at.ok_or_else(unexpected)?, count)
        }
        (Some(Frame::Error(code)), _, _) => return Err(code.to_error("SCAN").into()),
        _ => return Err(unexpected()),
    };
    if frames.len() == count { Ok((at, count)) } else { Err(unexpected()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(pace: &mut ScanPace, batches: u64, now: Instant) -> usize {
        pace.rests(batches, now);
        pace.count(0, now)
    }

    #[test]
    fn steps_are_short_while_others_are_served_and_grow_when_they_are_not() {
        let (mut pace, start) = (ScanPace::new(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(count(&mut pace, 7, at(0)), BUSY_COUNT);
        assert_eq!(count(&mut pace, 7, at(19)), BUSY_COUNT);
        assert_eq!(count(&mut pace, 7, at(20)), 2 * BUSY_COUNT);
        (0..9).for_each(|_| assert!(count(&mut pace, 7, at(20)) > BUSY_COUNT));
        assert_eq!(count(&mut pace, 7, at(20)), QUIET_COUNT);
        assert_eq!(count(&mut pace, 8, at(21)), BUSY_COUNT);
        assert_eq!(count(&mut pace, 8, at(40)), BUSY_COUNT);
        assert_eq!(count(&mut pace, 8, at(41)), 2 * BUSY_COUNT);
    }

    #[test]
    fn a_long_way_calls_for_long_steps() {
        let (mut pace, now) = (ScanPace::new(), Instant::now());
        for (round_trip_us, steps) in [(50, BUSY_COUNT), (600, 600), (50_000, QUIET_COUNT), (u64::MAX, QUIET_COUNT)] {
            pace.begin(Duration::from_micros(round_trip_us), now);
            assert_eq!(count(&mut pace, round_trip_us, now), steps);
        }
    }

    #[test]
    fn a_step_that_deletes_much_looks_at_less() {
        let (mut pace, now) = (ScanPace::new(), Instant::now());
        (0..9).for_each(|_| assert!(pace.count(0, now) > BUSY_COUNT));
        assert_eq!(pace.count(100, now), QUIET_COUNT - 100 * LOOKS_A_KEY);
        assert_eq!(pace.count(1_000_000, now), LEAST_COUNT);
    }

    #[test]
    fn a_step_that_took_long_is_cut_the_next_time_and_grows_again() {
        let (mut pace, now) = (ScanPace::new(), Instant::now());
        pace.begin(Duration::from_millis(1), now);
        (0..9).for_each(|_| assert!(pace.count(0, now) > BUSY_COUNT));
        assert_eq!(pace.took(LONG_CALL * 2), LONG_CALL * 2 - Duration::from_millis(1));
        assert_eq!(pace.count(0, now), QUIET_COUNT / 2);
        (0..20).for_each(|_| assert!(pace.took(LONG_CALL * 2) > LONG_CALL && pace.count(0, now) > 0));
        assert_eq!(pace.count(0, now), MIN_COUNT);
        (0..20).for_each(|_| assert!(pace.took(LONG_CALL / 4) < LONG_CALL && pace.count(0, now) > 0));
        assert_eq!(pace.count(0, now), QUIET_COUNT);
    }

    #[test]
    fn a_scan_rests_while_others_are_served_the_way_is_short_and_there_is_time() {
        let start = Instant::now();
        let rests = |round_trip_us, after: Duration, others: u64| {
            let mut pace = ScanPace::new();
            pace.begin(Duration::from_micros(round_trip_us), start);
            (1..=40).filter(|step| pace.rests(step * others, start + after)).count()
        };
        assert_eq!(rests(50, Duration::ZERO, 1), 10);
        assert_eq!(rests(50, Duration::ZERO, 0), 0);
        assert_eq!(rests(600, Duration::ZERO, 1), 0);
        assert_eq!(rests(50, PATIENCE, 1), 0);
    }
}
