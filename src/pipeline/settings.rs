//! The settings of the pipeline.

use std::sync::Arc;
use std::time::Duration;

use crate::blob::BlobSettings;
use crate::blob::retry::Policy;
use crate::event::Limits;
use crate::pipeline::router::central;
use crate::pipeline::write::writer;

/// Read once, by [`build`](super::build); what can change later is said at its field.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// At the start, and so are the hosts in `blob`.
    pub sizes: Sizes,
    /// Events in progress at most (`intake.max_in_flight`).
    pub max_in_flight: usize,
    /// Bytes held at once at most (`intake.max_in_flight_bytes`).
    pub max_in_flight_bytes: usize,
    /// Patterns under way, all requests together.
    pub max_patterns: usize,
    /// From acceptance to the answer.
    pub deadline: Duration,
    /// Bytes of all values of one answer at most (`http.max_answer_bytes`).
    pub max_answer_bytes: usize,
    /// What a request and its events may hold; validation reads it.
    pub limits: Arc<Limits>,
    /// Blobs of known length beyond this go to the cache as they come in (`fetch.stream_bytes`).
    pub stream_bytes: usize,
    /// How a single attempt at a blob is made.
    pub blob: Arc<BlobSettings>,
    /// Whether and when an attempt is repeated (`fetch.attempts`, `fetch.deadline_ms`).
    pub retry: Policy,
    /// The bounds of a batch and of trying (`redis.batch_max`, `redis.batch_max_bytes`, `redis.retry_ms`).
    pub writer: writer::WriterLimits,
    /// HTTP workers: how often a [`Submitter`](super::submitter::Submitter) is asked for.
    pub workers: usize,
}

/// How many of each, [`MAX_POOL`](crate::pipeline::runtime::MAX_POOL) at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Actors on threads of their own; 0: one on each HTTP worker's thread.
    pub intake: usize,
    /// Validation actors on threads of their own (`validation.pool_size`); 0: one on each HTTP worker's thread.
    pub validation: usize,
    /// Fetch actors (`fetch.pool_size`).
    pub fetchers: usize,
    /// Fetches at once in each fetcher.
    pub fetches_each: usize,
    /// Fetches at once to one host, over all fetchers (`fetch.per_host`).
    pub fetches_per_host: usize,
    /// Writer actors (`redis.pool_size`).
    pub writers: usize,
}

impl PipelineSettings {
    /// The part that the central router needs.
    pub(super) fn router_limits(&self) -> central::RouterLimits {
        central::RouterLimits {
            retry: self.retry,
            attempt: self.blob.attempt_timeout,
            max_answer_bytes: self.max_answer_bytes,
        }
    }
}
