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
