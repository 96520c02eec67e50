//! What the holder does with the stream: reads on, and trims what is done.

use std::time::Duration;

use super::Parts;
use super::take_in::{Raw, entries};
use crate::journal::READ;
use crate::journal::link::{Link, LinkError, Value, args};
use crate::journal::window::Done;

const TRIM: &str = include_str!("../scripts/trim.lua");

/// Entries and bytes that are read at a time.
const MAX_READ_ENTRIES: u64 = 512;
const MAX_READ_BYTES: u64 = 1 << 20;
/// How long a read waits for something new.
const BLOCK_MS: u64 = 1000;
/// What stands behind an entry; waits a while for something.
pub async fn read(mut link: Link, stream: String, after: String) -> (Link, Result<Vec<Raw>, LinkError>) {
    let command = args!["EVAL", READ, 1_u64, &stream, &after, MAX_READ_ENTRIES, MAX_READ_BYTES];
    let found = match link.one(command).await {
        Ok(reply) => entries(reply.list()),
        Err(error) => return (link, Err(error)),
    };
    if !found.is_empty() {
        return (link, Ok(found));
    }
    let command = args!["XREAD", "COUNT", 1_u64, "BLOCK", BLOCK_MS, "STREAMS", &stream, &after];
    match link.wait_for(command, Duration::from_millis(BLOCK_MS)).await {
        Ok(reply) => {
            let of_stream = reply.list().first().and_then(|stream| stream.list().get(1));
            let found = of_stream.map(|found| entries(found.list())).unwrap_or_default();
            (link, Ok(found))
        }
        Err(error) => (link, Err(error)),
    }
}

/// Trims the stream up to the last entry that is done; a number below 0 is answered if somebody else has the lease.
pub async fn trim(parts: Parts, mut link: Link, done: Done) -> (Link, Result<Value, LinkError>) {
    let keys = &parts.journal.shared.keys;
    let stays = behind(&done.last);
    let command = args![
        "EVAL",
        TRIM,
        3_u64,
        &keys.lease,
        &keys.stream,
        &keys.events,
        &parts.journal.shared.holder,
        stays,
        done.events
    ];
    let trimmed = link.one(command).await;
    (link, trimmed)
}

/// The least id behind this one.
fn behind(id: &str) -> String {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match id.split_once('-') {
        Some((millis, sequence)) => match number(sequence).checked_add(1) {
            Some(next) => format!("{millis}-{next}"),
            None => format!("{}-0", number(millis).saturating_add(1)),
        },
        None => format!("{id}-1"),
    }
}
