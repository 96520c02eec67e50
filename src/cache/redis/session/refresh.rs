//! A long value that is let stand. Redis digests it piece by piece, each in a call of its own, and does something else in
//! between; key and version are watched all the while, so nothing is done if anybody changes them.

use sha1::{Digest, Sha1};

use super::RedisSession;
use crate::cache::redis::unexpected;
use crate::cache::redis::versioned::DIGEST;
use crate::cache::remembered::{PIECE_BYTES, Remembered};
use crate::cache::{CacheError, Command, Reply, Standing};
use crate::event::CacheKey;
use crate::redis::{Deadline, Encoder, Frame};

impl RedisSession {
    /// Carries out a [`Command::Refresh`]; any other command it refuses.
    pub(in crate::cache::redis) async fn refresh_in_steps(
        &mut self,
        refresh: &Command,
        deadline: &Deadline,
    ) -> Result<Reply, CacheError> {
        let reply = self.on_one_connection(async |session| session.refresh_watched(refresh, deadline).await).await?;
        if matches!(reply, Reply::Unchanged | Reply::Superseded) {
            self.wait_for_replicas(refresh.key().as_bytes(), 0, deadline).await?;
        }
        Ok(reply)
    }

    async fn refresh_watched(&mut self, refresh: &Command, deadline: &Deadline) -> Result<Reply, CacheError> {
        let Command::Refresh { key, ttl, version, remembered } = refresh else { return Err(unexpected()) };
        if self.watch(key.as_bytes(), version, true, deadline).await? != Standing::Open {
            return self.unwatch(Reply::Superseded, deadline).await;
        }
        match self.holds(key, remembered, deadline).await {
            Ok(true) => {}
            // Somebody has put a list there, say: that is another value too.
            Ok(false) | Err(CacheError::WrongType) => return self.unwatch(Reply::Changed, deadline).await,
            Err(error) => return Err(error),
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
        Ok(if matches!(frames.last(), Some(Frame::Nil)) { Reply::Changed } else { Reply::Unchanged })
    }

    /// How long the value is. The server knows the script behind it that digests a piece.
    async fn length(&mut self, key: &CacheKey, deadline: &Deadline) -> Result<u64, CacheError> {
        let mut encoder = Encoder::new();
        encoder.pack(&[b"SCRIPT", b"LOAD", DIGEST.text.as_bytes()]);
        encoder.pack(&[b"STRLEN", key.as_bytes()]);
        match self.ask(encoder, "STRLEN", deadline).await?.pop() {
            Some(Frame::Number(bytes)) => u64::try_from(bytes).map_err(|_| unexpected()),
            _ => Err(unexpected()),
        }
    }

    /// Whether the key holds what is remembered.
    async fn holds(&mut self, key: &CacheKey, it: &Remembered, deadline: &Deadline) -> Result<bool, CacheError> {
        Ok(self.length(key, deadline).await? == it.print.bytes() && self.is_known_again(key, it, deadline).await?)
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
}
