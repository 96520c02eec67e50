//! Shorter ways that Redis may refuse, such as one call for writes that stand side by side, and when they are tried again after that.

use std::time::{Duration, Instant};

use crate::redis::Product;

/// The first Valkey with `MSETEX`. For a key it takes half the time of a `SET` of its own.
const MSETEX_OF_VALKEY: (u32, u32) = (9, 1);
/// How long after a refusal each write has a call of its own.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The same, when shared calls were refused again and again: each is as many writes that have to be repeated.
const MAX_PAUSE: Duration = Duration::from_secs(64);

/// How a shared call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Alone it may be carried out, or together another time.
    Together,
    /// The server, or a proxy before it, does not know the command.
    Unknown,
}

/// What is known of one shorter way: of shared calls of one kind (`MSET`, `MSETEX`, scripts), or of the list of a slot's keys.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Shortcut {
    /// Nothing speaks against it.
    #[default]
    Untried,
    /// Refused: tried again from `until` on. `pause` is how long that is after the refusal.
    Refused { until: Instant, pause: Duration },
    /// Never tried again on this connection.
    Unknown,
}

impl Shortcut {
    pub(super) fn allows(self, now: impl FnOnce() -> Instant) -> bool {
        match self {
            Shortcut::Untried => true,
            Shortcut::Refused { until, .. } => until <= now(),
            Shortcut::Unknown => false,
        }
    }

    /// It was refused. One key that is forbidden does that, and may not come again; so a refusal soon after the
    /// last pause doubles it, and one much later begins with the first.
    pub(super) fn refused(&mut self, refusal: Refusal, now: Instant) {
        if refusal == Refusal::Unknown {
            *self = Shortcut::Unknown;
        }
        let pause = match *self {
            Shortcut::Untried => FIRST_PAUSE,
            Shortcut::Refused { until, pause } if now < until + pause => (pause * 2).min(MAX_PAUSE),
            Shortcut::Refused { .. } => FIRST_PAUSE,
            Shortcut::Unknown => return,
        };
        *self = Shortcut::Refused { until: now + pause, pause };
    }
}

/// Kinds of commands that do not share calls in a pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Singly {
    pub(super) versions: bool,
    pub(super) sets: bool,
    pub(super) expiring: bool,
    pub(super) reads: bool,
}

/// What of a pipeline was refused to several commands that shared a call.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct RefusedTogether {
    pub(super) versions: Option<Refusal>,
    pub(super) sets: Option<Refusal>,
    pub(super) expiring: Option<Refusal>,
    pub(super) reads: Option<Refusal>,
}

/// The kinds of commands that may share calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SharedCalls {
    /// Scripts, for writes with a version.
    pub(super) versions: Shortcut,
    /// `MSET`.
    pub(super) sets: Shortcut,
    /// `MSETEX`.
    pub(super) expiring: Shortcut,
    /// The `EXISTS` beside reads.
    pub(super) reads: Shortcut,
}

impl SharedCalls {
    /// For a proxy that closes the connection over a command that it does not know: it must not be asked.
    pub(super) const UNKNOWN: SharedCalls = SharedCalls {
        versions: Shortcut::Unknown,
        sets: Shortcut::Unknown,
        expiring: Shortcut::Unknown,
        reads: Shortcut::Unknown,
    };

    /// For a server of which nothing bad is known. `MSETEX` is new, and Redis takes no less time for it than for as many `SET`s: it
    /// is for those that do.
    pub(super) fn of(make: Option<&Product>) -> Self {
        let is_faster = make.is_some_and(|make| make.name == "valkey" && make.is_at_least(MSETEX_OF_VALKEY));
        let expiring = if is_faster { Shortcut::Untried } else { Shortcut::Unknown };
        let [versions, sets, reads] = [Shortcut::Untried; 3];
        SharedCalls { versions, sets, expiring, reads }
    }

    /// The clock is looked at only where something was refused.
    pub(super) fn singly(self, now: impl Fn() -> Instant) -> Singly {
        let Self { versions, sets, expiring, reads } = self;
        let [versions, sets, expiring, reads] = [versions, sets, expiring, reads].map(|kind| !kind.allows(&now));
        Singly { versions, sets, expiring, reads }
    }

    /// Learns from the replies to a pipeline.
    pub(super) fn note(&mut self, refused: RefusedTogether, now: impl Fn() -> Instant) {
        refused.versions.into_iter().for_each(|refusal| self.versions.refused(refusal, now()));
        refused.sets.into_iter().for_each(|refusal| self.sets.refused(refusal, now()));
        refused.expiring.into_iter().for_each(|refusal| self.expiring.refused(refusal, now()));
        refused.reads.into_iter().for_each(|refusal| self.reads.refused(refusal, now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_is_tried_again_after_pauses_that_grow_and_begin_anew_after_a_good_while() {
        let (mut shortcut, mut now) = (Shortcut::default(), Instant::now());
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(shortcut.allows(|| now));
            shortcut.refused(Refusal::Together, now);
            now += Duration::from_secs(seconds);
            assert!(!shortcut.allows(|| now - Duration::from_millis(1)), "after {seconds} s");
        }
        now += Duration::from_secs(64);
        shortcut.refused(Refusal::Together, now);
        assert!(!shortcut.allows(|| now) && shortcut.allows(|| now + FIRST_PAUSE));
    }

    #[test]
    fn sets_with_an_expiry_share_calls_where_that_is_faster() {
        let is_shared = |name: &str, version: &str| {
            let make = Product { name: name.to_owned(), version: version.to_owned() };
            !SharedCalls::of(Some(&make)).singly(Instant::now).expiring
        };
        assert!(["9.1.0", "9.1.2-rc1", "9.10", "10.0.0"].into_iter().all(|version| is_shared("valkey", version)));
        assert!(!["9.0.9", "8.1.8", "9", ""].into_iter().any(|version| is_shared("valkey", version)));
        assert!(!is_shared("redis", "8.10.2") && SharedCalls::of(None).singly(Instant::now).expiring);
    }

    #[test]
    fn a_command_that_is_not_known_is_never_asked_for_again() {
        let (mut shortcut, now) = (Shortcut::default(), Instant::now());
        for refusal in [Refusal::Unknown, Refusal::Together] {
            shortcut.refused(refusal, now);
            assert!(!shortcut.allows(|| now + MAX_PAUSE * 2));
        }
    }
}
