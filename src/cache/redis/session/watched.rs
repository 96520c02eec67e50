//! What is written in a transaction is looked at first, under `WATCH`: if anybody changes it in between, the transaction is refused
//! and nothing has happened.

use super::RedisSession;
use crate::cache::redis::batch::{Step, looked};
use crate::cache::redis::{unavailable, unexpected};
use crate::cache::{CacheError, Reply, Standing};
use crate::event::version::Version;
use crate::redis::{Deadline, Encoder, Frame, MAX_OWN_BYTES};

/// Redis has the time that so much would take beside its usual one: it may be busy with values that come in.
const BESIDE_BYTES: usize = 32 << 20;

impl RedisSession {
    /// What `work` makes of a version that it [watches](Self::watch). It is done on one connection: where that is lost, the
    /// server watches nothing any more, and `work` fails.
    pub(super) async fn on_one_connection<T>(&mut self, work: impl AsyncFnOnce(&mut Self) -> T) -> T {
        // A call that was dropped half-way may have left it pinned.
        self.session.pin(false);
        let done = work(self).await;
        self.session.pin(false);
        done
    }

    /// How a write with this version stands. From here on the version is watched, and with `and_value` the value too. What no
    /// write is to follow ends the watch with [`unwatch`](Self::unwatch).
    pub(super) async fn watch(
        &mut self,
        key: &[u8],
        version: &Version,
        and_value: bool,
        deadline: &Deadline,
    ) -> Result<Standing, CacheError> {
        let (mut encoder, version_key) = (Encoder::new(), self.shared.version_keys.version_key(key));
        match and_value {
            true => encoder.pack(&[b"WATCH", &version_key, key]),
            false => encoder.pack(&[b"WATCH", &version_key]),
        }
        self.shared.version_keys.look(&mut encoder, key);
        let mut frames = self.ask(encoder, "WATCH", deadline).await?.into_iter().skip(1);
        self.session.pin(true);
        let (Some(stored), Some(exists)) = (frames.next(), frames.next()) else { return Err(unexpected()) };
        match looked(Some(version), stored, exists) {
            Step::Done(Ok(Reply::Seen(seen))) => Ok(seen.standing),
            Step::Done(Err(error)) => Err(error),
            _ => Err(unavailable("another node of the cluster is to be asked")),
        }
    }

    /// Ends the watch without a write, which is answered so.
    pub(super) async fn unwatch(&mut self, reply: Reply, deadline: &Deadline) -> Result<Reply, CacheError> {
        self.session.pin(false);
        let mut encoder = Encoder::new();
        encoder.pack(&[b"UNWATCH"]);
        self.ask(encoder, "UNWATCH", deadline).await?;
        Ok(reply)
    }

    /// The replies to a pipeline, none of which is an error.
    pub(super) async fn ask(
        &mut self,
        encoder: Encoder,
        name: &'static str,
        deadline: &Deadline,
    ) -> Result<Vec<Frame>, CacheError> {
        let mut frames = Vec::new();
        self.exchange(encoder, MAX_OWN_BYTES, deadline, BESIDE_BYTES, &mut frames).await?;
        match frames.iter().find(|frame| matches!(frame, Frame::Error(_))) {
            Some(Frame::Error(code)) => Err(code.to_error(name).into()),
            _ => Ok(frames),
        }
    }
}
