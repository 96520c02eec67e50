//! A credential that is lent for a time, and renewed ahead of its end.
//!
//! Renewal goes on beside the fetches: as long as the credential in hand is good they use it, and whoever lends may hang. Only
//! a fetch that has no usable credential waits. A renewal is a task of its own, so it goes on when the fetch that began it is
//! given up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::lent::{CredentialLender, Lent};
use super::platform::Platform;
use super::secret::Credential;
use crate::blob::FetchError;

/// What is lent is renewed so long before its end.
const BEFORE_END: Duration = Duration::from_secs(5 * 60);
/// What is lent without an end is asked for again after this.
const ASK_EVERY: Duration = Duration::from_secs(10 * 60);
/// Nobody is asked again before this.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// What is lent is asked for no oftener than this because a store refused it.
const LEND_EVERY: Duration = Duration::from_secs(30);
/// A credential with less time than this left is not used.
const LEAST_LEFT: Duration = Duration::from_secs(10);
/// All that one renewal may ask, up to the last answer.
const RENEWED_WITHIN: Duration = Duration::from_secs(30);

/// Who lends, and what was lent last.
pub struct Renewal {
    lender: ArcSwap<CredentialLender>,
    platform: Platform,
    held: Mutex<Held>,
    /// Whether a renewal is under way: there is one at a time.
    is_under_way: AtomicBool,
    /// Told at the end of each.
    ended: watch::Sender<()>,
}

/// What was lent last, and when to ask again.
#[derive(Default)]
struct Held {
    credential: Option<Arc<Credential>>,
    /// When the credential ends; None: nobody said, or never.
    until: Option<SystemTime>,
    /// Until then nobody is asked.
    rests_until: Option<Instant>,
    /// When somebody was asked last.
    asked: Option<Instant>,
    /// Why nothing was lent the last time.
    failure: Option<FetchError>,
}

impl Held {
    fn usable(&self) -> Option<Arc<Credential>> {
        let ends = self.until.is_some_and(|until| until <= SystemTime::now() + LEAST_LEFT);
        self.credential.clone().filter(|_| !ends)
    }

    fn is_due(&self) -> bool {
        self.rests_until.is_none_or(|rests| rests <= Instant::now())
    }
}

impl Renewal {
    pub fn new(lender: CredentialLender, platform: Platform) -> Arc<Self> {
        let (lender, ended) = (ArcSwap::from_pointee(lender), watch::Sender::new(()));
        Arc::new(Renewal { lender, platform, held: Mutex::default(), is_under_way: AtomicBool::new(false), ended })
    }

    /// This one lends from now on. What is held stays good until it has. If it is the one that lent before, nothing changes.
    pub fn ask_from_now_on(&self, lender: CredentialLender) {
        if **self.lender.load() == lender {
            return;
        }
        self.lender.store(Arc::new(lender));
        self.held().rests_until = None;
    }

    /// What to sign with now. What ends soon is renewed meanwhile.
    pub async fn current(self: &Arc<Self>) -> Result<Arc<Credential>, FetchError> {
        let mut ended = self.ended.subscribe();
        let (usable, is_due, failure) = {
            let held = self.held();
            (held.usable(), held.is_due(), held.failure.clone())
        };
        if is_due || usable.is_none() && failure.is_none() {
            self.begin();
        }
        match (usable, failure) {
            (Some(credential), _) => Ok(credential),
            (None, Some(failure)) if !is_due => Err(failure),
            _ => {
                // The sender is our own, so the end is told.
                let _ = ended.changed().await;
                let held = self.held();
                held.usable()
                    .ok_or_else(|| held.failure.clone().unwrap_or_else(|| unusable("the renewal was given up")))
            }
        }
    }

    /// The store refused what was signed with this. Whether there is another by now.
    pub async fn has_other_than(self: &Arc<Self>, refused: &Credential) -> bool {
        let is_other = |held: &Held| held.usable().is_some_and(|credential| *credential != *refused);
        let mut ended = self.ended.subscribe();
        {
            let held = self.held();
            if is_other(&held) {
                return true;
            }
            // Who lends is not asked for each object that is refused.
            if !held.is_due() && held.asked.is_some_and(|asked| asked.elapsed() < LEND_EVERY) {
                return false;
            }
        }
        self.begin();
        let _ = ended.changed().await;
        is_other(&self.held())
    }

    /// Renews in a task of its own, unless that is under way.
    fn begin(self: &Arc<Self>) {
        if !self.is_under_way.swap(true, Ordering::AcqRel) {
            let under_way = UnderWay(self.clone());
            actix_rt::spawn(async move { under_way.0.renew().await });
        }
    }

    async fn renew(&self) {
        let lender = self.lender.load_full();
        let lent = timeout(RENEWED_WITHIN, lender.lend(&self.platform)).await;
        let lent = lent.unwrap_or_else(|_| Err("the answer did not arrive in time".to_owned()));
        let now = Instant::now();
        let mut held = self.held();
        held.asked = Some(now);
        match lent {
            Ok(Lent { credential, until }) => {
                let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
                let rest = left.map_or(ASK_EVERY, |left| left.saturating_sub(BEFORE_END).max(ASK_AGAIN));
                held.rests_until = now.checked_add(rest);
                (held.credential, held.until) = (Some(Arc::new(credential)), until);
                let is_ending = held.usable().is_none();
                held.failure = is_ending.then(|| unusable("the credential that was provided has expired, or expires within ten seconds: is this machine's clock right?"));
            }
            Err(reason) => {
                held.rests_until = Some(now + ASK_AGAIN);
                held.failure = Some(unusable(&reason));
            }
        }
        // Another lender was named meanwhile: what the former lent is good, and renewed soon.
        if !Arc::ptr_eq(&lender, &self.lender.load()) {
            held.rests_until = None;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A renewal that ends when this is dropped, with its thread at the latest.
struct UnderWay(Arc<Renewal>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.is_under_way.store(false, Ordering::Release);
        self.0.ended.send_replace(());
    }
}

/// It may be had in a moment: a service that does not answer.
fn unusable(reason: &str) -> FetchError {
    FetchError::unavailable(format!("the store's credential is not available: {reason}"))
}
