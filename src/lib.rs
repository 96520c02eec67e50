//! Keeps Redis in step with blob storage: events in over HTTP, blobs fetched, Redis written in order.
//!
pub mod blob;
pub mod cache;
pub mod event;
pub mod http;
pub mod pipeline;
pub mod telemetry;
