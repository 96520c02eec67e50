//! A batch on a session: segment by segment, each a pipeline, and what has to be read after it.

use std::time::Duration;

use super::RedisSession;
use crate::cache::redis::MAX_OWN_BYTES;
use crate::cache::redis::batch::{self, Answers, Manner, Step, WINDOW_BYTES};
use crate::cache::redis::budget::Budget;
use crate::cache::redis::connection::unavailable;
use crate::cache::redis::encode::Outbox;
use crate::cache::redis::reply::Frame;
use crate::cache::{CacheError, Command, Reply};

/// Values that one call brings over, at most (or a single larger one): the commands after that are not sent.
const MAX_HELD_BYTES: usize = 128 * 1024 * 1024;

impl RedisSession {
    pub(super) async fn apply_segments(
        &mut self,
        batch: &[Command],
        within: Duration,
        results: &mut Vec<Result<Reply, CacheError>>,
    ) -> Result<(), CacheError> {
        let mut budget = Budget::new(within);
        let mut held = 0;
        while let Some(rest) = batch.get(results.len()..).filter(|rest| !rest.is_empty()) {
            if held >= MAX_HELD_BYTES {
                return Err(unavailable("not sent: the values read before it are all that one call may hold"));
            }
            let segment = rest.get(..batch::segment_length(rest)).unwrap_or(rest);
            held += self.apply_segment(segment, &mut budget, held, results).await?;
        }
        Ok(())
    }

    /// Carries out a segment; how many bytes of values it read. A failure ends the batch: what has no result by then
    /// fails with it.
    async fn apply_segment(
        &mut self,
        segment: &[Command],
        budget: &mut Budget,
        held: usize,
        results: &mut Vec<Result<Reply, CacheError>>,
    ) -> Result<usize, CacheError> {
        let bytes = segment.iter().map(Command::weight).sum();
        budget.extend(bytes);
        let shared = self.shared.clone();
        let written = segment.iter().rfind(|command| command.is_write());
        let wait = written.and_then(|command| self.wait(command.key().as_bytes(), budget, bytes));
        let with_scripts = !self.has_scripts && segment.iter().any(|command| command.version().is_some());
        let (with_exists, singly, asking) = (self.expects_misses, self.singly, self.asking);
        let manner = Manner { guard: &shared.guard, with_exists, with_scripts, singly, asking };
        let room = self.connection.as_mut().map(|held| held.connection.take_room()).unwrap_or_default();
        let outbox = batch::encode(segment, bytes, manner, wait.as_ref(), room);

        let mut frames = Vec::with_capacity(outbox.commands());
        let sent = self.exchange(outbox, WINDOW_BYTES, budget, bytes, &mut frames).await;

        let start = results.len();
        let (mut empty, mut large) = (Vec::new(), Vec::new());
        let mut answers = Answers::new(segment, manner, self.take_note(frames, with_scripts));
        for step in &mut answers {
            let list = match step {
                Step::Done(result) => {
                    results.push(result);
                    continue;
                }
                Step::Elsewhere(redirect) => {
                    self.redirects.push((results.len(), redirect));
                    results.push(Err(unavailable("another node of the cluster is to be asked")));
                    continue;
                }
                Step::Empty => &mut empty,
                Step::ReadOn => &mut large,
            };
            list.push(results.len());
            results.push(Err(unavailable("not read: an earlier command of the batch failed")));
        }
        self.singly.sets |= answers.refused_together.sets;
        self.singly.versions |= answers.refused_together.versions;
        let waited = wait.as_ref().map(|wait| batch::waited(answers.into_frames(), wait));
        self.lacks_replicas = waited.as_ref().map_or(self.lacks_replicas, Result::is_err);
        if let Some(Err(error)) = waited {
            for (result, command) in results.iter_mut().skip(start).zip(segment) {
                if result.is_ok() && command.is_write() {
                    *result = Err(error.clone());
                }
            }
        }
        sent?;
        if self.connection.is_none() {
            return Err(unavailable("not sent: redis asked for a new connection"));
        }
        if !empty.is_empty() {
            let exists = self.exists(&empty, segment, start, budget).await?;
            for (index, frame) in empty.into_iter().zip(exists) {
                match (batch::decode_exists(frame), results.get_mut(index)) {
                    (Step::Done(result), Some(place)) => *place = result,
                    _ => large.push(index),
                }
            }
        }
        let reads = segment.iter().filter(|command| !command.is_write()).count();
        if reads > 0 {
            let misses = results.iter().skip(start).filter(|result| matches!(result, Ok(Reply::Miss))).count();
            self.expects_misses = misses > reads / 4;
        }
        let mut read = results.iter().skip(start).map(hit_bytes).sum();
        for index in large {
            let Some(Command::Get { key, max_bytes }) = segment.get(index - start) else {
                continue;
            };
            let result = self.read_large(key.as_bytes(), *max_bytes, budget, held + read).await;
            read += hit_bytes(&result);
            // A later write to the key must not come before the repetition of this read.
            let failure = result.clone().err().filter(CacheError::is_worth_retrying);
            if let Some(slot) = results.get_mut(index) {
                *slot = result;
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok(read)
    }

    /// Asks which of these commands' keys exist: the commands of a segment, by their places in the results.
    async fn exists(
        &mut self,
        places: &[usize],
        segment: &[Command],
        start: usize,
        budget: &Budget,
    ) -> Result<Vec<Frame>, CacheError> {
        let mut outbox = Outbox::new();
        outbox.ask(self.asking);
        for command in places.iter().filter_map(|place| segment.get(place - start)) {
            outbox.pack(&[b"EXISTS", command.key().as_bytes()]);
        }
        let mut frames = Vec::with_capacity(places.len());
        self.exchange(outbox, MAX_OWN_BYTES, budget, 0, &mut frames).await?;
        Ok(frames)
    }

    /// Reads one value that does not fit in the window, or may be empty.
    async fn read_large(
        &mut self,
        key: &[u8],
        max_bytes: usize,
        budget: &mut Budget,
        held: usize,
    ) -> Result<Reply, CacheError> {
        let asking = self.asking;
        let ask = |name: &str| {
            let mut outbox = Outbox::new();
            outbox.ask(asking);
            outbox.command(|cmd| cmd.arg(name).arg(key));
            outbox
        };
        let mut frames = Vec::new();
        self.exchange(ask("STRLEN"), MAX_OWN_BYTES, budget, 0, &mut frames).await?;
        let bytes = match frames.pop() {
            Some(Frame::Number(bytes)) => u64::try_from(bytes).map_err(|_| batch::unexpected())?,
            Some(Frame::Error(code)) => return Err(code.to_error("STRLEN")),
            _ => return Err(batch::unexpected()),
        };
        let allowed = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        let size = match usize::try_from(bytes) {
            Ok(size) if size <= max_bytes => size,
            _ => {
                return Err(CacheError::ValueTooLarge { bytes, max_bytes: allowed });
            }
        };
        if held > 0 && held.saturating_add(size) > MAX_HELD_BYTES {
            return Err(unavailable("not read: the values read before it are all that one call may hold"));
        }
        budget.extend(size);
        self.exchange(ask("GET"), max_bytes, budget, size, &mut frames).await?;
        match frames.pop() {
            Some(Frame::Text(value)) => Ok(Reply::Hit(value)),
            Some(Frame::Nil) => Ok(Reply::Miss),
            Some(Frame::Error(code)) => Err(code.to_error("GET")),
            _ => Err(batch::unexpected()),
        }
    }
}

fn hit_bytes(result: &Result<Reply, CacheError>) -> usize {
    match result {
        Ok(Reply::Hit(value)) => value.len(),
        _ => 0,
    }
}
