//! `reconcile`: brings Redis in step with what a source's store holds now.
//!
//! Page by page of the store's listing, the keys of its objects are looked at in Redis. What is missing, or differs by entity
//! tag, is SET through a pipeline of this process, as the daemon would; with `--delete`, keys whose object is gone are deleted.
//!
//! **Nothing newer is overwritten.** Each write has a version just behind the one that the key had when it was looked at, before
//! the object was fetched: whatever a notification applied since has a later one, and wins.
//!
//! **Memory** is bounded by pages and batches, and for `--delete` by [`gone::MAX_HELD`] hashes of keys. A run that was
//! interrupted is begun again: what is in step already is only looked at.

mod gone;
mod looks;
mod owner;
mod progress;
mod writes;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::gone::Gone;
use self::looks::{KeyState, Looks};
use self::owner::Claims;
use self::progress::{ReconcileCounts, show};
use self::writes::Writes;
use super::screen::Screen;
use super::{on_stderr, serve, wrong_usage};
use crate::blob::retry::{Decision, Policy};
use crate::blob::store::{Listed, ListedPage};
use crate::blob::{BlobClient, FetchError};
use crate::config::{CacheBackend, Config};
use crate::event::sources::{Mapping, ValueMode};
use crate::event::validate::key_fault;
use crate::event::{CacheKey, FetchTarget, Limits, SetEntry, Source, StoreObject};

/// Bytes of a page of a listing, at most.
const MAX_PAGE_BYTES: usize = 64 << 20;
/// Attempts at a page.
const ATTEMPTS: u32 = 6;
/// All attempts at a page.
const PAGE_WITHIN: Duration = Duration::from_secs(120);

/// What is to be reconciled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The source's name.
    pub source: String,
    /// The only bucket; None: those that `include` of the source names.
    pub bucket: Option<String>,
    /// Only objects whose names begin so.
    pub prefix: String,
    /// Whether keys whose object is gone are deleted.
    pub delete: bool,
    /// Whether anything is changed at all.
    pub yes: bool,
}

/// One run.
struct Run {
    wanted: Wanted,
    mapping: Mapping,
    /// What the keys of each other source begin with.
    others: Vec<String>,
    claims: Claims,
    lister: Lister,
    limits: Limits,
    looks: Looks,
    /// None: nothing is changed.
    writes: Option<Writes>,
    gone: Gone,
    counts: ReconcileCounts,
    screen: Screen,
}

/// Why a run ends before its end; it says what to do.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the listing of bucket {bucket} failed: {error}")]
    Listing { bucket: String, error: FetchError },
    #[error("{0}")]
    Cache(String),
    #[error("the pipeline cannot be built: {0}")]
    Pipeline(String),
}

/// Says what it would do, and with `yes` does it. Exit code 1 if anything was left undone, 64 for what cannot be asked for.
pub fn run(wanted: Wanted, config: &Config) -> ExitCode {
    let (mapping, buckets) = match usable(&wanted, config) {
        Ok(usable) => usable,
        Err(fault) => return wrong_usage(&fault),
    };
    let result = actix_rt::System::new().block_on(async {
        let mut run = Run::new(wanted, mapping, config)?;
        run.everything(&buckets).await?;
        Ok::<_, Failure>(run)
    });
    match result {
        Ok(run) => run.tell(),
        Err(failure) => {
            on_stderr(format_args!(
                "redis-cache-sync: {failure}. Run the same command again: it skips what is in step"
            ));
            ExitCode::FAILURE
        }
    }
}

/// What the source is, and which buckets are meant; or what is wrong with the question.
fn usable(wanted: &Wanted, config: &Config) -> Result<(Mapping, Vec<String>), String> {
    let name = &wanted.source;
    let source = config.sources.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        format!("there is no source {name}; configured are: {}", known.join(", "))
    })?;
    if config.cache.backend == CacheBackend::Embedded {
        return Err("reconcile needs Redis: an embedded cache exists only inside its daemon".to_owned());
    }
    if source.store.is_none() {
        return Err(format!("sources.{name}.store is unset: reconcile needs a store whose objects it can list"));
    }
    if source.value != ValueMode::Object {
        return Err(format!("sources.{name}.value is not object: the store's listing does not have such values"));
    }
    let mapping = source.mapping(name);
    let buckets = match &wanted.bucket {
        Some(bucket) => vec![bucket.clone()],
        None => source.buckets(),
    };
    if buckets.is_empty() {
        return Err(format!("--bucket is missing, and sources.{name}.include names no bucket"));
    }
    if wanted.delete && buckets.iter().any(|bucket| mapping.key.around_object(name, bucket).is_none()) {
        return Err(format!("--delete: keys of the form of sources.{name}.key do not show the name of their object"));
    }
    Ok((mapping, buckets))
}

impl Run {
    fn new(wanted: Wanted, mapping: Mapping, config: &Config) -> Result<Self, Failure> {
        let pipeline = serve::pipeline_settings(config);
        let mut blob = (*pipeline.blob).clone();
        blob.max_blob_bytes = MAX_PAGE_BYTES;
        let broken = |error: String| Failure::Pipeline(error);
        let client = BlobClient::new(blob).map_err(|error| broken(error.to_string()))?;
        let cache = serve::redis_cache(config).map_err(|error| broken(error.to_string()))?;
        let (looks, limits) = (Looks::new(cache.session(), config.redis.retry), (*pipeline.limits).clone());
        let writes = match wanted.yes {
            true => Some(Writes::new(pipeline, cache).map_err(broken)?),
            false => None,
        };
        let other = config.sources.iter().filter(|(name, _)| **name != wanted.source);
        let others = other.map(|(name, source)| source.key.fixed_prefix(name)).collect();
        let claims = Claims::of(config, &wanted.source);
        let (store, prefix) = (mapping.store.clone().unwrap_or_default(), wanted.prefix.clone());
        let lister = Lister { client, store, prefix };
        let (gone, counts, screen) = (Gone::new(), ReconcileCounts::default(), Screen::new());
        Ok(Run { wanted, mapping, others, claims, lister, limits, looks, writes, gone, counts, screen })
    }

    async fn everything(&mut self, buckets: &[String]) -> Result<(), Failure> {
        for bucket in buckets {
            self.gone.begin();
            self.set(bucket).await?;
            if self.wanted.delete {
                self.delete(bucket).await?;
            }
        }
        if let Some(writes) = &mut self.writes {
            writes.finish(&mut self.counts, &mut self.screen).await;
        }
        self.screen.finish();
        Ok(())
    }

    /// SETs what is missing or differs. While a page is looked at, the next is already asked for.
    async fn set(&mut self, bucket: &str) -> Result<(), Failure> {
        let lister = self.lister.clone();
        let mut page = lister.page(bucket, None).await?;
        loop {
            let next = page.next.take();
            let asked = async {
                match &next {
                    Some(from) => lister.page(bucket, Some(from)).await.map(Some),
                    None => Ok(None),
                }
            };
            let (seen, following) = futures::join!(self.look_at(bucket, page), asked);
            seen?;
            match following? {
                Some(following) => page = following,
                None => return Ok(()),
            }
        }
    }

    async fn look_at(&mut self, bucket: &str, page: ListedPage) -> Result<(), Failure> {
        let objects: Vec<(CacheKey, StoreObject, Listed)> =
            page.objects.into_iter().filter_map(|listed| self.of_source(bucket, listed)).collect();
        let keys = objects.iter().map(|(key, ..)| key.clone()).collect();
        let seen = self.looks.at(keys).await.map_err(Failure::Cache)?;
        for ((key, object, listed), seen) in objects.into_iter().zip(seen) {
            self.counts.objects += 1;
            let resource = self.lister.client.resource_of(&object);
            match KeyState::of(&seen, &listed, resource) {
                KeyState::InStep => self.counts.in_step += 1,
                KeyState::Differs(version) => {
                    self.counts.to_set += 1;
                    self.counts.sample("set", &key);
                    let source = Source::Blob(FetchTarget::Object(object));
                    let ttl = self.mapping.ttl.or(self.limits.default_ttl);
                    let entry = SetEntry { key, source, ttl, expected: None };
                    if let Some(writes) = &mut self.writes {
                        writes.set(entry, version, &mut self.counts, &mut self.screen).await;
                    }
                }
            }
            show(&mut self.screen, &self.counts, false);
        }
        Ok(())
    }

    /// The key of an object that the source follows. What cannot be a key is told, and left undone.
    fn of_source(&mut self, bucket: &str, listed: Listed) -> Option<(CacheKey, StoreObject, Listed)> {
        let is_folder = listed.name.ends_with('/');
        if is_folder || !self.mapping.follows(bucket, &listed.name) {
            return None;
        }
        let key = self.mapping.key.key(&self.mapping.name, bucket, &listed.name);
        let object = StoreObject::parse(&self.lister.store, &format!("{bucket}/{}", listed.name));
        match (key_fault(&key, &self.limits), object) {
            (None, Ok(object)) => {
                if self.wanted.delete {
                    self.gone.listed(&key);
                }
                Some((CacheKey::new_unchecked(key), object, listed))
            }
            (fault, object) => {
                let fault = fault.or(object.err().map(str::to_owned)).unwrap_or_default();
                self.counts.failed += 1;
                self.screen.tell(&format!("left as it is: {bucket}/{}: its key {fault}", listed.name));
                None
            }
        }
    }

    fn tell(self) -> ExitCode {
        self.counts.print(&self.wanted);
        if self.counts.not_done(&self.wanted) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Lists the source's store.
#[derive(Clone)]
struct Lister {
    client: BlobClient,
    /// The name of the store.
    store: String,
    prefix: String,
}

impl Lister {
    /// A page of a bucket, with the attempts that a fetch of a blob has.
    async fn page(&self, bucket: &str, from: Option<&str>) -> Result<ListedPage, Failure> {
        let (policy, begun) = (Policy { attempts: ATTEMPTS, deadline: PAGE_WITHIN }, Instant::now());
        let mut attempts = 0;
        loop {
            let until = Instant::now() + PAGE_WITHIN / ATTEMPTS;
            let error = match self.client.list(&self.store, bucket, (&self.prefix, from), until.into()).await {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            attempts += 1;
            match policy.decide(attempts, &error, begun.elapsed(), 1.0) {
                Decision::RetryAfter(pause) => actix_rt::time::sleep(pause).await,
                Decision::GiveUp => return Err(Failure::Listing { bucket: bucket.to_owned(), error }),
            }
        }
    }
}
