//! The contract, tested from outside: the real daemon, a real Redis, a real blob server. One file a behaviour.

mod admin_port;
mod auth;
mod batches;
mod blobs;
mod clear;
mod connections;
mod dead_letters;
mod demo;
mod docs;
mod events;
mod exemplars;
#[cfg(feature = "failpoints")]
mod failpoints;
#[path = "../torture/proxy.rs"]
#[allow(dead_code)]
mod faulty_way;
mod fetch_limits;
mod fetched_once;
mod folder;
mod healthcheck;
#[cfg(target_os = "linux")]
mod hostile;
mod invalid;
mod invalid_data;
mod journal;
mod journal_replicas;
mod lent_credentials;
mod lifecycle;
mod limits;
mod logs;
mod metrics;
#[path = "../cache/middlebox.rs"]
#[allow(dead_code)]
mod middlebox;
mod monitoring;
mod openapi;
mod order;
mod order_model;
mod outages;
mod outcomes;
mod page;
mod page_health;
mod page_key;
mod page_replicas;
mod patterns;
mod problems;
mod proxy;
mod read_ahead;
mod real_files;
mod reconcile;
mod recovery;
mod refused_redis;
mod reload;
mod repeated;
mod replicas;
mod resources;
mod rights;
mod room;
mod rotated_secrets;
mod secrets;
mod send;
mod settings;
mod source_captured;
mod source_hostile;
mod source_order;
mod source_posters;
mod sources;
mod store_secrets;
mod stores;
mod streamed;
mod support;
mod tls;
mod trace;
mod trace_of_events;
mod traces;
mod upkeep;
mod versions;
mod webhooks;
