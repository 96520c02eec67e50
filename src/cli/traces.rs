//! Exports spans to the collector of `traces.endpoint` through the crates of OpenTelemetry (OTLP, protobuf over HTTP). They read
//! `OTEL_EXPORTER_OTLP_HEADERS` and `…_COMPRESSION` (and those of traces alone), `OTEL_RESOURCE_ATTRIBUTES` and
//! `OTEL_SERVICE_NAME`; what else the environment may say gives way to the settings here. A collector that is gone costs spans, and
//! is told of like any outage.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use log::{info, warn};
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanExporter as _;
use prost::Message;
use rustls::ClientConfig;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::client::{client, tls};
use crate::blob::own_thread;
use crate::config::Config;
use crate::telemetry::Metrics;
use crate::telemetry::outage::{Outage, OutageNews, down_seconds};
use crate::telemetry::spans::{SpanData, Tracer};

/// For one batch, with all that is tried again.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where a collector takes spans.
const PATH: &str = "/v1/traces";
/// Bytes of a collector's answer that are read, at most.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const GONE: &str = "the thread that sends spans has ended";

/// Starts the exporter; None: there is no collector.
///
/// # Errors
/// No thread can be started, or the settings make no exporter.
pub fn start(config: &Config, metrics: &Metrics) -> Result<Option<Tracer>, Box<dyn Error>> {
    let Some(endpoint) = &config.traces.endpoint else { return Ok(None) };
    let tls = tls(None, None)?;
    let orders = own_thread::start("traces", 1, |orders| carry_out(tls, orders))?;
    let batch = Arc::new(Mutex::new(Batch::begin()));
    let mut otlp = SpanExporter::builder()
        .with_http()
        .with_http_client(Http { orders, batch: batch.clone() })
        .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .build()?;
    otlp.set_resource(&resource(&config.cluster));
    let collector = Collector { otlp, batch, metrics: metrics.clone(), outage: Mutex::default() };
    Ok(Some(Tracer::start(collector, metrics.clone())))
}

/// Who the spans are of: what the environment says, less what we know better. `cluster` is left out if it is empty.
fn resource(cluster: &str) -> Resource {
    let mut ours = vec![KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
    if !cluster.is_empty() {
        ours.push(KeyValue::new("k8s.cluster.name", cluster.to_owned()));
    }
    let name = Resource::builder().build().get(&Key::from_static_str("service.name"));
    // What the SDK says where the environment has no name.
    if name.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        ours.push(KeyValue::new("service.name", "redis-cache-sync"));
    }
    Resource::builder().with_attributes(ours).build()
}

/// What the exporter and its HTTP client tell each other about a batch, for which the crate between them has no words.
#[derive(Debug)]
struct Batch {
    /// Until when it may be tried.
    until: Instant,
    /// Why it was not taken, by the last attempt.
    failure: Option<String>,
    /// Spans of it that the collector took and threw away.
    rejected: usize,
}

impl Batch {
    fn begin() -> Self {
        Batch { until: Instant::now() + TIMEOUT, failure: None, rejected: 0 }
    }

    fn note(&mut self, answered: &Result<Response<Bytes>, String>) {
        self.failure = match answered {
            Err(cause) => Some(cause.clone()),
            Ok(answer) if !answer.status().is_success() => {
                Some(format!("the collector answered {}", answer.status().as_u16()))
            }
            Ok(answer) => {
                let said = ExportTraceServiceResponse::decode(&**answer.body()).unwrap_or_default();
                let rejected = said.partial_success.map_or(0, |partial| partial.rejected_spans);
                self.rejected = usize::try_from(rejected).unwrap_or_default();
                (self.rejected > 0).then(|| format!("the collector rejected {rejected} spans"))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exports batches, one at a time; counts them, and tells of outages.
#[derive(Debug)]
struct Collector {
    otlp: SpanExporter,
    batch: Arc<Mutex<Batch>>,
    metrics: Metrics,
    outage: Mutex<Outage>,
}

impl opentelemetry_sdk::trace::SpanExporter for Collector {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let count = spans.len();
        *lock(&self.batch) = Batch::begin();
        let sent = self.otlp.export(spans).await;
        let (failure, rejected) = {
            let mut batch = lock(&self.batch);
            (batch.failure.take(), batch.rejected.min(count))
        };
        let dropped = if sent.is_ok() { rejected } else { count };
        self.metrics.spans_exported(count - dropped);
        self.metrics.spans_dropped(dropped);
        let failure = failure.or_else(|| sent.as_ref().err().map(ToString::to_string));
        tell(&mut lock(&self.outage), failure.filter(|_| dropped > 0));
        sent
    }
}

fn tell(outage: &mut Outage, cause: Option<String>) {
    let now = Instant::now();
    let Some(cause) = cause else {
        if let Some(OutageNews::Ended(lasted)) = outage.is_over(now) {
            info!(down_seconds = down_seconds(lasted); "spans can be exported again");
        }
        return;
    };
    let cause = cause.as_str();
    match outage.goes_on(now, now) {
        Some(OutageNews::Lasts(lasted)) => {
            warn!(cause, down_seconds = down_seconds(lasted); "spans still cannot be exported")
        }
        Some(_) => warn!(cause; "spans cannot be exported"),
        None => {}
    }
}

/// The HTTP client of the exporter: has its requests made on a thread that owns a client of ours.
#[derive(Debug)]
struct Http {
    orders: Sender<Order>,
    batch: Arc<Mutex<Batch>>,
}

/// A request to make. Its headers may hold a secret.
struct Order {
    request: Request<Bytes>,
    until: Instant,
    answer: oneshot::Sender<Result<Response<Bytes>, String>>,
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let until = lock(&self.batch).until;
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order { request, until, answer }).await.map_err(|_| GONE)?;
        let answered = answered.await.unwrap_or_else(|_| Err(GONE.to_owned()));
        lock(&self.batch).note(&answered);
        Ok(answered?)
    }
}

async fn carry_out(tls: ClientConfig, mut orders: Receiver<Order>) {
    // The end of the batch comes first.
    let http = client(tls, 1, 2 * TIMEOUT);
    while let Some(Order { request, until, answer }) = orders.recv().await {
        let late = || format!("the collector did not answer within {} seconds", TIMEOUT.as_secs());
        let answered = timeout_at(until.into(), post(&http, request)).await.unwrap_or_else(|_| Err(late()));
        let _ = answer.send(answered);
    }
}

async fn post(http: &awc::Client, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let (head, body) = request.into_parts();
    let asked = http.post(head.uri.to_string());
    let asked =
        head.headers.iter().fold(asked, |asked, (name, value)| asked.insert_header((name.as_str(), value.as_bytes())));
    let mut answer = asked.send_body(body).await.map_err(|error| error.to_string())?;
    let again = answer.headers().get("retry-after").map(|value| value.as_bytes().to_vec());
    let response = Response::builder().status(answer.status().as_u16());
    let response = again.into_iter().fold(response, |response, value| response.header("retry-after", value));
    // It only adds to what the status says.
    let body = answer.body().limit(MAX_ANSWER_BYTES).await.unwrap_or_default();
    response.body(body).map_err(|error| error.to_string())
}
