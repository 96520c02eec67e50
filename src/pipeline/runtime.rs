//! What keeps actors running: mailboxes whose messages cannot be lost without a trace, supervision, heartbeats, and pools
//! of actors of one kind. Nothing here knows what the actors do.

pub mod pool;
pub mod supervision;
