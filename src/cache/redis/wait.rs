//! Whether replicas have what was written (`redis.wait_replicas`).

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use crate::cache::CacheError;
use crate::redis::{Encoder, Frame};

/// Writes a key of the service's own.
const MARK: &str = "redis.call('UNLINK', KEYS[1]) return redis.call('SET', KEYS[1], 1, 'PX', 1000)";
static DIGEST: LazyLock<String> = LazyLock::new(|| Script::new(MARK).get_hash().to_owned());

/// What `redis.wait_replicas` adds to a pipeline that writes.
pub(super) struct Wait {
    pub(super) replicas: u32,
    pub(super) within: Duration,
    /// A key of the service's own, written so that there is something to wait for.
    pub(super) key: Vec<u8>,
}

/// Adds `WAIT`, and before it a write of our own. `WAIT` promises something about the last write of *this* connection
/// only. A DELETE repeated on a new connection finds nothing to delete any more and so writes nothing: without a write to
/// wait for it could pass before the first one has reached a replica.
pub(super) fn add_wait(encoder: &mut Encoder, wait: &Wait) {
    let within_ms = u64::try_from(wait.within.as_millis()).unwrap_or(u64::MAX).max(1);
    encoder.command(|cmd| cmd.arg("SET").arg(&wait.key[..]).arg(1).arg("PX").arg(1000));
    encoder.command(|cmd| cmd.arg("WAIT").arg(wait.replicas).arg(within_ms));
}

/// The same for a Redis that is full. `SET` is refused there, and deletions are not. A script may write on once it has begun
/// to: so this one begins with a deletion. Its first reply, to `SCRIPT LOAD`, says nothing.
pub(super) fn add_wait_when_full(encoder: &mut Encoder, wait: &Wait) {
    let within_ms = u64::try_from(wait.within.as_millis()).unwrap_or(u64::MAX).max(1);
    encoder.pack(&[b"SCRIPT", b"LOAD", MARK.as_bytes()]);
    encoder.command(|cmd| cmd.arg("EVALSHA").arg(DIGEST.as_str()).arg(1).arg(&wait.key[..]));
    encoder.command(|cmd| cmd.arg("WAIT").arg(wait.replicas).arg(within_ms));
}

/// What the replies to `add_wait` say.
pub(super) enum Waited {
    Enough,
    /// Redis has no memory for the write of our own: nothing was waited for.
    Full,
    Failed(CacheError),
}

pub(super) fn waited(mut frames: impl Iterator<Item = Frame>, wait: &Wait) -> Waited {
    match (frames.next(), frames.next()) {
        (Some(Frame::Error(code)), Some(_)) if code.as_str() == "OOM" => Waited::Full,
        (Some(Frame::Error(code)), Some(_)) | (Some(_), Some(Frame::Error(code))) => {
            Waited::Failed(code.to_error("WAIT").into())
        }
        (Some(Frame::Status), Some(Frame::Number(replicas))) if replicas >= i64::from(wait.replicas) => Waited::Enough,
        _ => Waited::Failed(CacheError::Unavailable("too few replicas acknowledged the write".into())),
    }
}
