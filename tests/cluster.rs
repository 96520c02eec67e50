//! Redis Cluster and Sentinel: every key where it belongs, in order, while slots move and servers die.
//!
//! `CLUSTER_ROUNDS` says how often a primary and a master are killed under load; a few times if it is not set.

#[path = "cluster/client.rs"]
mod client;
#[path = "cluster/failover.rs"]
mod failover;
#[path = "cluster/handed_over.rs"]
mod handed_over;
#[path = "e2e/support/mod.rs"]
#[allow(unused_imports)]
mod harness;
#[path = "cluster/journal.rs"]
mod journal;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/patterns.rs"]
mod patterns;
#[path = "cluster/replicas.rs"]
mod replicas;
#[path = "cluster/routing.rs"]
mod routing;
#[path = "cluster/secured.rs"]
mod secured;
#[path = "cluster/sentinels.rs"]
mod sentinels;
#[path = "cluster/servers/mod.rs"]
#[allow(dead_code)]
mod servers;
#[path = "cluster/slots.rs"]
mod slots;
#[path = "cluster/sources.rs"]
mod sources;
#[path = "cluster/streamed.rs"]
mod streamed;
#[path = "cluster/tags.rs"]
mod tags;
