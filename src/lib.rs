//! Keeps Redis in step with blob storage: receives events over HTTP, fetches the blobs that they name, writes Redis in order.
//!
//! # Code map
//!
//! Imports run one way: [`event`] ← [`blob`], [`cache`], [`telemetry`] ← [`pipeline`] ← [`journal`] ← [`http`] ← [`cli`],
//! and [`redis`] ← [`cache`], [`journal`]. Only [`cli`] reads [`config`] and gives each module the settings it needs. `tests/architecture.rs` holds that.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`event`] | the contract, pure: no I/O, no actors, no clock |
//! | [`blob`] | downloading; knows nothing of Redis or actors |
//! | [`cache`] | what is asked of Redis; knows nothing of HTTP or the wire |
//! | [`redis`] | the client for Redis; knows nothing of caching |
//! | [`pipeline`] | the actors: order, flow, supervision |
//! | [`journal`] | what was accepted to be done later; dead letters |
//! | [`http`] | routes; outcome → status code and problem document; auth |
//! | [`telemetry`] | logging, metrics and their last minutes: names in one place |
//! | [`config`] | every setting: name, default, bounds, where it came from |
//! | [`cli`] | one file a command |
//!
//! What must stay true, and where a new line belongs, is in `docs/architecture.md`.
//!
//! # Locks
//!
//! Those of threads are held for a few lines; sessions, places and permits, which only tasks wait for, as long as the work takes. On the
//! path of an event one is taken under another in this order: `last`, `standing`, `direct`, `shared` or `reply`, a bucket, those of
//! `telemetry`. A panic under one leaves whole values behind, so the next holder goes on.
//!
//! | where | what it protects |
//! | --- | --- |
//! | `pipeline/work/key_order.rs`, one of 4,096 buckets | which keys have unfinished work, and whose |
//! | `pipeline/work/barriers.rs` | `standing` (readers, one writer): patterns in progress or interrupted, under it `written`: the keys written behind them; `last`: their order |
//! | `pipeline/work/reply.rs` | the outcomes of one request, until it is answered |
//! | `pipeline/fetch/direct.rs`, under it `fetch/shared.rs` | fetches that bypass the central router; the `FetchScheduler`; the permitted writes of large blobs |
//! | `pipeline/placement.rs`, `runtime/registry.rs`, `readiness.rs` | how many actors there are; their heartbeats; why a writer is down |
//! | `pipeline/write/writer.rs`, `write/scanner.rs` | a session, between the tasks of one actor (no other thread) |
//! | `pipeline/fetch/streaming.rs`, `MAX_STREAMS` places, and the places of each host; `http/page/key.rs`, `http/page/letters.rs`, two each | how many large blobs are passed on at once; how many keys and requests for dead letters the page looks at |
//! | `http/linger.rs` | how many connections that are ended are read on |
//! | `cache/embedded.rs` | looking at a version and writing, as one step |
//! | `redis/server.rs` | connections that must be killed before anything is sent; the longest value that the server took |
//! | `redis/cluster/topology.rs`, `redis/sentinel/discovery.rs` | who has which slot; who is the master, and the greatest epoch seen |
//! | `blob/lookups.rs`, `blob/client.rs` | names that are looked up; connections in use |
//! | `blob/store/renewal.rs`, `blob/store/credential.rs` | the credential that is lent; when secret files were read |
//! | `journal.rs`, `journal/feeder/hold.rs` | until when the journal is left alone, and what is wrong with it; the line that writes dead letters |
//! | `http/page/peers.rs` | what the other replicas answered last: one round of questions at a time for each token |
//! | `http/state.rs`, `http/unproven.rs` | the oldest request of each thread; bytes of unproven bodies |
//! | `http/sources.rs`, `cli/auth_reload.rs` | one change of settings at a time |
//! | `config/named.rs` | the list of settings of each named source and store, made once |
//! | `http/trust` | keys and certificates of senders, and how often they are fetched |
//! | `telemetry` | the history of the page, lines that wait for standard error, limits on repeated lines, names of senders |
//!
//! Admission (`pipeline/work/admission.rs`), the depth of the journal, the set of active writers and their pace are atomics. Settings that
//! may change are swapped as a whole (`ArcSwap`), so readers take no lock.

#![warn(missing_docs)]
// The documentation is for those who change the code, and is made with private items.
#![allow(rustdoc::private_intra_doc_links)]

/// A place where a test makes a real panic happen (`fail_point!`). Without the feature it is nothing, and the crate
/// `fail` is no part of the build.
#[cfg(feature = "failpoints")]
macro_rules! fail_point {
    ($name:literal) => {
        fail::fail_point!($name)
    };
}
#[cfg(not(feature = "failpoints"))]
macro_rules! fail_point {
    ($name:literal) => {};
}

pub mod blob;
pub mod cache;
pub mod cli;
pub mod config;
pub mod event;
pub mod http;
pub mod journal;
pub mod pipeline;
pub mod redis;
pub mod secret;
pub mod telemetry;
