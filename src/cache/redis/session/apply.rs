//! A batch on a session: part by part, each a pipeline, and what has to be read after it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::RedisSession;
use crate::cache::redis::batch::{self, EncodeOptions, ReplyReader, Step};
use crate::cache::redis::split::{Bounds, PipelineSplit, Survey, WINDOW_BYTES, Window, fits_one_pipeline};
use crate::cache::redis::wait::{self, Wait, Waited};
use crate::cache::redis::{unavailable, unexpected};
use crate::cache::{CacheError, Command, Reply, Room, Standing};
use crate::event::CacheKey;
use crate::event::outcome::COUNTED_FROM_BYTES;
use crate::redis::{Deadline, Encoder, Frame, Hint, MAX_OWN_BYTES, too_long};

/// Values that one call brings over, at most, and what the pipeline under way brings: the commands after that are not sent.
const MAX_HELD_BYTES: usize = 64 * 1024 * 1024;

/// In place of a result that a later step brings.
const NOT_READ: &str = "not read: an earlier command of the batch failed";

type Results = Vec<Result<Reply, CacheError>>;

impl RedisSession {
    pub(super) async fn apply_parts(&mut self, batch: &[Command], within: Duration) -> Results {
        let mut deadline = Deadline::new(within);
        let mut results = Results::with_capacity(batch.len());
        if batch.is_empty() {
            return results;
        }
        let survey = Survey::of(batch);
        let bounds = Bounds::new(survey.reads, self.shared.room.free_bytes());
        if fits_one_pipeline(batch, &survey) {
            let asked = Asked { survey, windows: &[], window_bytes: bounds.window_bytes };
            if let Err(error) = self.apply_part(batch, asked, &mut deadline, 0, &mut results).await {
                results.resize(batch.len(), Err(error));
            }
            return results;
        }
        results.resize(batch.len(), Err(CacheError::Postponed));
        let (mut parts, mut held) = (PipelineSplit::new(batch, bounds), 0);
        while let Some(part) = parts.next().filter(|_| held < MAX_HELD_BYTES) {
            let commands: Vec<Command> = part.places.iter().filter_map(|place| batch.get(*place)).cloned().collect();
            let (mut own, redirects) = (Results::with_capacity(commands.len()), self.redirects.len());
            let survey = Survey::of(&commands);
            let asked = Asked { survey, windows: &part.windows, window_bytes: bounds.window_bytes };
            let ended = self.apply_part(&commands, asked, &mut deadline, held, &mut own).await;
            if let Err(error) = &ended {
                own.resize(commands.len(), Err(error.clone()));
            }
            // Nothing of these was done, and those that follow on their keys are sent on to the same node.
            let elsewhere: HashSet<usize> = self.redirects.iter().skip(redirects).map(|(index, _)| *index).collect();
            if self.session.was_sent() || ended.is_ok() {
                mark_overtaken(&commands, &part.windows, &elsewhere, &mut own);
            }
            for (place, _) in self.redirects.iter_mut().skip(redirects) {
                *place = part.places.get(*place).copied().unwrap_or(*place);
            }
            parts.note(&part, &own, &elsewhere);
            for (place, result) in part.places.iter().zip(own) {
                if let Some(own) = results.get_mut(*place) {
                    *own = result;
                }
            }
            match ended {
                Ok(read) => held += read,
                Err(_) => break,
            }
        }
        results
    }

    /// Carries out one pipeline, and what has to be read after it; the bytes of values that it read. A failure ends the
    /// batch: commands that have no result by then fail with it.
    async fn apply_part(
        &mut self,
        segment: &[Command],
        asked: Asked<'_>,
        deadline: &mut Deadline,
        held: usize,
        results: &mut Results,
    ) -> Result<usize, CacheError> {
        let Survey { reads, long_value, .. } = asked.survey;
        if long_value.is_some_and(|bytes| self.session.server().length_limit().refuses(bytes, Instant::now())) {
            results.push(Err(too_long("SET").into()));
            return Ok(0);
        }
        let unread = self.send_part(segment, asked, deadline, results).await?;
        let large = self.read_empty(segment, unread, deadline, results).await?;
        if reads > 0 {
            let misses = results.iter().filter(|result| matches!(result, Ok(Reply::Miss))).count();
            self.expects_misses = misses > reads / 4;
        }
        let mut read = if reads > 0 { results.iter().map(hit_bytes).sum() } else { 0 };
        for index in large {
            let Some(Command::Get { key, max_bytes }) = segment.get(index) else { continue };
            let result = self.read_large(key.as_bytes(), *max_bytes, deadline, held + read).await;
            read += hit_bytes(&result);
            let failure = result.as_ref().err().filter(|error| matches!(error, CacheError::Unavailable(_))).cloned();
            if let Some(slot) = results.get_mut(index) {
                *slot = result;
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok(read)
    }

    /// The pipeline itself. Adds a result for each command that was answered; what has still to be read is returned.
    async fn send_part(
        &mut self,
        segment: &[Command],
        asked: Asked<'_>,
        deadline: &mut Deadline,
        results: &mut Results,
    ) -> Result<Unread, CacheError> {
        let Asked { survey, windows, window_bytes } = asked;
        let Survey { bytes, long_value: long, has_versions, .. } = survey;
        deadline.extend(bytes);
        let shared = self.shared.clone();
        let last = survey.last_for_replicas.and_then(|place| segment.get(place));
        let wait = last.and_then(|command| self.wait(command.key().as_bytes(), deadline, bytes));
        let options = EncodeOptions {
            version_keys: &shared.version_keys,
            with_exists: self.expects_misses,
            windows,
            window_bytes,
            with_scripts: !self.has_scripts && has_versions,
            singly: self.calls.singly(Instant::now),
            asking: self.asking,
            probes_length: long.is_some_and(|bytes| self.session.server().length_limit().is_doubtful(bytes)),
        };
        let largest = windows.iter().map(|window| window.bytes).fold(WINDOW_BYTES, usize::max);
        let known: usize = windows.iter().map(|window| window.bytes.saturating_sub(WINDOW_BYTES)).sum();
        deadline.extend(known);
        let buffer = self.session.take_buffer();
        let encoder = batch::encode(segment, bytes, options, wait.as_ref(), buffer);

        let mut frames = Vec::with_capacity(encoder.commands());
        let sent = self.exchange(encoder, largest, deadline, bytes + known, &mut frames).await;
        if let Some(bytes) = long {
            self.note_length(bytes, &frames, sent.is_ok());
        }
        let closed_over = long.filter(|_| options.probes_length).and_then(|bytes| self.closed_over(bytes));
        let sent = closed_over.map_or(sent, Err);

        let mut replies = ReplyReader::new(segment, options, self.take_note(frames, options.with_scripts));
        let unread = self.read_replies(&mut replies, results);
        self.calls.note(replies.refused_together, Instant::now);
        if let Some(wait) = &wait
            && let Err(error) = self.acknowledged(wait::waited(replies.into_frames(), wait), wait, deadline).await
        {
            let claimed = results.iter_mut().zip(segment).filter(|(result, own)| says_done(result, own));
            claimed.for_each(|(result, _)| *result = Err(error.clone()));
        }
        sent?;
        match self.session.has_connection() {
            true => Ok(unread),
            false => Err(unavailable("not sent: redis asked for a new connection")),
        }
    }

    /// Adds a result for each command that was answered. One that has still to be read has a failure in its place.
    fn read_replies(&mut self, replies: &mut ReplyReader<'_>, results: &mut Results) -> Unread {
        let mut unread = Unread::default();
        for step in replies {
            let place = results.len();
            results.push(match step {
                Step::Done(Ok(Reply::Hit(value))) => self.shared.room.hold(value).map(Reply::Hit),
                Step::Done(result) => result,
                Step::Elsewhere(redirect) => {
                    self.redirects.push((place, redirect));
                    Err(unavailable("another node of the cluster is to be asked"))
                }
                Step::Empty => {
                    unread.empty.push(place);
                    Err(unavailable(NOT_READ))
                }
                Step::ReadOn => {
                    unread.large.push(place);
                    Err(unavailable(NOT_READ))
                }
            });
        }
        unread
    }

    /// Tells empty values from none; the places of values that have to be read on their own.
    async fn read_empty(
        &mut self,
        segment: &[Command],
        unread: Unread,
        deadline: &Deadline,
        results: &mut Results,
    ) -> Result<Vec<usize>, CacheError> {
        let Unread { empty, mut large } = unread;
        if !empty.is_empty() {
            let exists = self.exists(&empty, segment, deadline).await?;
            for (index, frame) in empty.into_iter().zip(exists) {
                match (batch::decode_exists(frame), results.get_mut(index)) {
                    (Step::Done(result), Some(place)) => *place = result,
                    _ => large.push(index),
                }
            }
        }
        Ok(large)
    }

    /// Learns from what became of a long value.
    pub(super) fn note_length(&self, bytes: usize, frames: &[Frame], is_answered: bool) {
        let mut length_limit = self.session.server().length_limit();
        let is_refused = |frame: &Frame| matches!(frame, Frame::Error(code) if code.hint() == Some(Hint::TooLong));
        match is_answered {
            _ if frames.iter().any(is_refused) => length_limit.refused(bytes, Instant::now()),
            true => length_limit.taken(bytes),
            false if self.session.was_sent() => length_limit.lost(bytes),
            false => {}
        }
    }

    /// The connection was closed once more over a long value, although nothing spoke against its length. That is how Redis
    /// answers a value beyond `client-query-buffer-limit`.
    fn closed_over(&self, bytes: usize) -> Option<CacheError> {
        let cause = || {
            format!(
                "redis closed the connection again while it received a value of {bytes} bytes: is that more than its \
                 client-query-buffer-limit?"
            )
        };
        self.session.was_closed().then(|| unavailable(cause()))
    }

    /// Whether enough replicas have the last writes; asks once more if Redis was too full for that. What was deleted then
    /// counts.
    pub(super) async fn acknowledged(
        &mut self,
        waited: Waited,
        wait: &Wait,
        deadline: &Deadline,
    ) -> Result<(), CacheError> {
        let waited = match waited {
            Waited::Full if self.session.has_connection() => {
                let mut encoder = Encoder::new();
                encoder.ask(self.asking);
                wait::add_wait_when_full(&mut encoder, wait);
                let mut frames = Vec::new();
                match self.exchange(encoder, MAX_OWN_BYTES, deadline, 0, &mut frames).await {
                    Ok(()) => wait::waited(frames.into_iter().skip(1), wait),
                    Err(error) => Waited::Failed(error),
                }
            }
            waited => waited,
        };
        let ended = match waited {
            Waited::Enough => Ok(()),
            Waited::Full => Err(CacheError::RefusedForNow("redis answered OOM".into())),
            Waited::Failed(error) => Err(error),
        };
        self.lacks_replicas = ended.is_err();
        ended
    }

    /// Asks which of these commands' keys exist: the commands of a segment, by their places in the results.
    async fn exists(
        &mut self,
        places: &[usize],
        segment: &[Command],
        deadline: &Deadline,
    ) -> Result<Vec<Frame>, CacheError> {
        let mut encoder = Encoder::new();
        encoder.ask(self.asking);
        for command in places.iter().filter_map(|place| segment.get(*place)) {
            encoder.pack(&[b"EXISTS", command.key().as_bytes()]);
        }
        let mut frames = Vec::with_capacity(places.len());
        self.exchange(encoder, MAX_OWN_BYTES, deadline, 0, &mut frames).await?;
        Ok(frames)
    }

    /// Reads one value that does not fit in the window, or may be empty.
    async fn read_large(
        &mut self,
        key: &[u8],
        max_bytes: usize,
        deadline: &mut Deadline,
        held: usize,
    ) -> Result<Reply, CacheError> {
        let asking = self.asking;
        let ask = |name: &str| {
            let mut encoder = Encoder::new();
            encoder.ask(asking);
            encoder.command(|cmd| cmd.arg(name).arg(key));
            encoder
        };
        let mut frames = Vec::new();
        self.exchange(ask("STRLEN"), MAX_OWN_BYTES, deadline, 0, &mut frames).await?;
        let bytes = match frames.pop() {
            Some(Frame::Number(bytes)) => u64::try_from(bytes).map_err(|_| unexpected())?,
            Some(Frame::Error(code)) => return Err(code.to_error("STRLEN").into()),
            _ => return Err(unexpected()),
        };
        let allowed = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        let size = match usize::try_from(bytes) {
            Ok(size) if size <= max_bytes => size,
            _ => {
                return Err(CacheError::ValueTooLarge { bytes, max_bytes: allowed });
            }
        };
        if held > 0 && held.saturating_add(size) > MAX_HELD_BYTES {
            return Err(CacheError::Postponed);
        }
        let room = self.shared.room.clone();
        let loan = (size > COUNTED_FROM_BYTES).then(|| room.take(size)).transpose()?;
        deadline.extend(size);
        self.exchange(ask("GET"), max_bytes, deadline, size, &mut frames).await?;
        match frames.pop() {
            Some(Frame::Text(value)) => match loan.filter(|_| value.len() <= size) {
                Some(loan) => Ok(Reply::Hit(Room::fill(loan, value))),
                // A small one, or one that has grown meanwhile.
                None => room.hold(value).map(Reply::Hit),
            },
            Some(Frame::Nil) => Ok(Reply::Miss),
            Some(Frame::Error(code)) => Err(code.to_error("GET").into()),
            _ => Err(unexpected()),
        }
    }
}

/// Reads of a pipeline that are not at their end, by their places in the results.
#[derive(Default)]
struct Unread {
    /// Nothing, or an empty value.
    empty: Vec<usize>,
    /// The value is longer than the window.
    large: Vec<usize>,
}

/// What a part is, and how its GETs are asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    survey: Survey,
    /// In order; empty: each for so many bytes.
    windows: &'a [Window],
    window_bytes: usize,
}

/// A read that is to be repeated, while a later write on its key has been done or may have been, must not be.
fn mark_overtaken(commands: &[Command], windows: &[Window], elsewhere: &HashSet<usize>, results: &mut Results) {
    let mut overwritten = HashSet::<&CacheKey, ahash::RandomState>::default();
    let mut windows = windows.iter().rev();
    for (index, (command, result)) in commands.iter().zip(results.iter_mut()).enumerate().rev() {
        if command.is_write() {
            if !elsewhere.contains(&index) && matches!(result, Ok(_) | Err(CacheError::Unavailable(_))) {
                overwritten.insert(command.key());
            }
        } else if command.is_read()
            && windows.next().is_some_and(|window| window.is_followed)
            && overwritten.contains(command.key())
            && result.as_ref().is_err_and(CacheError::is_worth_retrying)
        {
            *result = Err(CacheError::Overtaken);
        }
    }
}

/// Whether it says that the cache has what the sender wants.
fn says_done(result: &Result<Reply, CacheError>, command: &Command) -> bool {
    match result {
        Ok(Reply::Seen(seen)) => seen.standing != Standing::Open,
        result => result.is_ok() && command.is_write(),
    }
}

fn hit_bytes(result: &Result<Reply, CacheError>) -> usize {
    match result {
        Ok(Reply::Hit(value)) => value.len(),
        _ => 0,
    }
}
