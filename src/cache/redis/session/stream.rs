//! A value that goes to Redis while it comes in.
//!
//! Without a version it is one `SET`. With one, the version is looked at under `WATCH`, and value and version are written in
//! one transaction: a script would have Redis copy the value twice, and do nothing else meanwhile. If anybody changes the
//! version in between, the transaction is refused and nothing has happened.

use std::time::{Duration, Instant};

use super::RedisSession;
use crate::cache::redis::unexpected;
use crate::cache::redis::wait::{add_wait, waited};
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
        let (key, bytes) = (value.key.as_bytes().to_vec(), value.bytes);
        let reply = self.on_one_connection(async |session| session.send_if_newer(value, &deadline).await).await?;
        // What is superseded may be so by an earlier attempt of the same write.
        if matches!(reply, Reply::Stored | Reply::Superseded) {
            self.wait_for_replicas(&key, bytes, &deadline).await?;
        }
        Ok(reply)
    }

    async fn send_if_newer(&mut self, value: Incoming<'_>, deadline: &Deadline) -> Result<Reply, StreamError> {
        if let Some(version) = value.version
            && self.watch(value.key.as_bytes(), version, false, deadline).await? != Standing::Open
        {
            return Ok(self.unwatch(Reply::Superseded, deadline).await?);
        }
        self.send_incoming(value, deadline).await
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
