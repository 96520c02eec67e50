//! A long value that is let stand. Redis digests it piece by piece, each in a call of its own, and does something else in
//! between; key and version are watched all the while, so nothing is done if anybody changes them.

use sha1::{Digest, Sha1};

use super::RedisSession;
use crate::cache::redis::batch::{Step, looked};
use crate::cache::redis::versioned::DIGEST;
use crate::cache::redis::{unavailable, unexpected};
use crate::cache::remembered::{PIECE_BYTES, Remembered};
use crate::cache::{CacheError, Command, Reply, Standing};
use crate::event::CacheKey;
use crate::event::version::Version;
use crate::redis::{Deadline, Encoder, Frame, MAX_OWN_BYTES};

impl RedisSession {
    /// Carries out a [`Command::Refresh`]; any other command it refuses.
    pub(in crate::cache::redis) async fn refresh_in_steps(
        &mut self,
        refresh: &Command,
        deadline: &Deadline,
    ) -> Result<Reply, CacheError> {
        let Command::Refresh { key, ttl, version, remembered } = refresh else { return Err(unexpected()) };
        let print = remembered.print;
        let (standing, bytes) = self.watch(key, version, deadline).await?;
        if standing != Standing::Open {
            return self.unwatch(Reply::Superseded, deadline).await;
        }
        if bytes != print.bytes() || !self.is_known_again(key, remembered, deadline).await? {
            return self.unwatch(Reply::Changed, deadline).await;
        }
        let mut encoder = Encoder::new();
        encoder.pack(&[b"MULTI"]);
        match ttl {
            Some(ttl) => encoder.pack(&[b"EXPIRE", key.as_bytes(), ttl.seconds().to_string().as_bytes()]),
            None => encoder.pack(&[b"PERSIST", key.as_bytes()]),
        }
        self.shared.version_keys.keep_version(&mut encoder, key.as_bytes(), version, Some(remembered));
        encoder.pack(&[b"EXEC"]);
        let frames = self.ask(encoder, "EXEC", deadline).await?;
        if matches!(frames.last(), Some(Frame::Nil)) {
            return Ok(Reply::Changed);
        }
        self.wait_for_replicas(key.as_bytes(), 0, deadline).await?;
        Ok(Reply::Unchanged)
    }

    /// Watches the key and its version: how the write stands, and how long the value is.
    async fn watch(
        &mut self,
        key: &CacheKey,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<(Standing, u64), CacheError> {
        let mut encoder = Encoder::new();
        encoder.pack(&[b"SCRIPT", b"LOAD", DIGEST.text.as_bytes()]);
        encoder.pack(&[b"WATCH", &self.shared.version_keys.version_key(key.as_bytes()), key.as_bytes()]);
        self.shared.version_keys.look(&mut encoder, key.as_bytes());
        encoder.pack(&[b"STRLEN", key.as_bytes()]);
        let mut frames = self.ask(encoder, "WATCH", deadline).await?.into_iter().skip(2);
        let (Some(stored), Some(exists), Some(Frame::Number(bytes))) = (frames.next(), frames.next(), frames.next())
        else {
            return Err(unexpected());
        };
        let bytes = u64::try_from(bytes).map_err(|_| unexpected())?;
        match looked(version, stored, exists) {
            Step::Done(Ok(Reply::Seen(seen))) => Ok((seen.standing, bytes)),
            Step::Done(Err(error)) => Err(error),
            _ => Err(unavailable("another node of the cluster is to be asked")),
        }
    }

    async fn is_known_again(
        &mut self,
        key: &CacheKey,
        remembered: &Remembered,
        deadline: &Deadline,
    ) -> Result<bool, CacheError> {
        let mut whole = Sha1::new();
        for from in (0..remembered.print.bytes()).step_by(PIECE_BYTES) {
            let (first, last) = (from.to_string(), (from + PIECE_BYTES as u64 - 1).to_string());
            let mut encoder = Encoder::new();
            let digest = DIGEST.digest.as_bytes();
            encoder.pack(&[b"EVALSHA", digest, b"1", key.as_bytes(), first.as_bytes(), last.as_bytes()]);
            match self.ask(encoder, "EVALSHA", deadline).await?.pop() {
                Some(Frame::Text(digest)) => whole.update(&digest),
                _ => return Err(unexpected()),
            }
        }
        Ok(remembered.print.is_of_pieces(whole))
    }

    async fn unwatch(&mut self, reply: Reply, deadline: &Deadline) -> Result<Reply, CacheError> {
        let mut encoder = Encoder::new();
        encoder.pack(&[b"UNWATCH"]);
        self.ask(encoder, "UNWATCH", deadline).await?;
        Ok(reply)
    }

    /// Its replies, none of which is an error.
    async fn ask(
        &mut self,
        encoder: Encoder,
        name: &'static str,
        deadline: &Deadline,
    ) -> Result<Vec<Frame>, CacheError> {
        let mut frames = Vec::new();
        self.exchange(encoder, MAX_OWN_BYTES, deadline, 0, &mut frames).await?;
        match frames.iter().find(|frame| matches!(frame, Frame::Error(_))) {
            Some(Frame::Error(code)) => Err(code.to_error(name).into()),
            _ => Ok(frames),
        }
    }
}
