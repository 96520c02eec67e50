//! `demo`: the whole job on one machine with nothing installed. A daemon on a free loopback port, a blob server, a store of
//! objects, a real client; every sample event is shown beside its answer, and the answer compared with the one that is due.
//! Then objects are written to the store, and what arrives in the cache is shown beside them.
//!
//! What is sent and what is due stands in `steps`, what the blob server serves in `blobs`, the comparison in
//! `difference`, the objects in `journey`. The cache is embedded and the store `own_store`, unless there are programs for a
//! Redis and a SeaweedFS: `installed` starts these.

mod blobs;
mod bucket;
mod difference;
mod installed;
mod journey;
mod own_store;
mod print;
mod steps;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::blobs::BlobServer;
use self::bucket::{BUCKET, Bucket, READER, REGION};
use self::difference::differences;
use self::installed::{Installed, Weed, redis_server, reserve};
use self::journey::Reader;
use self::own_store::OwnStore;
use self::print::{Running, print_how_to_go_on, print_step};
use self::steps::{DemoStep, NOTIFICATIONS, SOURCE, STEPS};
use super::on_stderr;
use super::serve::{self, Daemon};
use super::signals::{HangUp, Signals};
use crate::config::Config;
use crate::telemetry::logging::{self, LogSettings};

/// Where events go.
const EVENTS: &str = "/events";
/// Where the store notifies, and with which token.
const STORE_SOURCE: &str = "/sources/files";
const STORE_TOKEN: &str = "a-token-of-the-store";

/// Longer than any answer may take (`event.deadline_ms`).
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Longer than any answer of the steps.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

type Failure = Box<dyn Error>;

/// What the command line says about a demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoParts {
    /// Whether it goes on serving afterwards, until ctrl-c or SIGTERM (`--keep`).
    pub keep: bool,
    /// The program of a Redis to write to; None: the cache is embedded (`--redis-server`).
    pub redis_server: Option<PathBuf>,
    /// The program of SeaweedFS; None: the store is the demo's own (`--weed`).
    pub weed: Option<PathBuf>,
}

/// Runs every step; success only if every answer was the expected one and every object arrived.
pub fn run(parts: &DemoParts) -> ExitCode {
    // Some steps are meant to be refused: their warnings would only stand in the way.
    let settings =
        LogSettings { level: log::LevelFilter::Error, format: logging::LineFormat::Text, cluster: String::new() };
    let _guard = logging::init(&settings);
    match actix_rt::System::new().block_on(demonstrate(parts)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            on_stderr(format_args!("the demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A signal ends it at any time: what was started must not stay behind.
async fn demonstrate(parts: &DemoParts) -> Result<bool, Failure> {
    let mut signals = Signals::listen(Some(HangUp::listen()?))?;
    let (stage, all_match) = tokio::select! {
        shown = show(parts) => shown?,
        _ = signals.next() => return Err("a signal ended it".into()),
    };
    if parts.keep {
        print_how_to_go_on(&stage.running())?;
        signals.next().await;
    }
    tokio::select! {
        () = stage.stop() => {}
        _ = signals.next() => {}
    }
    Ok(all_match)
}

async fn show(parts: &DemoParts) -> Result<(Stage, bool), Failure> {
    let mut stage = Stage::start(parts).await?;
    let all_match = stage.run_steps().await?;
    Ok((stage, all_match))
}

/// Everything that runs. What is dropped ends.
struct Stage {
    client: awc::Client,
    blobs: BlobServer,
    store: Store,
    bucket: Bucket,
    redis: Option<(Installed, u16)>,
    daemon: Daemon,
    reader: Reader,
}

enum Store {
    Own(OwnStore),
    Weed(Weed),
}

impl Stage {
    async fn start(parts: &DemoParts) -> Result<Stage, Failure> {
        let blobs = blobs::start()?;
        let redis = match &parts.redis_server {
            Some(program) => Some(redis_server(program).await?),
            None => None,
        };
        let reserved = reserve()?;
        let s3_port = reserved.local_addr()?.port();
        let config = settings(blobs.address, s3_port, redis.as_ref().map(|(_, port)| *port))?;
        let daemon = serve::start(&config, None).await.map_err(|error| error.to_string())?;
        let notified = format!("http://{}{STORE_SOURCE}", daemon.address);
        let store = match &parts.weed {
            None => Store::Own(OwnStore::start(reserved, &notified, STORE_TOKEN)?),
            Some(program) => {
                drop(reserved);
                Store::Weed(Weed::start(program, s3_port, &notified, STORE_TOKEN)?)
            }
        };
        let client = awc::Client::builder().timeout(ANSWER_WITHIN).finish();
        let reader = match redis {
            Some(_) => Reader::Redis(serve::redis_cache(&config)?.session()),
            None => Reader::Daemon(client.clone(), daemon.address),
        };
        let bucket = Bucket::new(client.clone(), format!("http://127.0.0.1:{s3_port}"));
        Ok(Stage { client, blobs, store, bucket, redis, daemon, reader })
    }

    /// Whether every answer was the expected one.
    async fn run_steps(&mut self) -> Result<bool, Failure> {
        let started = Instant::now();
        let (daemon, blobs) = (self.daemon.address, self.blobs.address);
        writeln!(io::stdout(), "the daemon listens on http://{daemon}, the blobs are on http://{blobs}\n")?;
        let events = STEPS.iter().map(|step| (EVENTS, step));
        let steps: Vec<(&str, &DemoStep)> = events.chain(NOTIFICATIONS.iter().map(|step| (SOURCE, step))).collect();
        let mut matching = 0;
        for (number, (route, step)) in (1..).zip(&steps) {
            let sent = step.body.replace(steps::BLOBS, &format!("http://{blobs}"));
            let answer = post(&self.client, &format!("http://{daemon}{route}"), step, sent.clone()).await?;
            let faults = differences(step, &answer);
            matching += usize::from(faults.is_empty());
            print_step(number, step, &sent, &answer, &faults)?;
        }
        matching += self.run_journey(steps.len() + 1).await?;
        let (all, took) = (steps.len() + journey::COUNT, started.elapsed().as_secs_f32());
        writeln!(io::stdout(), "{matching} of {all} answers as expected, in {took:.1} seconds")?;
        Ok(matching == all)
    }

    /// Changes objects, numbered from `first`, and counts those changes that arrived in the cache.
    async fn run_journey(&mut self, first: usize) -> Result<usize, Failure> {
        let store = match &self.store {
            Store::Own(_) => "a store of the demo's own",
            Store::Weed(_) => "SeaweedFS",
        };
        let cache = match &self.redis {
            Some((_, port)) => format!("a Redis on port {port}"),
            None => "the embedded cache".to_owned(),
        };
        writeln!(io::stdout(), "Objects of S3, in {store}, whose bucket {BUCKET:?} is private, and {cache}:\n")?;
        if let Store::Weed(weed) = &mut self.store {
            weed.ready(&self.bucket).await?;
        }
        journey::run(first, &self.bucket, &mut self.reader).await
    }

    fn running(&self) -> Running {
        Running {
            daemon: self.daemon.address,
            blobs: self.blobs.address,
            object: self.bucket.url("mine.txt"),
            redis_port: self.redis.as_ref().map(|(_, port)| *port),
        }
    }

    async fn stop(self) {
        self.daemon.stop().await;
        if let Store::Own(store) = self.store {
            store.stop().await;
        }
        self.blobs.stop().await;
    }
}

/// The daemon's: its source of the samples, and the one that the store notifies.
fn settings(blobs: SocketAddr, s3_port: u16, redis_port: Option<u16>) -> Result<Config, Failure> {
    let (endpoint, key) = (format!("http://127.0.0.1:{s3_port}"), [BUCKET, "/{object}"].concat());
    let redis_port = redis_port.map(|port| port.to_string());
    let cache = match &redis_port {
        Some(port) => ("redis.url", format!("redis://127.0.0.1:{port}/0")),
        None => ("cache.backend", "embedded".to_owned()),
    };
    Config::from_pairs(&[
        ("bind", "127.0.0.1"),
        ("port", "0"),
        ("http.workers", "1"),
        (cache.0, &cache.1),
        ("fetch.allowed_hosts", &blobs.to_string()),
        ("sources.photos.value", "facts"),
        ("sources.files.store", "main"),
        ("sources.files.key", &key),
        ("sources.files.tokens", STORE_TOKEN),
        ("stores.main.kind", "s3"),
        ("stores.main.endpoint", &endpoint),
        ("stores.main.region", REGION),
        ("stores.main.access_key_id", READER.0),
        ("stores.main.secret_access_key", READER.1),
    ])
    .map_err(|faults| faults.to_string().into())
}

struct Answer {
    status: u16,
    body: String,
}

async fn post(client: &awc::Client, url: &str, step: &DemoStep, body: String) -> Result<Answer, Failure> {
    let request = client.post(url).content_type(step.content_type());
    // A client's errors are not `Sync`, and a demo needs no more than their text.
    let mut response = request.send_body(body).await.map_err(|error| error.to_string())?;
    let body = response.body().limit(MAX_ANSWER_BYTES).await?;
    Ok(Answer { status: response.status().as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
}
