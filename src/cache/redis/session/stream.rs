//! A value that goes to Redis while it comes in.
//!
//! Without a version it is one `SET`. With one, the version is looked at under `WATCH`, and value and version are written in
//! one transaction: a script would have Redis copy the value twice, and do nothing else meanwhile. If anybody changes the
//! version in between, the transaction is refused and nothing has happened.

use std::time::{Duration, Instant};

use super::RedisSession;
use crate::cache::redis::batch::{Step, looked};
use crate::cache::redis::wait::{add_wait, waited};
use crate::cache::redis::{unavailable, unexpected};
use crate::cache::{CacheError, Incoming, Reply, Standing, StreamError};
use crate::redis::{Deadline, Encoder, Frame, MAX_OWN_BYTES, Streamed, time_for_bytes, too_long};

impl RedisSession {
    pub(in crate::cache::redis) async fn take_in(
        &mut self,
        value: Incoming<'_>,
        within: Duration,
    ) -> Result<Reply, StreamError> {
        if self.session.server().length_limit().refuses(value.bytes, Instant::now()) {
            return Err(CacheError::from(too_long("SET")).into());
        }
        let response_timeout = self.session.server().settings().response_timeout;
        let deadline = Deadline::new(within + response_timeout + time_for_bytes(value.bytes));
        let key = value.key.as_bytes().to_vec();
        if let Some(reply) = self.look_before(&value, &deadline).await? {
            return Ok(reply);
        }
        let bytes = value.bytes;
        let reply = self.send_incoming(value, &deadline).await?;
        if reply == Reply::Stored {
            self.wait_for_replicas(&key, bytes, &deadline).await?;
        }
        Ok(reply)
    }

    /// If it is asked for, until enough replicas have what was written last on this connection.
    pub(super) async fn wait_for_replicas(
        &mut self,
        key: &[u8],
        bytes: usize,
        deadline: &Deadline,
    ) -> Result<(), CacheError> {
        let Some(wait) = self.wait(key, deadline, bytes) else { return Ok(()) };
        let (mut encoder, mut frames) = (Encoder::new(), Vec::new());
        add_wait(&mut encoder, &wait);
        self.exchange(encoder, MAX_OWN_BYTES, deadline, 0, &mut frames).await?;
        self.acknowledged(waited(frames.into_iter(), &wait), &wait, deadline).await
    }

    /// With a version: what stands against the write, from here on under watch; None: nothing does.
    async fn look_before(&mut self, value: &Incoming<'_>, deadline: &Deadline) -> Result<Option<Reply>, CacheError> {
        let Some(version) = value.version else { return Ok(None) };
        let (mut encoder, mut frames) = (Encoder::new(), Vec::new());
        let version_key = self.shared.version_keys.version_key(value.key.as_bytes());
        encoder.pack(&[b"WATCH", &version_key]);
        self.shared.version_keys.look(&mut encoder, value.key.as_bytes());
        self.exchange(encoder, MAX_OWN_BYTES, deadline, 0, &mut frames).await?;
        let mut frames = frames.into_iter();
        match frames.next() {
            Some(Frame::Status) => {}
            Some(Frame::Error(code)) => return Err(code.to_error("WATCH").into()),
            _ => return Err(unexpected()),
        }
        let (Some(stored), Some(exists)) = (frames.next(), frames.next()) else { return Err(unexpected()) };
        match looked(version, stored, exists) {
            Step::Done(Ok(Reply::Seen(seen))) if seen.standing == Standing::Open => Ok(None),
            Step::Done(Ok(_)) => {
                let mut encoder = Encoder::new();
                encoder.pack(&[b"UNWATCH"]);
                self.exchange(encoder, MAX_OWN_BYTES, deadline, 0, &mut Vec::new()).await?;
                Ok(Some(Reply::Superseded))
            }
            Step::Done(Err(error)) => Err(error),
            _ => Err(unavailable("another node of the cluster is to be asked")),
        }
    }

    async fn send_incoming(&mut self, value: Incoming<'_>, deadline: &Deadline) -> Result<Reply, StreamError> {
        let Incoming { key, bytes, ttl, version, remembered, pieces } = value;
        let mut head = Encoder::new();
        if version.is_some() {
            head.pack(&[b"MULTI"]);
        }
        head.begin(if ttl.is_some() { 5 } else { 3 });
        head.argument(b"SET");
        head.argument(key.as_bytes());
        head.open_value(bytes);
        let shared = self.shared.clone();
        let tail = || {
            let mut tail = Encoder::after_value();
            if let Some(ttl) = ttl {
                tail.argument(b"EX");
                tail.number(ttl.seconds());
            }
            if let Some(version) = version {
                shared.version_keys.keep_version(&mut tail, key.as_bytes(), version, remembered().as_ref());
                tail.pack(&[b"EXEC"]);
            }
            tail
        };
        let replies = if version.is_some() { 2 } else { 0 };
        let (streamed, mut frames) = (Streamed { head, bytes, pieces, tail: &tail, replies }, Vec::new());
        let sent = self.session.stream(streamed, MAX_OWN_BYTES, deadline, &mut frames).await;
        self.note_connection();
        self.note_length(bytes, &frames, sent.is_ok());
        sent?;
        if let Some(Frame::Error(code)) = frames.iter().find(|frame| matches!(frame, Frame::Error(_))) {
            return Err(CacheError::from(code.to_error("SET")).into());
        }
        match (version.is_some(), frames.last()) {
            // What the transaction was to be done under has changed.
            (true, Some(Frame::Nil)) => Ok(Reply::Changed),
            (_, Some(Frame::Status)) => Ok(Reply::Stored),
            _ => Err(unexpected().into()),
        }
    }
}
