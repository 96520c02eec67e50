//! Exports spans to the collector of `traces.endpoint` (OTLP, JSON over HTTP), on a thread of its own. It tries each batch once:
//! a collector that is gone costs spans, and is told of like any outage.

use std::time::{Duration, Instant};
use std::{io, thread};

use log::{info, warn};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::client::{client, tls};
use crate::config::Config;
use crate::telemetry::Metrics;
use crate::telemetry::outage::{Outage, OutageNews, down_seconds};
use crate::telemetry::spans::{TracedSpans, Tracer, otlp_document};

/// Requests whose spans go together, at most, and how long the first of them waits for others.
const MAX_REQUESTS: usize = 256;
const GATHER: Duration = Duration::from_millis(500);
/// For one batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where a collector takes spans.
const PATH: &str = "/v1/traces";

/// Starts the exporter; None: there is no collector.
///
/// # Errors
/// No thread can be started.
pub fn start(config: &Config, metrics: &Metrics) -> io::Result<Option<Tracer>> {
    let Some(endpoint) = &config.traces.endpoint else { return Ok(None) };
    let (tracer, spans) = Tracer::new(metrics.clone());
    let url = format!("{}{PATH}", endpoint.trim_end_matches('/'));
    let (cluster, metrics) = (config.cluster.clone(), metrics.clone());
    let exporter = Exporter { url, cluster, metrics, outage: Outage::default() };
    let run = move || actix_rt::System::new().block_on(exporter.run(spans));
    thread::Builder::new().name("traces".to_owned()).spawn(run)?;
    Ok(Some(tracer))
}

struct Exporter {
    url: String,
    cluster: String,
    metrics: Metrics,
    outage: Outage,
}

impl Exporter {
    async fn run(mut self, mut spans: Receiver<TracedSpans>) {
        let http = match tls(None, None) {
            Ok(tls) => client(tls, 1, TIMEOUT),
            Err(cause) => return warn!(cause:% = cause; "spans cannot be exported"),
        };
        while let Some(first) = spans.recv().await {
            let batch = gathered(first, &mut spans).await;
            let count = batch.iter().map(|request| request.spans.len()).sum();
            let body = otlp_document(&batch, &self.cluster);
            drop(batch);
            let sent = http.post(&self.url).content_type("application/json").timeout(TIMEOUT).send_body(body).await;
            let sent = match sent {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(format!("the collector answered {}", answer.status().as_u16())),
                Err(error) => Err(error.to_string()),
            };
            match &sent {
                Ok(()) => self.metrics.spans_exported(count),
                Err(_) => self.metrics.spans_dropped(count),
            }
            self.tell(sent.err());
        }
    }

    fn tell(&mut self, cause: Option<String>) {
        let now = Instant::now();
        let Some(cause) = cause else {
            if let Some(OutageNews::Ended(lasted)) = self.outage.is_over(now) {
                info!(down_seconds = down_seconds(lasted); "spans can be exported again");
            }
            return;
        };
        let cause = cause.as_str();
        match self.outage.goes_on(now, now) {
            Some(OutageNews::Lasts(lasted)) => {
                warn!(cause, down_seconds = down_seconds(lasted); "spans still cannot be exported")
            }
            Some(_) => warn!(cause; "spans cannot be exported"),
            None => {}
        }
    }
}

/// The first, and what comes within a moment.
async fn gathered(first: TracedSpans, spans: &mut Receiver<TracedSpans>) -> Vec<TracedSpans> {
    let mut batch = vec![first];
    let more = async {
        while batch.len() < MAX_REQUESTS
            && let Some(next) = spans.recv().await
        {
            batch.push(next);
        }
    };
    let _ = timeout(GATHER, more).await;
    batch
}
