//! Redis Cluster: which node has which slots, and a line to each node.

mod census;
mod lane;
mod topology;
mod view;

pub(crate) use self::census::{Census, Other, Told};
pub(crate) use self::lane::Lane;
pub(crate) use self::topology::{MAX_TOLD_BYTES, Scout, Topology};
pub(crate) use self::view::{Primary, View};
