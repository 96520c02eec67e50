//! The lease: who feeds the journal. One holder at a time, by a key with an expiry that the holder prolongs.
//!
//! A holder believes its own clock, and the time at which it asked, not that of the answer: so its lease ends for it no later
//! than in Redis. Everything that it changes in the journal is checked against the lease in Redis as well.

use std::time::{Duration, Instant};

use super::link::{Args, Link, LinkError, args};
use super::{Journal, Shared, unix_millis};
use crate::pipeline::work::validity::Validity;
use crate::redis::Value;

/// How long a lease lasts unless it is prolonged.
pub const LEASE: Duration = Duration::from_millis(6000);
/// How often it is prolonged.
pub const RENEW_EVERY: Duration = Duration::from_millis(1500);
/// How often those that do not hold it ask for it.
pub const ASK_EVERY: Duration = Duration::from_millis(1000);
/// By so much earlier the holder takes it for ended: clocks do not run alike.
const MARGIN: Duration = Duration::from_millis(500);

const ACQUIRE: &str = include_str!("scripts/acquire.lua");
const RELEASE: &str = include_str!("scripts/release.lua");

/// A lease that was given.
#[derive(Debug, Clone)]
pub struct Lease {
    /// How many leases there were, this one among them.
    pub epoch: u64,
    /// Until when it may hand work over.
    pub validity: Validity,
    /// Holders that may have left something in progress.
    pub former: Vec<String>,
    /// Events that were there when it was given.
    pub events: u64,
}

/// Asks for the lease; None: somebody else has it, or the journal is empty.
///
/// # Errors
/// The journal's Redis does not answer or refuses.
pub async fn acquire(journal: &Journal, link: &mut Link) -> Result<Option<Lease>, LinkError> {
    let begun = Instant::now();
    let Told { what, events, former } = ask(journal, link, Asking::Take).await?;
    let validity = Validity::until(begun + LEASE - MARGIN);
    let epoch = u64::try_from(what).unwrap_or(0);
    Ok((epoch > 0).then_some(Lease { epoch, validity, former, events }))
}

/// Prolongs the lease; false: somebody else may have it.
///
/// # Errors
/// The journal's Redis does not answer; the lease may last all the same, up to its time.
pub async fn renew(journal: &Journal, link: &mut Link, lease: &Lease) -> Result<bool, LinkError> {
    let begun = Instant::now();
    let is_ours = ask(journal, link, Asking::Prolong).await?.what == -1;
    if is_ours {
        lease.validity.prolong(begun + LEASE - MARGIN);
    } else {
        lease.validity.end();
    }
    Ok(is_ours)
}

/// Looks at the journal as those do that ask for its lease, and takes nothing.
///
/// # Errors
/// The journal's Redis does not answer or refuses.
pub async fn look(journal: &Journal, link: &mut Link) -> Result<(), LinkError> {
    ask(journal, link, Asking::Look).await.map(drop)
}

/// What the lease is asked for; the script knows it by its number.
#[derive(Clone, Copy)]
enum Asking {
    Take = 0,
    Prolong = 1,
    Look = 2,
}

/// What the script says.
struct Told {
    /// The number of the lease if it was given, -1: prolonged, 0: neither.
    what: i64,
    events: u64,
    former: Vec<String>,
}

/// Asks, and tells the metrics what the journal holds.
async fn ask(journal: &Journal, link: &mut Link, asking: Asking) -> Result<Told, LinkError> {
    let Shared { keys, holder, .. } = &*journal.shared;
    let command = args![
        "EVAL",
        ACQUIRE,
        7_u64,
        &keys.lease,
        &keys.epoch,
        &keys.former,
        &keys.stream,
        &keys.events,
        &keys.dead,
        &keys.late,
        holder,
        millis(LEASE),
        asking as u64
    ];
    let reply = link.one(command).await?;
    let mut parts = reply.list().iter();
    let mut number = || parts.next().and_then(Value::number).unwrap_or(0);
    let (what, [events, oldest_ms, dead]) = (number(), [(); 3].map(|()| u64::try_from(number()).unwrap_or(0)));
    let age = if oldest_ms == 0 { 0 } else { unix_millis().saturating_sub(oldest_ms) };
    journal.note(events, Duration::from_millis(age), dead);
    let former = parts.filter_map(|part| String::from_utf8(part.text()?.to_vec()).ok()).collect();
    Ok(Told { what, events, former })
}

/// Gives the lease back; `is_idle`: nothing that was handed over is in progress any more.
pub fn release(journal: &Journal, is_idle: bool) -> Args {
    let Shared { keys, holder, .. } = &*journal.shared;
    args!["EVAL", RELEASE, 2_u64, &keys.lease, &keys.former, holder, u64::from(is_idle)]
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
