//! The keys of one slot of a Redis Cluster as a list, in place of a scan.
//!
//! Before Redis 8 and Valkey 8 a `SCAN` goes through all keys of the node, whatever its `MATCH`. But every Redis keeps a list of
//! the keys of each slot, and `CLUSTER GETKEYSINSLOT` costs only what it returns. It has no cursor, so the list is taken as
//! a whole or not at all: a slot with many keys, or with long ones, is scanned. Nothing happens in Redis during the call,
//! so a whole list has every key that the node has of the slot, whoever owns that.
//!
//! Unlike a scan, the list also names keys whose expiry has passed until Redis removes them.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use log::info;

use super::RedisSession;
use crate::cache::redis::batch;
use crate::cache::redis::scan::{MAX_KEY_BYTES, add_key};
use crate::cache::redis::sharing::Refusal;
use crate::cache::redis::unexpected;
use crate::cache::{CacheError, Scan, ScanStep};
use crate::event::pattern::Wider;
use crate::redis::slot::slot_of_prefix;
use crate::redis::{Code, Deadline, Encoder, Frame};

/// Keys asked for at first, which tell how long they are: a tenth of a millisecond of Redis.
const FIRST_KEYS: usize = 250;
/// Keys of a slot that is not scanned, at most: about 2.5 ms of Redis 7.0.
const MAX_KEYS: usize = 5000;
/// The same in bytes of their names, as far as the first ones tell.
const MAX_BYTES: usize = 1024 * 1024;
/// Keys that share an `EXISTS`: half a millisecond of Redis 7.0.
const EXISTS_KEYS: usize = 500;

/// The slot was not listed.
enum NotListed {
    /// It has too many keys, or too long ones.
    TooLarge,
    /// Redis refuses the command.
    Refused(Code),
    /// Redis is in no state to answer, was not reached, or went beyond a limit: the next try scans.
    Failed(CacheError),
}

impl RedisSession {
    /// The slot of the wanted keys, if its list may take the place of the scan, which has not begun.
    pub(super) fn slot_to_list(&self, scan: Scan<'_>) -> Option<u16> {
        let may_list = self.shared.version_keys.is_cluster && scan.from.is_none();
        let slot = slot_of_prefix(scan.only.filter(|_| may_list)?.prefix())?;
        self.listing.allows(Instant::now).then_some(slot)
    }

    /// What a whole scan would find in the slot. None: it must be scanned.
    pub(super) async fn keys_of_slot(
        &mut self,
        slot: u16,
        scan: Scan<'_>,
        deadline: &Deadline,
    ) -> Result<Option<ScanStep>, CacheError> {
        let keys = match self.list(slot, deadline).await {
            Ok(keys) => keys,
            Err(not_listed) => return self.note_not_listed(not_listed).map(|()| None),
        };
        let mut step = ScanStep::default();
        keys.into_iter().for_each(|key| add_key(&mut step, key, &self.shared.version_keys.own, scan.versioned));
        let prefix = scan.only.map(Wider::prefix).unwrap_or_default();
        [&mut step.keys, &mut step.versioned].into_iter().for_each(|keys| keys.retain(|key| key.starts_with(prefix)));
        if scan.with_expired {
            return Ok(Some(step));
        }
        let existing = self.existing(&step.keys, deadline).await?;
        Ok(existing.map(|keys| ScanStep { keys, ..step }))
    }

    /// All keys of the slot.
    async fn list(&mut self, slot: u16, deadline: &Deadline) -> Result<Vec<Bytes>, NotListed> {
        let (count, keys) = self.list_part(slot, FIRST_KEYS, deadline).await?;
        if keys.len() < FIRST_KEYS {
            return Ok(keys);
        }
        let bytes = keys.iter().map(Bytes::len).sum::<usize>() / keys.len();
        if count >= MAX_KEYS || bytes.saturating_mul(count) > MAX_BYTES {
            return Err(NotListed::TooLarge);
        }
        let (_, keys) = self.list_part(slot, MAX_KEYS, deadline).await?;
        if keys.len() < MAX_KEYS { Ok(keys) } else { Err(NotListed::TooLarge) }
    }

    /// How many keys the slot has, and the names of at most so many: all of them if there are fewer names.
    async fn list_part(
        &mut self,
        slot: u16,
        at_most: usize,
        deadline: &Deadline,
    ) -> Result<(usize, Vec<Bytes>), NotListed> {
        let (mut encoder, mut frames) = (Encoder::new(), Vec::new());
        encoder.command(|cmd| cmd.arg("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot));
        encoder.command(|cmd| cmd.arg("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(at_most));
        let sent = self.exchange(encoder, MAX_KEY_BYTES, deadline, 0, &mut frames).await;
        sent.map_err(NotListed::Failed)?;
        count_and_names(frames)
    }

    /// Scans for a while where the list cannot be had. Returns what is a failure of the step.
    fn note_not_listed(&mut self, not_listed: NotListed) -> Result<(), CacheError> {
        let (code, failure) = match not_listed {
            NotListed::TooLarge => return Ok(()),
            NotListed::Refused(code) => (Some(code), Ok(())),
            NotListed::Failed(error) => (None, Err(error)),
        };
        self.listing.refused(Refusal::Together, Instant::now());
        if let Some(code) = code
            && !self.shared.told_not_listed.swap(true, Ordering::Relaxed)
        {
            let redis = self.session.server().settings().describe();
            info!(redis, cause = code.as_str(); "redis does not list the keys of a slot, so patterns with a hash tag scan its node");
        }
        failure
    }

    /// Those of the keys that exist. None: that cannot be told, because some are on their way to another node.
    async fn existing(&mut self, keys: &[Bytes], deadline: &Deadline) -> Result<Option<Vec<Bytes>>, CacheError> {
        let mut existing = Vec::with_capacity(keys.len());
        for keys in keys.chunks(EXISTS_KEYS) {
            let Some(all) = self.exist(keys, keys.len(), deadline).await? else { return Ok(None) };
            // Hardly ever has one expired.
            if all == [true] {
                existing.extend_from_slice(keys);
                continue;
            }
            let Some(each) = self.exist(keys, 1, deadline).await? else { return Ok(None) };
            existing.extend(keys.iter().zip(each).filter(|(_, exists)| *exists).map(|(key, _)| key.clone()));
        }
        Ok(Some(existing))
    }

    /// For each so many of the keys, whether all of them exist.
    async fn exist(
        &mut self,
        keys: &[Bytes],
        together: usize,
        deadline: &Deadline,
    ) -> Result<Option<Vec<bool>>, CacheError> {
        let mut frames = Vec::new();
        self.exchange(ask_exist(keys, together), MAX_KEY_BYTES, deadline, 0, &mut frames).await?;
        let all = |(keys, frame): (&[Bytes], Frame)| match frame {
            Frame::Number(count) => Some(usize::try_from(count) == Ok(keys.len())),
            _ => None,
        };
        Ok(keys.chunks(together).zip(frames).map(all).collect())
    }
}

fn ask_exist(keys: &[Bytes], together: usize) -> Encoder {
    let mut encoder = Encoder::new();
    for keys in keys.chunks(together) {
        batch::add_exists(&mut encoder, keys.iter().map(|key| &key[..]));
    }
    encoder
}

/// Reads the replies to both commands.
fn count_and_names(frames: Vec<Frame>) -> Result<(usize, Vec<Bytes>), NotListed> {
    let (mut count, mut names) = (None, Vec::with_capacity(frames.len()));
    for frame in frames {
        match frame {
            Frame::Number(number) => count = usize::try_from(number).ok(),
            Frame::Array(_) => {}
            Frame::Text(name) => names.push(name),
            Frame::Error(code) if !code.is_passing() => return Err(NotListed::Refused(code)),
            Frame::Error(code) => return Err(NotListed::Failed(code.to_error("CLUSTER GETKEYSINSLOT").into())),
            _ => return Err(NotListed::Failed(unexpected())),
        }
    }
    Ok((count.ok_or_else(|| NotListed::Failed(unexpected()))?, names))
}
