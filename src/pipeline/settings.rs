//! What the pipeline is built of.

use std::sync::Arc;
use std::time::Duration;

use crate::blob;
use crate::event::Limits;
use crate::pipeline::write::writer;

/// Read once, by [`build`](super::build); what can change later is said at its field.
#[derive(Debug, Clone)]
pub struct Settings {
    /// At the start, and so are the hosts in `blob`.
    pub sizes: Sizes,
    pub max_in_flight: usize,
    pub max_in_flight_bytes: usize,
    /// Patterns under way, all requests together.
    pub max_patterns: usize,
    /// From acceptance to the answer.
    pub deadline: Duration,
    pub max_answer_bytes: usize,
    pub limits: Arc<Limits>,
    pub blob: Arc<blob::Settings>,
    pub retry: blob::retry::Policy,
    pub writer: writer::Limits,
    /// HTTP workers: how often a [`Submitter`](super::submitter::Submitter) is asked for.
    pub workers: usize,
}

/// How many of each, [`MAX_POOL`](crate::pipeline::runtime::MAX_POOL) at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Actors on threads of their own; 0: one on each HTTP worker's thread.
    pub intake: usize,
    pub validation: usize,
    pub fetchers: usize,
    /// Fetches at once in each fetcher.
    pub fetches_each: usize,
    pub fetches_per_host: usize,
    pub writers: usize,
}
