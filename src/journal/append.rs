//! The appender: one line to the journal's Redis on each HTTP worker's thread, with group commit. What is waiting goes as one
//! pipeline, and one is in flight at a time.
//!
//! A pipeline whose replies are lost answers all it carried as unavailable, once none of it can land any more: whether an event
//! of it was taken on is not known, and the sender repeats it.

mod group;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::{info, warn};
use tokio::sync::oneshot;

use self::group::{AppendGroup, AppendLine, GroupEnd};
pub(super) use self::group::{GUARD, WAIT_MS, block, kept};
use super::dead::DeadLetter;
use super::link::{Args, LinkError, Value};
use super::{Journal, Shared};
use crate::pipeline::runtime::{Mailbox, Stage, StageContext};
use crate::pipeline::work::admission::Permit;
use crate::telemetry::outage::{Outage, OutageNews, down_seconds};

/// Entries of one pipeline at most.
const MAX_ENTRIES: usize = 512;
/// The requests of one group end within this time of one another: none of them is appended once the first has ended.
const MAX_SPREAD: Duration = Duration::from_secs(1);
/// Bytes of one pipeline at most; a larger entry goes alone.
const MAX_BYTES: usize = 1 << 20;
/// Dead letters that wait at most, their bytes, and those of one pipeline; what is beyond is dropped and counted.
const MAX_LETTERS: usize = 1000;
const MAX_LETTERS_BYTES: usize = 4 << 20;
const MAX_LETTERS_TOGETHER: usize = 64;

/// Why events were not taken on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It holds `journal.max_events`.
    #[error("the journal holds as many events as journal.max_events allows")]
    Full,
    /// It never could hold so many (`journal.max_events`).
    #[error("{events} events at once, of which journal.max_events allows the journal {max_events}")]
    TooMany {
        /// Of the request, invalid ones not counted.
        events: u64,
        /// The setting's value.
        max_events: u64,
    },
    /// Its Redis did not take them. Whether they are there is not known.
    #[error("the journal's Redis did not take the events: {0}")]
    Unreachable(String),
}

/// What became of an entry.
pub type AppendResult = Result<(), AppendError>;

/// What is sent to an appender.
pub enum AppendMessage {
    /// Events of one request.
    Append(Append),
    /// An event that is given up before it was in the journal. It holds the second until it is written, or cannot be.
    Bury(Box<DeadLetter>, Arc<()>),
}

/// An entry on its way.
pub struct Append {
    entry: Bytes,
    events: u64,
    /// When its request is answered at the latest: from then on it must not be appended.
    ends: Instant,
    /// Holds the entry's bytes in admission, whoever still waits for the answer.
    permit: Permit,
    reserved: Reserved,
    reply: oneshot::Sender<AppendResult>,
}

impl Append {
    /// Whether its request was answered, or must be by now: appended, it might stand behind newer events.
    fn is_over(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.ends <= now
    }
}

/// Its part of what is on its way to the stream, given back when it has ended.
struct Reserved {
    journal: Journal,
    events: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.journal.shared.on_their_way.fetch_sub(self.events, Relaxed);
    }
}

/// The way into the journal for one HTTP worker. Cheap to clone.
#[derive(Clone)]
pub struct Appender {
    journal: Journal,
    mailbox: Mailbox<AppendStage>,
}

impl Appender {
    /// Of an actor that was started.
    pub fn new(journal: Journal, mailbox: Mailbox<AppendStage>) -> Self {
        Appender { journal, mailbox }
    }

    /// Appends the entry of a request with so many events, before `ends` or not at all; `permit` holds them in admission until that
    /// has ended. What comes back is dropped without an answer if the actor fails. If it is dropped here, what was not sent yet is not
    /// appended.
    ///
    /// # Errors
    /// The journal is full, or too small.
    pub fn append(
        &self,
        entry: Vec<u8>,
        events: u64,
        ends: Instant,
        permit: Permit,
    ) -> Result<oneshot::Receiver<AppendResult>, AppendError> {
        let reserved = self.journal.reserve(events)?;
        let (reply, receiver) = oneshot::channel();
        self.mailbox.post(AppendMessage::Append(Append { entry: entry.into(), events, ends, permit, reserved, reply }));
        Ok(receiver)
    }
}

impl Appender {
    /// Adds a dead letter of a notification. Nobody waits for it; one that cannot be written is counted and told of.
    pub fn bury(&self, letter: DeadLetter) {
        self.journal.shared.metrics.dead_letter(&letter.problem);
        self.mailbox.post(AppendMessage::Bury(Box::new(letter), self.journal.shared.letters_on_their_way.clone()));
    }
}

impl Journal {
    /// Takes room for events, by what is known of the depth: exact in this process.
    fn reserve(&self, events: u64) -> Result<Reserved, AppendError> {
        let Shared { depth, on_their_way, settings, .. } = &*self.shared;
        let max_events = settings.max_events;
        if events > max_events {
            return Err(AppendError::TooMany { events, max_events });
        }
        let before = on_their_way.fetch_add(events, Relaxed);
        let reserved = Reserved { journal: self.clone(), events };
        if depth.load(Relaxed) + before + events > max_events {
            return Err(AppendError::Full);
        }
        Ok(reserved)
    }
}

/// The actor.
pub struct AppendStage {
    journal: Journal,
    /// None: a pipeline is in flight.
    line: Option<AppendLine>,
    waiting: VecDeque<Append>,
    letters: VecDeque<(Args, Arc<()>)>,
    letters_bytes: usize,
    in_flight: AppendGroup,
    outage: Outage,
}

impl AppendStage {
    /// Connects with the first entry.
    pub fn new(journal: Journal) -> Self {
        let line = Some(AppendLine::new(journal.shared.connector.link()));
        let (waiting, letters, in_flight) = (VecDeque::new(), VecDeque::new(), AppendGroup::default());
        AppendStage { journal, line, waiting, letters, letters_bytes: 0, in_flight, outage: Outage::default() }
    }

    fn pump(&mut self, context: &mut StageContext<'_, Self>) {
        let Some(line) = self.line.take() else { return };
        self.in_flight = self.next_group();
        if self.in_flight.is_empty() {
            self.line = Some(line);
            return;
        }
        let work = line.send(&self.in_flight, &self.journal);
        context.spawn(work, |stage, (line, replies), context| {
            stage.line = Some(line);
            stage.landed(replies);
            stage.pump(context);
        });
    }

    fn next_group(&mut self) -> AppendGroup {
        let (mut group, mut bytes, now) = (AppendGroup::default(), 0, Instant::now());
        while let Some(front) = self.waiting.front()
            && group.appends.len() < MAX_ENTRIES
            && (bytes == 0 || bytes + front.entry.len() <= MAX_BYTES)
            // The first that ends ends the group's time.
            && group.appends.first().is_none_or(|first| front.ends.saturating_duration_since(first.ends) <= MAX_SPREAD)
            && let Some(next) = self.waiting.pop_front()
        {
            if next.is_over(now) {
                let _ = next.reply.send(Err(AppendError::Unreachable("it did not come to them in time".into())));
                continue;
            }
            bytes += next.entry.len();
            group.appends.push(next);
        }
        let letters = self.letters.len().min(MAX_LETTERS_TOGETHER);
        group.letters.extend(self.letters.drain(..letters));
        self.letters_bytes =
            self.letters_bytes.saturating_sub(group.letters.iter().map(|(command, _)| bytes_of(command)).sum());
        group
    }

    fn landed(&mut self, replies: Result<Vec<Value>, LinkError>) {
        let group = mem::take(&mut self.in_flight);
        let GroupEnd { appends, letters, depth } = group.ended(&self.journal, replies);
        if let Some(depth) = depth {
            self.journal.note_depth(depth);
        }
        if !group.appends.is_empty() {
            self.tell(appends.iter().find_map(|end| end.as_ref().err()));
            self.journal.shared.appended.notify_one();
        }
        let mut ends = appends.into_iter();
        for Append { reply, reserved, permit, .. } in group.appends {
            drop((reserved, permit));
            // Whoever asked may have gone.
            let _ = reply.send(ends.next().unwrap_or(Err(AppendError::Unreachable("redis did not answer".into()))));
        }
        self.buried(letters);
    }

    fn bury(&mut self, letter: &DeadLetter, held: Arc<()>) {
        let command = letter.bury(&self.journal, "");
        let bytes = bytes_of(&command);
        let is_full = self.letters.len() >= MAX_LETTERS || self.letters_bytes + bytes > MAX_LETTERS_BYTES;
        if is_full || self.journal.is_left_alone() {
            return self.journal.shared.metrics.dead_letters_dropped(1);
        }
        self.letters_bytes += bytes;
        self.letters.push_back((command, held));
    }

    fn buried(&self, letters: Vec<Result<u64, LinkError>>) {
        let metrics = &self.journal.shared.metrics;
        let mut failure = None;
        for letter in letters {
            metrics.dead_letters_dropped(*letter.as_ref().unwrap_or(&1));
            failure = letter.err().or(failure);
        }
        if let Some(cause) = failure {
            warn!(cause:% = cause; "dead letter could not be written");
            self.journal.note_refusal(&cause);
        }
    }

    /// Said when it begins, while it lasts, and when it has ended.
    fn tell(&mut self, cause: Option<&AppendError>) {
        let now = Instant::now();
        let news = if cause.is_some() { self.outage.goes_on(now, now) } else { self.outage.is_over(now) };
        match (news, cause) {
            (Some(OutageNews::Began), Some(cause)) => warn!(cause:% = cause; "journal cannot be written"),
            (Some(OutageNews::Lasts(lasted)), Some(cause)) => {
                warn!(cause:% = cause, down_seconds = down_seconds(lasted); "journal still cannot be written")
            }
            (Some(OutageNews::Ended(lasted)), _) => {
                info!(down_seconds = down_seconds(lasted); "journal can be written again")
            }
            _ => {}
        }
    }
}

impl Stage for AppendStage {
    type Message = AppendMessage;

    fn handle(&mut self, message: AppendMessage, context: &mut StageContext<'_, Self>) {
        match message {
            AppendMessage::Append(append) => self.waiting.push_back(append),
            AppendMessage::Bury(letter, held) => self.bury(&letter, held),
        }
        self.pump(context);
    }

    fn restarting(&mut self) {
        // Dropped, they answer. The line may be in any state.
        self.in_flight = AppendGroup::default();
        self.line = Some(AppendLine::new(self.journal.shared.connector.link()));
    }

    fn started(&mut self, context: &mut StageContext<'_, Self>) {
        self.pump(context);
    }
}

fn bytes_of(command: &Args) -> usize {
    command.iter().map(Bytes::len).sum()
}
