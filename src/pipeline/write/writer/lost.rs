//! What of a batch under way is repeated after its writer was restarted.

use std::collections::HashSet;
use std::time::Instant;

use ahash::RandomState;

use crate::cache::{CacheError, Command};
use crate::event::CacheKey;
use crate::event::outcome::{Outcome, ProblemKind};
use crate::pipeline::write::queue::Pending;

/// Restarts an operation in flight survives; one that brings its writer down each time must end.
const MAX_CRASHES: u8 = 5;

/// The operations that are to be repeated, in order; the others are answered. Nobody knows what of the batch was done, so a
/// read is not among them that has a write of its key behind it: read once more, it might see that.
pub(super) fn to_repeat(commands: Vec<Command>, pending: Vec<Pending>, now: Instant) -> Vec<(Command, Pending)> {
    let mut written = HashSet::<CacheKey, RandomState>::default();
    let mut again = Vec::with_capacity(commands.len());
    for (command, mut pending) in commands.into_iter().zip(pending).rev() {
        if command.is_write() {
            written.insert(command.key().clone());
        } else if command.is_read() && written.contains(command.key()) {
            let detail = CacheError::Overtaken.to_string();
            pending.end.fail(Outcome::failed(ProblemKind::Interrupted, detail), now);
            continue;
        }
        pending.crashes += 1;
        if pending.crashes <= MAX_CRASHES {
            again.push((command, pending));
        }
    }
    again.reverse();
    again
}
