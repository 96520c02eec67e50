//! Fetcher: makes one attempt at a time for each of its orders, and holds the blob's bytes against admission while it
//! reads them. Whether and when to try again is for the router.

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Context, Handler, Supervised};
use bytes::Bytes;

use super::direct::Shortcut;
use super::scheduler::Order;
use crate::blob::client::BlobClient;
use crate::blob::{self, FetchError, FetchErrorKind};
use crate::event::outcome::ProblemKind;
use crate::pipeline::runtime::supervision::{Crew, Mail, Notice, Stage, Vitals, guarded};
use crate::pipeline::work::admission::{Gate, Permit, Standing};
use crate::telemetry::metrics::Metrics;

/// An attempt to be made. The notice tells the router of its end; lost, it says so.
pub struct Fetch {
    pub ended: Notice<FetchEnded>,
    /// When the attempt must be over.
    pub until: Instant,
}

/// How fetches are made from now on, and whether more of them are to be expected.
pub struct Adapt {
    pub settings: Arc<blob::Settings>,
    pub is_wanted: bool,
}

pub struct FetchEnded {
    pub epoch: u64,
    /// Its number, if it took the [`Shortcut`]; then its epoch says nothing.
    pub shortcut: Option<u64>,
    pub fetcher: usize,
    pub order: Order,
    pub result: FetchResult,
}

pub enum FetchResult {
    /// The fetcher died under it.
    Lost,
    Blob(Bytes, Permit),
    /// The budget has no room for so many bytes now.
    NeedsBytes(usize),
    /// Nothing was heard of the host, and others wait for the place.
    GaveUp,
    Failed(FetchError),
}

pub struct Fetcher {
    pub vitals: Arc<Vitals>,
    pub shortcut: Arc<Shortcut>,
    pub settings: Arc<blob::Settings>,
    pub gate: Arc<Gate>,
    pub metrics: Metrics,
    /// Made on the actor's own thread, where its connections live.
    pub client: Option<BlobClient>,
    pub crew: Crew,
    /// If not, it goes once it has nothing to do.
    pub is_wanted: bool,
}

impl Fetcher {
    fn take(&mut self, Fetch { mut ended, until }: Fetch) {
        fail_point!("fetch");
        self.vitals.set_at_work(true);
        let Some(client) = self.client() else { return };
        let Some(FetchEnded { order, .. }) = ended.letter_mut() else { return };
        let (host, prepaid) = (order.host.clone(), order.prepaid.take());
        let standing = if order.is_head { Standing::Head } else { Standing::Ahead };
        let (gate, cap, metrics) = (self.gate.clone(), self.settings.max_blob_bytes, self.metrics.clone());
        let shortcut = self.shortcut.clone();
        let work = async move {
            let begun = Instant::now();
            let room = |bytes| hold(prepaid, bytes, &gate, standing);
            let result = match ended.letter() {
                Some(FetchEnded { order, .. }) => attempt(&client, order, until, cap, room, &shortcut).await,
                None => FetchResult::Lost,
            };
            let (outcome, bytes) = summary(&result);
            let took = begun.elapsed();
            metrics.fetch_done(outcome, took, bytes);
            if !matches!(result, FetchResult::NeedsBytes(_) | FetchResult::GaveUp) {
                let may_be_called = outcome != ProblemKind::BlobForbidden.slug();
                metrics.host_fetch_done(&host, may_be_called, matches!(result, FetchResult::Blob(..)), took);
            }
            if let Some(message) = ended.letter_mut() {
                message.result = result;
            }
            shortcut.end(ended);
        };
        self.crew.add(work);
    }

    /// Attempts that are under way keep what they began with.
    fn adapt(&mut self, Adapt { settings, is_wanted }: Adapt) {
        if !Arc::ptr_eq(&self.settings, &settings) {
            (self.settings, self.client) = (settings, None);
        }
        self.is_wanted = is_wanted;
        if is_wanted {
            self.vitals.set_at_work(true);
        }
    }

    fn client(&mut self) -> Option<BlobClient> {
        if self.client.is_none() {
            self.client = BlobClient::new((*self.settings).clone()).ok();
        }
        self.client.clone()
    }
}

async fn attempt(
    client: &BlobClient,
    order: &Order,
    until: Instant,
    cap: usize,
    hold: impl FnOnce(usize) -> Option<Permit>,
    shortcut: &Shortcut,
) -> FetchResult {
    let gives_up = || shortcut.dispatch(|dispatch| dispatch.gives_up(order, Instant::now()));
    let download = match client.open(&order.url, order.trace.as_deref(), until.into(), gives_up).await {
        Ok(Some(download)) => download,
        Ok(None) => return FetchResult::GaveUp,
        Err(error) => return FetchResult::Failed(error),
    };
    if order.is_first_sign_wanted() {
        shortcut.answered(order);
    }
    let bytes = download.length().unwrap_or(cap);
    let Some(mut permit) = hold(bytes) else { return FetchResult::NeedsBytes(bytes) };
    match download.read().await {
        Ok(blob) => {
            permit.shrink_to(blob.len());
            FetchResult::Blob(blob, permit)
        }
        Err(error) => FetchResult::Failed(error),
    }
}

fn hold(prepaid: Option<Permit>, bytes: usize, gate: &Arc<Gate>, standing: Standing) -> Option<Permit> {
    match prepaid {
        Some(permit) if permit.bytes() >= bytes => Some(permit),
        too_small => {
            drop(too_small);
            gate.try_blob(bytes, standing)
        }
    }
}

fn summary(result: &FetchResult) -> (&'static str, usize) {
    match result {
        FetchResult::Blob(blob, _) => ("ok", blob.len()),
        FetchResult::NeedsBytes(_) | FetchResult::GaveUp | FetchResult::Lost => ("other", 0),
        FetchResult::Failed(error) => (problem_kind(error.kind).slug(), 0),
    }
}

/// The problem a failed attempt becomes if it is the last.
pub fn problem_kind(kind: FetchErrorKind) -> ProblemKind {
    match kind {
        FetchErrorKind::Forbidden => ProblemKind::BlobForbidden,
        FetchErrorKind::NotFound => ProblemKind::BlobNotFound,
        FetchErrorKind::Denied => ProblemKind::BlobDenied,
        FetchErrorKind::TooLarge => ProblemKind::BlobTooLarge,
        FetchErrorKind::Unavailable => ProblemKind::BlobUnavailable,
    }
}

impl Actor for Fetcher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.vitals.clone().on_start(context);
        self.client = BlobClient::new((*self.settings).clone()).ok();
        self.crew = Crew::start(context);
    }
}

impl Supervised for Fetcher {}

impl Stage for Fetcher {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Laid off, it keeps no connections.
    fn beat(&mut self) {
        if !self.is_wanted && self.crew.is_idle() {
            self.client = None;
            self.vitals.set_at_work(false);
        }
    }
}

impl Handler<Mail<Adapt>> for Fetcher {
    type Result = ();

    fn handle(&mut self, mail: Mail<Adapt>, context: &mut Self::Context) {
        guarded(self, context, |fetcher, _| fetcher.adapt(mail.open()));
    }
}

impl Handler<Mail<Fetch>> for Fetcher {
    type Result = ();

    fn handle(&mut self, mail: Mail<Fetch>, context: &mut Self::Context) {
        guarded(self, context, |fetcher, _| fetcher.take(mail.open()));
    }
}
