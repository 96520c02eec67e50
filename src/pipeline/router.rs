//! Which operation may go on, and where. The [`local`] part runs on each HTTP worker's thread and takes what need not
//! wait; the [`central`] part holds what has to wait, in [`lanes`] by key.

pub mod central;
pub mod lanes;
pub mod local;
pub mod matching;
