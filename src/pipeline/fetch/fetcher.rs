//! Fetcher: makes one attempt at each fetch it is given, and holds the blob's bytes against admission while it
//! reads them. Whether and when to try again is for the router.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::request::{FetchEnded, FetchRequest, FetchResult, problem_kind};
use super::shared::SharedScheduler;
use super::streaming::{Passage, Streaming};
use crate::blob::{BlobClient, BlobRequest, BlobSettings, FetchError, Opened};
use crate::cache::remembered::Fingerprinter;
use crate::cache::{Fingerprint, Remembered, Reply};
use crate::event::expected::{Difference, Expected};
use crate::event::outcome::ProblemKind;
use crate::pipeline::runtime::{DropNotice, Heartbeat, Stage, StageContext, TaskSet};
use crate::pipeline::work::admission::{Admission, FetchPriority, Permit};
use crate::pipeline::work::operation::FetchedBlob;
use crate::telemetry::metrics::Metrics;

/// What is compared of a value between turns of others.
const STEP_BYTES: usize = 256 * 1024;

/// Everything that may be sent to a fetcher.
#[expect(clippy::large_enum_variant, reason = "nearly all are fetches, and each is moved once")]
pub enum FetcherMessage {
    /// One attempt; from the central router and from direct fetches.
    Fetch(FetchAttempt),
    /// Settings that changed, or whether more is to come; from the placement.
    Adapt(Adapt),
}

/// An attempt to be made.
pub struct FetchAttempt {
    /// Tells of its end; if the attempt is lost, it says that.
    pub ended: DropNotice<FetchEnded>,
    /// When the attempt must be over.
    pub until: Instant,
}

/// How fetches are made from now on, and whether this fetcher will be given more of them.
pub struct Adapt {
    /// The settings for attempts that begin from now on.
    pub settings: Arc<BlobSettings>,
    /// If not, the fetcher finishes what it has and closes its connections.
    pub is_wanted: bool,
}

/// The actor. Each has an HTTP client and connections of its own, on the thread of the HTTP worker that started it.
pub struct Fetcher {
    heartbeat: Arc<Heartbeat>,
    deps: Deps,
    /// Made on the actor's own thread, where its connections live.
    client: Option<BlobClient>,
    attempts: TaskSet,
    streaming: Rc<Streaming>,
    /// If not, it closes its connections once it has nothing to do.
    is_wanted: bool,
}

/// What a fetcher is built of.
pub struct Deps {
    /// Learns of each sign of life from a host, and may ask an attempt to give up its place.
    pub scheduler: Arc<SharedScheduler>,
    /// How attempts are made, until an [`Adapt`] says otherwise.
    pub settings: Arc<BlobSettings>,
    /// Lends the bytes that a blob takes while it is read and written.
    pub admission: Arc<Admission>,
    /// Counts attempts, by host and outcome.
    pub metrics: Metrics,
    /// How large blobs get to the cache.
    pub passage: Passage,
}

impl Fetcher {
    /// A fetcher without a client: its first attempt makes one, on the actor's thread.
    pub fn new(heartbeat: Arc<Heartbeat>, deps: Deps) -> Self {
        let streaming = Rc::new(Streaming::new(deps.passage.clone()));
        Fetcher { heartbeat, deps, client: None, attempts: TaskSet::default(), streaming, is_wanted: true }
    }

    fn fetch(&mut self, FetchAttempt { mut ended, until }: FetchAttempt) {
        fail_point!("fetch");
        self.heartbeat.set_active(true);
        let Some(client) = self.client() else { return };
        let Some(FetchEnded { request, .. }) = ended.letter_mut() else { return };
        let (host, prepaid) = (request.host.clone(), request.prepaid.take());
        let priority = if request.is_head { FetchPriority::Head } else { FetchPriority::Ahead };
        let Deps { scheduler, settings, admission, metrics, .. } = &self.deps;
        let (admission, cap, metrics) = (admission.clone(), settings.max_blob_bytes, metrics.clone());
        let (scheduler, streaming) = (scheduler.clone(), self.streaming.clone());
        let work = async move {
            let begun = Instant::now();
            let room = |bytes| hold(prepaid, bytes, &admission, priority);
            let result = match ended.letter() {
                Some(FetchEnded { request, .. }) => {
                    attempt(&client, request, until, cap, room, &scheduler, &streaming).await
                }
                None => FetchResult::Lost,
            };
            let is_asked = ended.letter().is_some_and(|FetchEnded { request, .. }| !request.is_same);
            let (outcome, bytes) = summary(&result);
            if let FetchResult::Written { reply: Reply::Stored, bytes } = &result {
                metrics.written(*bytes as u64);
            }
            let took = begun.elapsed();
            if is_asked {
                metrics.fetch_done(outcome, took, bytes);
            }
            if is_asked && !matches!(result, FetchResult::NeedsBytes(_) | FetchResult::NeedsTurn | FetchResult::GaveUp)
            {
                let may_be_called = outcome != ProblemKind::BlobForbidden.slug();
                metrics.host_fetch_done(
                    &host,
                    may_be_called,
                    matches!(result, FetchResult::Blob(_) | FetchResult::NotModified),
                    took,
                );
            }
            if let Some(message) = ended.letter_mut() {
                message.result = result;
            }
        };
        self.attempts.add(work);
    }

    /// Attempts that are under way keep what they began with.
    fn adapt(&mut self, Adapt { settings, is_wanted }: Adapt) {
        if !Arc::ptr_eq(&self.deps.settings, &settings) {
            (self.deps.settings, self.client) = (settings, None);
        }
        self.is_wanted = is_wanted;
        if is_wanted {
            self.heartbeat.set_active(true);
        }
    }

    fn client(&mut self) -> Option<BlobClient> {
        if self.client.is_none() {
            self.client = BlobClient::new((*self.deps.settings).clone()).ok();
        }
        self.client.clone()
    }
}

async fn attempt(
    client: &BlobClient,
    request: &FetchRequest,
    until: Instant,
    cap: usize,
    hold: impl FnOnce(usize) -> Option<Permit>,
    scheduler: &SharedScheduler,
    streaming: &Streaming,
) -> FetchResult {
    let gives_up = || scheduler.with(|scheduler| scheduler.gives_up(request, Instant::now()));
    let permit_write = || scheduler.permit_write(request, Instant::now());
    let asked = BlobRequest { target: &request.target, unless: request.unless(), trace: request.trace.as_deref() };
    let opened = match request.is_same {
        true => Ok(Opened::NotModified),
        false => client.open(asked, until.into(), gives_up).await,
    };
    let download = match opened {
        Ok(Opened::Body(download)) => download,
        Ok(Opened::NotModified) if !streaming.lets_stand(request) => return FetchResult::NotModified,
        Ok(Opened::NotModified) if request.turn.is_none() => return FetchResult::NeedsTurn,
        Ok(Opened::NotModified) => return streaming.let_stand(request, until, permit_write).await,
        Ok(Opened::GaveUp) => return FetchResult::GaveUp,
        Err(error) => return FetchResult::Failed(error),
    };
    if request.is_first_sign_wanted() {
        scheduler.first_sign(request);
    }
    let expected = request.expected.as_deref();
    let length = download.length().map(|bytes| bytes as u64);
    if let Some(Err(difference)) = expected.map(|expected| expected.check_head(download.etag(), length)) {
        return FetchResult::Failed(FetchError::differs(difference));
    }
    if streaming.takes(download.length()) {
        if request.turn.is_none() {
            return FetchResult::NeedsTurn;
        }
        let length = download.length().unwrap_or_default();
        return streaming.store(download, length, request, until, permit_write).await;
    }
    // Room is taken before a byte is read, so that blobs on their way never exceed admission.
    let bytes = download.length().unwrap_or(cap);
    let Some(mut permit) = hold(bytes) else { return FetchResult::NeedsBytes(bytes) };
    let (etag, resource) = (download.etag().cloned(), download.resource());
    match download.read().await {
        Ok(value) => {
            permit.shrink_to(value.len());
            if let Some(expected) = expected
                && let Err(difference) = compare(expected, &value).await
            {
                return FetchResult::Failed(FetchError::differs(difference));
            }
            let remembered = match etag.clone().filter(|etag| request.version.is_some() && !etag.is_weak()) {
                Some(etag) => Some(Box::new(Remembered { etag, resource, print: fingerprint(&value).await })),
                None => None,
            };
            FetchResult::Blob(FetchedBlob { value, permit, etag, remembered })
        }
        Err(error) => FetchResult::Failed(error),
    }
}

/// In steps, so that others on the thread have their turn.
async fn compare(expected: &Expected, value: &[u8]) -> Result<(), Difference> {
    let mut comparison = expected.compare();
    for step in value.chunks(STEP_BYTES) {
        comparison.add(step);
        tokio::task::yield_now().await;
    }
    comparison.finish()
}

/// In steps, as well.
async fn fingerprint(value: &[u8]) -> Fingerprint {
    let mut print = Fingerprinter::new();
    for step in value.chunks(STEP_BYTES) {
        print.add(step);
        tokio::task::yield_now().await;
    }
    print.finish()
}

fn hold(prepaid: Option<Permit>, bytes: usize, admission: &Arc<Admission>, priority: FetchPriority) -> Option<Permit> {
    match prepaid {
        Some(permit) if permit.bytes() >= bytes => Some(permit),
        too_small => {
            drop(too_small);
            admission.try_blob(bytes, priority)
        }
    }
}

fn summary(result: &FetchResult) -> (&'static str, usize) {
    match result {
        FetchResult::Blob(blob) => ("ok", blob.value.len()),
        FetchResult::NotModified | FetchResult::LetStand(_) => ("not-modified", 0),
        FetchResult::Written { bytes, .. } => ("ok", *bytes),
        FetchResult::NeedsBytes(_) | FetchResult::NeedsTurn | FetchResult::GaveUp => ("other", 0),
        FetchResult::NotWritten(_) | FetchResult::Lost => ("other", 0),
        FetchResult::Failed(error) => (problem_kind(error.kind).slug(), 0),
    }
}

impl Stage for Fetcher {
    type Message = FetcherMessage;

    fn started(&mut self, context: &mut StageContext<'_, Self>) {
        self.client = BlobClient::new((*self.deps.settings).clone()).ok();
        self.attempts = TaskSet::start(context);
    }

    fn handle(&mut self, message: FetcherMessage, _: &mut StageContext<'_, Self>) {
        match message {
            FetcherMessage::Fetch(fetch) => self.fetch(fetch),
            FetcherMessage::Adapt(adapt) => self.adapt(adapt),
        }
    }

    /// An idle fetcher that is not wanted keeps no connections.
    fn beat(&mut self) {
        if !self.is_wanted && self.attempts.is_idle() {
            self.client = None;
            self.streaming.close_idle();
            self.heartbeat.set_active(false);
        }
    }
}
