//! Admission: the limit on events and bytes in progress. Nothing waits for it: when it is full, new work is refused.
//!
//! Mailboxes are no bound (actix's `do_send` ignores their capacity), so what is inside the pipeline is bounded here
//! and nowhere else. What was let in holds a [`Permit`]; a dropped permit gives back what it held.
//!
//! Whether what is let in would wait too long is for [`crate::pipeline::write::pace`] to say.
//!
//! Blobs draw on the same bytes, but never on all of them: slow downloads must not close the door to everything else. A
//! fetch that runs ahead on its key also leaves room for one largest blob, so that what the head of a key needs cannot be
//! held by those behind it. See [`Admission::try_blob`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use crate::cache::room::{Lender, Loan};
use crate::event::rejection::Rejection;

/// This part of the budget is kept from blobs, for bodies and entries that arrive.
const DOOR_SHARE: usize = 4;

/// The bounds and what is in use of them.
pub struct Admission {
    max_events: usize,
    max_bytes: usize,
    max_blob_bytes: usize,
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// The part of these bytes that is values that were read.
    values: AtomicUsize,
    /// Patterns of delete events, and how many there may be.
    patterns: AtomicUsize,
    max_patterns: AtomicUsize,
    /// Bytes of the one blob that is let in beyond the budget.
    reserve: AtomicUsize,
    /// Whether somebody waits for bytes to come home; spares the call to `wake` otherwise.
    wanted: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Who asks for a blob's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchPriority {
    /// Something else on its key must be done first.
    Ahead,
    /// Nothing on its key is before it.
    Head,
    /// The oldest head that waits: may take the reserve of one largest blob.
    OldestHead,
}

impl Admission {
    /// Bounds with nothing in use: events and bytes in progress, and the largest blob, for which there is a reserve
    /// beyond the bytes.
    pub fn new(max_events: usize, max_bytes: usize, max_blob_bytes: usize) -> Arc<Self> {
        Arc::new(Admission {
            max_events,
            max_bytes,
            max_blob_bytes,
            events: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            values: AtomicUsize::new(0),
            patterns: AtomicUsize::new(0),
            max_patterns: AtomicUsize::new(usize::MAX),
            reserve: AtomicUsize::new(0),
            wanted: AtomicBool::new(false),
            wake: OnceLock::new(),
        })
    }

    /// An empty permit: it holds nothing and can grow.
    pub fn permit(self: &Arc<Self>) -> Permit {
        Permit { admission: self.clone(), events: 0, bytes: 0, patterns: 0, is_reserve: false }
    }

    /// Patterns under way, at most: each is held against every key that comes. Set when the pipeline is built.
    pub fn limit_patterns(&self, max: usize) {
        self.max_patterns.store(max, SeqCst);
    }

    /// Patterns in progress.
    pub fn patterns(&self) -> usize {
        self.patterns.load(Relaxed)
    }

    /// Whether this number of patterns could be let in if there were no others.
    pub fn could_hold_patterns(&self, patterns: usize) -> bool {
        patterns <= self.max_patterns.load(Relaxed)
    }

    /// Whether this weight could be let in if nothing else were inside.
    pub fn could_hold(&self, events: usize, bytes: usize) -> bool {
        events <= self.max_events && bytes <= self.max_bytes
    }

    /// Bytes for a blob. The head of a key may use the budget but for the door's share, a fetch that runs ahead must leave
    /// one largest blob besides. The oldest head that waits may have a reserve of one largest blob beyond the budget, one
    /// at a time: with that, and only with that, every blob of permitted size gets its turn, however the budget is set and
    /// whatever else holds it.
    pub fn try_blob(self: &Arc<Self>, bytes: usize, priority: FetchPriority) -> Option<Permit> {
        let limit = match priority {
            FetchPriority::Ahead => self.for_blobs().saturating_sub(self.max_blob_bytes),
            FetchPriority::Head | FetchPriority::OldestHead => self.for_blobs(),
        };
        let mut permit = self.permit();
        if bytes == 0 || add_within(&self.bytes, bytes, limit) {
            permit.bytes = bytes;
            return Some(permit);
        }
        let free = || self.reserve.compare_exchange(0, bytes, SeqCst, Relaxed).is_ok();
        if priority == FetchPriority::OldestHead && bytes <= self.max_blob_bytes && free() {
            permit.bytes = bytes;
            permit.is_reserve = true;
            return Some(permit);
        }
        None
    }

    /// Bytes for a value that is to be read. Values may use the budget but for the door's share, as blobs may; one alone may
    /// go beyond it, so that each of permitted size can be read, whatever else holds the budget.
    pub fn try_value(self: &Arc<Self>, bytes: usize) -> Option<ValuePermit> {
        let is_alone = || self.values.compare_exchange(0, bytes, SeqCst, Relaxed).is_ok();
        if add_within(&self.bytes, bytes, self.for_blobs()) {
            self.values.fetch_add(bytes, SeqCst);
        } else if bytes > 0 && is_alone() {
            self.bytes.fetch_add(bytes, SeqCst);
        } else {
            return None;
        }
        Some(ValuePermit { admission: self.clone(), bytes })
    }

    fn for_blobs(&self) -> usize {
        self.max_bytes - self.max_bytes / DOOR_SHARE
    }

    /// Events and bytes in use.
    pub fn in_use(&self) -> (usize, usize) {
        (self.events.load(Relaxed), self.bytes.load(Relaxed) + self.reserve.load(Relaxed))
    }

    /// Events and bytes that may be in use.
    pub fn limits(&self) -> (usize, usize) {
        (self.max_events, self.max_bytes)
    }

    /// Whether no event is in progress: the drain ends then.
    pub fn is_idle(&self) -> bool {
        self.events.load(SeqCst) == 0
    }

    /// What to call when bytes come home after [`Admission::want`]. Set once, when the pipeline is built.
    pub fn on_release(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Asks for one call of the hook at the next release.
    pub fn want(&self) {
        self.wanted.store(true, SeqCst);
    }

    fn release(&self, events: usize, bytes: usize) {
        if events > 0 {
            self.events.fetch_sub(events, SeqCst);
        }
        self.bytes.fetch_sub(bytes, SeqCst);
        self.wake_waiting(bytes);
    }

    fn release_reserve(&self) {
        let bytes = self.reserve.swap(0, SeqCst);
        self.wake_waiting(bytes);
    }

    fn wake_waiting(&self, bytes: usize) {
        if bytes > 0
            && self.wanted.load(SeqCst)
            && self.wanted.swap(false, SeqCst)
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }
}

/// Room for a value that was read; given back on drop.
pub struct ValuePermit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Drop for ValuePermit {
    fn drop(&mut self) {
        self.admission.values.fetch_sub(self.bytes, SeqCst);
        self.admission.release(0, self.bytes);
    }
}

/// Lends room for the values that the cache brings over.
pub struct ValueLender(pub Arc<Admission>);

impl Lender for ValueLender {
    fn lend(&self, bytes: usize) -> Option<Loan> {
        Some(Box::new(self.0.try_value(bytes)?))
    }

    fn free_bytes(&self) -> usize {
        self.0.for_blobs().saturating_sub(self.0.bytes.load(Relaxed))
    }
}

/// All threads share the counters: to change one by nothing costs as much as by one.
fn add_within(counter: &AtomicUsize, amount: usize, limit: usize) -> bool {
    amount == 0
        || counter.fetch_update(SeqCst, Relaxed, |used| used.checked_add(amount).filter(|sum| *sum <= limit)).is_ok()
}

/// What its holder has been let in with; given back on drop.
pub struct Permit {
    admission: Arc<Admission>,
    events: usize,
    bytes: usize,
    patterns: usize,
    is_reserve: bool,
}

impl Permit {
    /// Takes on this much more, or nothing if admission has no room for it.
    pub fn try_grow(&mut self, events: usize, bytes: usize) -> bool {
        if !add_within(&self.admission.bytes, bytes, self.admission.max_bytes) {
            return false;
        }
        if !add_within(&self.admission.events, events, self.admission.max_events) {
            self.admission.release(0, bytes);
            return false;
        }
        self.events += events;
        self.bytes += bytes;
        true
    }

    /// The same, with no more bytes than there could ever be: whoever needs more gets in when nothing else is in progress.
    pub fn try_grow_to_limit(&mut self, events: usize, bytes: usize) -> bool {
        self.try_grow(events, bytes.min(self.admission.max_bytes.saturating_sub(self.bytes)))
    }

    /// Whether it could take on this weight if nothing else were inside.
    ///
    /// # Errors
    /// It never could: there are too many events, bytes or patterns.
    pub fn fits(&self, events: usize, bytes: usize, patterns: usize) -> Result<(), Rejection> {
        if !self.admission.could_hold(events, self.bytes + bytes) {
            return Err(Rejection::TooLargeToAdmit);
        }
        if !self.admission.could_hold_patterns(patterns) {
            return Err(Rejection::TooManyPatterns);
        }
        Ok(())
    }

    /// Takes on this number of further patterns, or none.
    pub fn try_patterns(&mut self, patterns: usize) -> bool {
        let has_room =
            patterns == 0 || add_within(&self.admission.patterns, patterns, self.admission.max_patterns.load(Relaxed));
        self.patterns += if has_room { patterns } else { 0 };
        has_room
    }

    /// Keeps nothing but this number of bytes, whether there is room for them or not.
    pub fn become_bytes(&mut self, bytes: usize) {
        if self.patterns > 0 {
            self.admission.patterns.fetch_sub(self.patterns, SeqCst);
            self.patterns = 0;
        }
        self.admission.bytes.fetch_add(bytes, SeqCst);
        let held = std::mem::replace(&mut self.bytes, bytes);
        self.admission.release(std::mem::take(&mut self.events), held);
    }

    /// Gives back all bytes beyond these; the reserve is given back as a whole.
    pub fn shrink_to(&mut self, bytes: usize) {
        if self.is_reserve {
            return;
        }
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.admission.release(0, surplus);
    }

    /// Bytes that it holds now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it gives back what it holds.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.patterns > 0 {
            self.admission.patterns.fetch_sub(self.patterns, SeqCst);
        }
        match self.is_reserve {
            true => self.admission.release_reserve(),
            false => self.admission.release(self.events, self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gate_takes_nothing_on_and_a_dropped_permit_gives_all_back() {
        let admission = Admission::new(2, 1000, 100);
        let mut first = admission.permit();
        assert!(first.try_grow(2, 600));
        let mut second = admission.permit();
        assert!(!second.try_grow(1, 10), "events are full");
        assert!(!second.try_grow(0, 500), "bytes are full");
        assert_eq!(admission.in_use(), (2, 600));
        drop(first);
        assert!(second.try_grow(1, 1000));
        drop(second);
        assert_eq!(admission.in_use(), (0, 0));
    }

    #[test]
    fn patterns_are_counted_over_all_permits() {
        let admission = Admission::new(1, 1, 1);
        admission.limit_patterns(3);
        let (mut first, mut second) = (admission.permit(), admission.permit());
        assert!(admission.could_hold_patterns(3) && !admission.could_hold_patterns(4));
        assert!(first.try_patterns(2) && !second.try_patterns(2) && second.try_patterns(1) && !first.try_patterns(1));
        drop(first);
        assert!(second.try_patterns(2));
    }

    #[test]
    fn running_ahead_leaves_room_for_the_head_of_a_key() {
        let admission = Admission::new(1, 400, 100);
        let ahead = admission.try_blob(200, FetchPriority::Ahead).expect("room beside the door's and the head's");
        assert!(admission.try_blob(1, FetchPriority::Ahead).is_none());
        let head = admission.try_blob(100, FetchPriority::Head).expect("all but the door's quarter is for heads");
        assert!(admission.try_blob(1, FetchPriority::Head).is_none());
        let reserve = admission.try_blob(100, FetchPriority::OldestHead).expect("one goes beyond the budget");
        assert!(admission.try_blob(1, FetchPriority::OldestHead).is_none(), "but only one at a time");
        assert_eq!(admission.in_use(), (0, 400));
        assert!(admission.permit().try_grow(1, 100), "the door is open all the same");
        drop((ahead, head, reserve));
        assert_eq!(admission.in_use(), (0, 0));
        assert!(admission.try_blob(300, FetchPriority::Head).is_some());
    }

    #[test]
    fn values_leave_the_door_its_share_and_one_alone_goes_beyond_it() {
        let admission = Admission::new(1, 400, 100);
        let first = admission.try_value(300).expect("all but the door's quarter");
        assert!(admission.try_value(1).is_none() && admission.permit().try_grow(1, 100));
        assert_eq!(admission.in_use(), (0, 300));
        drop(first);
        let mut body = admission.permit();
        assert!(body.try_grow(1, 400));
        let alone = admission.try_value(50).expect("each can be read at some time");
        assert!(admission.try_value(1).is_none(), "but only one");
        assert_eq!(admission.in_use(), (1, 450));
        drop((alone, body));
        assert_eq!(admission.in_use(), (0, 0));
        assert!(admission.try_value(300).is_some());
    }

    #[test]
    fn a_permit_keeps_the_bytes_of_an_answer_and_nothing_else() {
        let admission = Admission::new(1, 100, 10);
        let mut permit = admission.permit();
        assert!(permit.try_grow(1, 60) && permit.try_patterns(2));
        permit.become_bytes(150);
        assert!(admission.is_idle() && admission.patterns.load(SeqCst) == 0);
        assert_eq!(admission.in_use(), (0, 150));
        drop(permit);
        assert_eq!(admission.in_use(), (0, 0));
    }

    #[test]
    fn the_hook_is_called_once_for_each_want() {
        let admission = Admission::new(1, 100, 10);
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = calls.clone();
        admission.on_release(move || _ = seen.fetch_add(1, SeqCst));
        drop(admission.try_blob(10, FetchPriority::Head));
        assert_eq!(calls.load(SeqCst), 0);
        admission.want();
        drop(admission.try_blob(10, FetchPriority::Head));
        drop(admission.try_blob(10, FetchPriority::Head));
        assert_eq!(calls.load(SeqCst), 1);
    }
}
