//! What travels between the stages, and what all of them share: operations and their replies, admission, the order of
//! keys, and where the time went. No actor lives here.

pub mod admission;
pub mod barriers;
pub mod key_order;
pub mod operation;
pub mod question;
pub mod reply;
pub mod timing;
pub mod validity;
pub mod weight;

/// A place in the order of acceptance.
pub type Seq = u64;
