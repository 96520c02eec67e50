//! Redis Cluster: which node has which slots, and a line to each node.

mod node_link;
mod slot_map;
mod slot_ownership;
mod topology;

pub(crate) use self::node_link::{NodeLink, NodeTimeouts};
pub(crate) use self::slot_map::{Primary, SlotMap};
pub(crate) use self::slot_ownership::{KnownPrimary, NodeReport, SlotOwnership};
pub(crate) use self::topology::{MAX_REPORT_BYTES, Topology, TopologyRefresher};
