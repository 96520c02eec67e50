//! Spans of requests that their callers sample, on their way to an exporter.
//!
//! Whoever makes spans hands them to a [`Tracer`] and goes on: the SDK's batch processor has a thread of its own. A bounded number
//! of spans waits for it, and what is beyond is dropped and counted. An exporter that is slow or gone costs spans and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanExporter, SpanProcessor};

use super::Metrics;

pub use opentelemetry_sdk::trace::SpanData;

/// Spans that wait for the exporter, at most.
const MAX_WAITING_SPANS: usize = 8192;
/// Spans that go together, at most, and how long the first of them waits for others.
const MAX_BATCH_SPANS: usize = 512;
const GATHER: Duration = Duration::from_millis(500);

/// The way to the exporter. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    processor: Arc<BatchSpanProcessor>,
    /// Spans that are with the processor and not with the exporter yet. The processor counts them too, and tells nobody.
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
}

impl Tracer {
    /// Starts the thread that exports.
    pub fn start(exporter: impl SpanExporter + 'static, metrics: Metrics) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING_SPANS)
            .with_max_export_batch_size(MAX_BATCH_SPANS)
            .with_scheduled_delay(GATHER)
            .build();
        let exporter = Leaving { exporter, waiting: waiting.clone() };
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        Tracer { processor: Arc::new(processor), waiting, metrics }
    }

    /// Hands over the spans of a request, or drops them all if too many wait.
    pub fn hand_over(&self, spans: Vec<SpanData>) {
        let count = spans.len();
        let room = |waiting: usize| Some(waiting + count).filter(|waiting| *waiting <= MAX_WAITING_SPANS);
        match self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, room) {
            Ok(_) => spans.into_iter().for_each(|span| self.processor.on_end(span)),
            Err(_) => self.metrics.spans_dropped(count),
        }
    }

    /// Exports what waits, and ends; blocks for that time at most. Whether the exporter has done with all of it.
    pub fn end(&self, within: Duration) -> bool {
        self.processor.shutdown_with_timeout(within).is_ok()
    }
}

/// Sees spans leave the queue.
#[derive(Debug)]
struct Leaving<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
}

impl<E: SpanExporter> SpanExporter for Leaving<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.waiting.fetch_sub(batch.len(), Ordering::AcqRel);
        self.exporter.export(batch).await
    }
}

/// One moment by both clocks, so that others can be told by the clock on the wall.
#[derive(Debug, Clone, Copy)]
pub struct ClockAnchor(Instant, SystemTime);

impl ClockAnchor {
    /// Now.
    pub fn now() -> Self {
        ClockAnchor(Instant::now(), SystemTime::now())
    }

    /// That moment by the clock on the wall.
    pub fn wall(self, moment: Instant) -> SystemTime {
        let ClockAnchor(now, wall) = self;
        match now.checked_duration_since(moment) {
            Some(ago) => wall.checked_sub(ago).unwrap_or(wall),
            None => wall + moment.duration_since(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};
    use tokio::sync::mpsc::{Sender, channel};

    use super::*;

    fn span() -> SpanData {
        let (trace, id) = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]));
        SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, Default::default()),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Client,
            name: "SET".into(),
            start_time: SystemTime::now(),
            end_time: SystemTime::now(),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    /// Takes one batch, and never comes back.
    #[derive(Debug)]
    struct Hung(Sender<usize>);

    impl SpanExporter for Hung {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.0.send(batch.len()).await;
            pending().await
        }
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let metrics = Metrics::new("").expect("metrics");
        let (taken, mut batches) = channel(1);
        let tracer = Tracer::start(Hung(taken), metrics.clone());
        tracer.hand_over(vec![span(); MAX_BATCH_SPANS]);
        assert_eq!(batches.blocking_recv(), Some(MAX_BATCH_SPANS), "these wait no more");
        let whole = MAX_WAITING_SPANS / 5;
        (0..whole + 7).for_each(|_| tracer.hand_over(vec![span(); 5]));
        let text = metrics.encode().expect("text");
        assert!(text.contains(r#"cache_sync_spans_total{outcome="dropped"} 35"#), "{text}");
        assert!(!tracer.end(Duration::from_millis(1)), "nobody waits for an exporter that hangs");
    }

    #[test]
    fn a_moment_before_and_one_after_are_told_by_the_other_clock() {
        let anchor = ClockAnchor::now();
        let ClockAnchor(now, wall) = anchor;
        let second = Duration::from_secs(1);
        assert_eq!((anchor.wall(now - second), anchor.wall(now + second)), (wall - second, wall + second));
    }
}
