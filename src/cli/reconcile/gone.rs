//! `--delete`: keys of the source's template whose object is gone.
//!
//! The keys of a listing are kept as hashes, of which memory holds a limited number at once; of a larger listing each further
//! pass keeps another share. A key that no hash is for is looked at closely: that the source stored it, and that its object
//! is gone now.

use std::collections::HashSet;
use std::time::Instant;

use ahash::RandomState;

use super::looks::after;
use super::owner::Owner;
use super::{Failure, Run};
use crate::blob::{BlobRequest, FetchErrorKind, Opened};
use crate::cache::{Cursor, Scan, ScanStep};
use crate::event::pattern::{Pattern, Wider, escaped};
use crate::event::{CacheKey, FetchTarget, StoreObject};

/// Hashes of keys that are held at once.
pub const MAX_HELD: usize = 2_000_000;
/// And with them those of keys that were looked at: the same table, of 40 MiB, has room for as many.
const MAX_KNOWN: usize = 3_500_000;

/// The keys of what is listed.
pub struct Gone {
    hashes: HashSet<u64, RandomState>,
    hasher: RandomState,
    /// Keys of the listing at hand, held or not.
    listed: u64,
}

impl Gone {
    pub fn new() -> Self {
        let hasher = RandomState::new();
        Gone { hashes: HashSet::with_hasher(hasher.clone()), hasher, listed: 0 }
    }

    /// Another bucket is listed.
    pub fn begin(&mut self) {
        self.hashes.clear();
        self.listed = 0;
    }

    /// A key of the listing.
    pub fn listed(&mut self, key: &str) {
        self.listed += 1;
        if self.hashes.len() < MAX_HELD {
            self.hashes.insert(self.hasher.hash_one(key.as_bytes()));
        }
    }

    /// How many passes it takes to hold every key once.
    fn passes(&self) -> u64 {
        self.listed.div_ceil(MAX_HELD as u64).max(1)
    }

    fn is_of(&self, key: &[u8], (pass, passes): (u64, u64)) -> bool {
        self.hasher.hash_one(key) % passes == pass
    }

    fn is_listed(&self, key: &[u8]) -> bool {
        self.hashes.contains(&self.hasher.hash_one(key))
    }

    /// A key is looked at: it is not once more when Redis, which may, names it again.
    fn looked_at(&mut self, key: &[u8]) {
        if self.hashes.len() < MAX_KNOWN {
            self.hashes.insert(self.hasher.hash_one(key));
        }
    }
}

impl Run {
    /// After the whole bucket was listed once.
    pub(super) async fn delete(&mut self, bucket: &str) -> Result<(), Failure> {
        let passes = self.gone.passes();
        for pass in 0..passes {
            if passes > 1 {
                self.hold(bucket, (pass, passes)).await?;
            }
            self.sweep(bucket, (pass, passes)).await?;
        }
        Ok(())
    }

    /// Lists the bucket once more, and keeps this pass's share of its keys.
    async fn hold(&mut self, bucket: &str, pass: (u64, u64)) -> Result<(), Failure> {
        self.gone.hashes.clear();
        let mut from: Option<String> = None;
        loop {
            let page = self.lister.page(bucket, from.as_deref()).await?;
            for listed in page.objects {
                let key = self.mapping.key.key(&self.mapping.name, bucket, &listed.name);
                if self.gone.is_of(key.as_bytes(), pass) {
                    let hash = self.gone.hasher.hash_one(key.as_bytes());
                    self.gone.hashes.insert(hash);
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Goes through the keys of Redis that the template may have made.
    async fn sweep(&mut self, bucket: &str, pass: (u64, u64)) -> Result<(), Failure> {
        let Some((before, behind)) = self.mapping.key.around_object(&self.mapping.name, bucket) else { return Ok(()) };
        let glob = format!("{}*", escaped(&format!("{before}{}", self.wanted.prefix)));
        let wider = Pattern::parse(glob, true).ok().and_then(|pattern| Wider::of([&pattern]));
        let mut from = None;
        loop {
            let step = self.step(from, wider.as_ref()).await?;
            let name = |key: &[u8]| {
                let key = std::str::from_utf8(key).ok()?;
                let name = key.strip_prefix(before.as_str())?.strip_suffix(behind.as_str())?;
                let is_meant = name.starts_with(&self.wanted.prefix) && self.mapping.follows(bucket, name);
                is_meant.then(|| (CacheKey::new_unchecked(key.to_owned()), name.to_owned()))
            };
            let unlisted = |key: &&[u8]| self.gone.is_of(key, pass) && !self.gone.is_listed(key);
            let mut found: Vec<_> = step.keys.iter().map(|key| &**key).filter(unlisted).filter_map(name).collect();
            found.sort_unstable();
            found.dedup();
            found.iter().for_each(|(key, _)| self.gone.looked_at(key.as_str().as_bytes()));
            self.look_closely(bucket, found, !before.is_empty() || !behind.is_empty()).await?;
            from = step.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// One step of the scan, tried for as long as `redis.retry_ms` says. In a Cluster a step counts although a node failed: the next goes on
    /// behind it.
    async fn step(&mut self, from: Option<Cursor>, only: Option<&Wider>) -> Result<ScanStep, Failure> {
        let (window, mut from, mut found) = (self.looks.window(), from, Vec::new());
        loop {
            let scan = Scan { from, only, ..Scan::default() };
            let progress = self.looks.session().unlink_and_scan(&[], Some(scan), window.left()).await;
            match (progress.step, progress.failure) {
                (Some(mut step), None) => {
                    step.keys.append(&mut found);
                    return Ok(step);
                }
                (_, Some(error)) if !window.pause(Some(&error)).await => {
                    return Err(Failure::Cache(format!("Redis did not list its keys: {}", error.cause())));
                }
                (None, None) if !window.pause(None).await => {
                    return Err(Failure::Cache("Redis did not list its keys".to_owned()));
                }
                (Some(step), _) => {
                    found.extend(step.keys);
                    from = step.next;
                }
                (None, _) if progress.is_lost => from = None,
                (None, _) => {}
            }
        }
    }

    /// `is_named`: the template says more than the object's name, so that its keys are no others'.
    async fn look_closely(
        &mut self,
        bucket: &str,
        found: Vec<(CacheKey, String)>,
        is_named: bool,
    ) -> Result<(), Failure> {
        let keys = found.iter().map(|(key, _)| key.clone()).collect();
        let seen = self.looks.at(keys).await.map_err(Failure::Cache)?;
        for ((key, name), seen) in found.into_iter().zip(seen).filter(|(_, seen)| seen.holds) {
            let Ok(object) = StoreObject::parse(&self.lister.store, &format!("{bucket}/{name}")) else { continue };
            match self.owner(&key, &seen, &object, is_named) {
                Owner::Own => {}
                Owner::Other => continue,
                Owner::Unclear => {
                    self.counts.unclear += 1;
                    let why = "it has no object, and nothing shows that this source stored it";
                    self.screen.tell(&format!("left as it is: {}: {why}", key.as_str().escape_debug()));
                    continue;
                }
            }
            match self.are_gone(self.objects_of(&key, &seen, object)).await {
                Ok(false) => {}
                Ok(true) => {
                    self.counts.to_delete += 1;
                    self.counts.sample("delete", &key);
                    if let Some(writes) = &mut self.writes {
                        let version = after(seen.version.as_ref());
                        writes.delete(key, version, &mut self.counts, &mut self.screen).await;
                    }
                }
                Err(why) => {
                    self.counts.failed += 1;
                    self.screen.tell(&format!("left as it is: {}: {why}", key.as_str()));
                }
            }
        }
        Ok(())
    }

    async fn are_gone(&self, objects: Vec<StoreObject>) -> Result<bool, String> {
        for object in objects {
            if !self.is_gone(object).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Asked of the store itself: the listing may be minutes old by now.
    async fn is_gone(&self, object: StoreObject) -> Result<bool, String> {
        let target = FetchTarget::Object(object);
        let asked = BlobRequest { target: &target, unless: None, trace: None };
        let until = Instant::now() + super::PAGE_WITHIN / super::ATTEMPTS;
        match self.lister.client.open(asked, until.into(), || false).await {
            Ok(Opened::Body(_) | Opened::NotModified | Opened::GaveUp) => Ok(false),
            Err(error) if error.kind == FetchErrorKind::NotFound => Ok(true),
            Err(error) if error.kind == FetchErrorKind::TooLarge => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }
}
