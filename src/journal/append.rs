//! The appender: one line to the journal's Redis on each HTTP worker's thread, with group commit. What is waiting goes as one
//! pipeline, and one is in flight at a time.
//!
//! A pipeline whose replies are lost answers all it carried as unavailable: whether an event of it was taken on is not known,
//! and the sender repeats it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures::lock::Mutex;
use log::{info, warn};
use tokio::sync::oneshot;

use super::dead::DeadLetter;
use super::link::{Args, Link, LinkError, Value, args};
use super::{Journal, Shared};
use crate::pipeline::runtime::{Mailbox, Stage, StageContext};
use crate::pipeline::work::admission::Permit;

/// Entries of one pipeline at most.
const MAX_ENTRIES: usize = 512;
/// Bytes of one pipeline at most; a larger entry goes alone.
const MAX_BYTES: usize = 1 << 20;
/// Dead letters on their way at most; those beyond it are dropped and counted.
const MAX_BURIALS: usize = 1000;
/// For replicas, and for the disk.
const WAIT_MS: u64 = 2000;

/// Why events were not taken on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It holds `journal.max_events`.
    #[error("the journal holds as many events as journal.max_events allows")]
    Full,
    /// Its Redis did not take them. Whether they are there is not known.
    #[error("the journal's Redis did not take the events: {0}")]
    Unreachable(String),
}

/// What is sent to an appender.
pub enum AppendMessage {
    /// Events of one request.
    Append(Append),
    /// An event that is given up before it was in the journal.
    Bury(Box<DeadLetter>),
}

/// An entry on its way.
pub struct Append {
    entry: Bytes,
    events: u64,
    /// Holds the entry's bytes in admission, whoever still waits for the answer.
    permit: Permit,
    reserved: Reserved,
    reply: oneshot::Sender<Result<(), AppendError>>,
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

    /// Appends the entry of a request with so many events; `permit` holds them in admission until that has ended. What comes back is
    /// dropped without an answer if the actor fails.
    ///
    /// # Errors
    /// The journal is full.
    pub fn append(
        &self,
        entry: Vec<u8>,
        events: u64,
        permit: Permit,
    ) -> Result<oneshot::Receiver<Result<(), AppendError>>, AppendError> {
        let reserved = self.journal.reserve(events)?;
        let (reply, receiver) = oneshot::channel();
        self.mailbox.post(AppendMessage::Append(Append { entry: entry.into(), events, permit, reserved, reply }));
        Ok(receiver)
    }
}

impl Appender {
    /// Adds a dead letter of a notification. Nobody waits for it; one that cannot be written is counted and told of.
    pub fn bury(&self, letter: DeadLetter) {
        self.journal.shared.metrics.dead_letter(&letter.problem);
        self.mailbox.post(AppendMessage::Bury(Box::new(letter)));
    }
}

impl Journal {
    /// Takes room for events, by what is known of the depth: exact in this process.
    fn reserve(&self, events: u64) -> Result<Reserved, AppendError> {
        let Shared { depth, on_their_way, settings, .. } = &*self.shared;
        let before = on_their_way.fetch_add(events, Relaxed);
        let reserved = Reserved { journal: self.clone(), events };
        if depth.load(Relaxed) + before + events > settings.max_events {
            return Err(AppendError::Full);
        }
        Ok(reserved)
    }
}

/// The actor.
pub struct AppendStage {
    journal: Journal,
    link: Rc<Mutex<Link>>,
    waiting: VecDeque<Append>,
    in_flight: Vec<Append>,
    is_busy: bool,
    /// Dead letters on their way.
    burials: usize,
    is_failing: bool,
}

impl AppendStage {
    /// Connects with the first entry.
    pub fn new(journal: Journal) -> Self {
        let link = Rc::new(Mutex::new(journal.shared.connector.link()));
        let (waiting, in_flight) = (VecDeque::new(), Vec::new());
        AppendStage { journal, link, waiting, in_flight, is_busy: false, burials: 0, is_failing: false }
    }

    fn pump(&mut self, context: &mut StageContext<'_, Self>) {
        if self.is_busy || self.waiting.is_empty() {
            return;
        }
        let mut bytes = 0;
        while let Some(next) = self.waiting.front()
            && self.in_flight.len() < MAX_ENTRIES
            && (bytes == 0 || bytes + next.entry.len() <= MAX_BYTES)
        {
            bytes += next.entry.len();
            self.in_flight.extend(self.waiting.pop_front());
        }
        self.is_busy = true;
        let (commands, link) = (self.commands(), self.link.clone());
        let block = self.block();
        let work = async move { link.lock().await.call(&commands, block).await };
        context.spawn(work, |stage, replies, context| {
            stage.is_busy = false;
            stage.landed(replies);
            stage.pump(context);
        });
    }

    /// How long Redis may wait for replicas and the disk.
    fn block(&self) -> Duration {
        let settings = self.journal.settings();
        let waits = u64::from(settings.wait_replicas > 0) + u64::from(settings.wait_aof);
        Duration::from_millis(WAIT_MS * waits)
    }

    fn commands(&self) -> Vec<Args> {
        let Shared { keys, settings, .. } = &*self.journal.shared;
        let events: u64 = self.in_flight.iter().map(|append| append.events).sum();
        let mut commands = Vec::with_capacity(self.in_flight.len() + 3);
        // Before the entries: who trims them finds them counted.
        commands.push(args!["INCRBY", &keys.events, events]);
        commands
            .extend(self.in_flight.iter().map(|append| args!["XADD", &keys.stream, "*", "e", append.entry.clone()]));
        if settings.wait_replicas > 0 {
            commands.push(args!["WAIT", u64::from(settings.wait_replicas), WAIT_MS]);
        }
        if settings.wait_aof {
            commands.push(args!["WAITAOF", 1_u64, 0_u64, WAIT_MS]);
        }
        commands
    }

    fn landed(&mut self, replies: Result<Vec<Value>, LinkError>) {
        let appends = std::mem::take(&mut self.in_flight);
        let replies =
            replies.map_err(|error| error.to_string()).and_then(|replies| self.agreed(replies, appends.len()));
        self.tell(replies.as_ref().err());
        let mut results = match replies {
            Ok(results) => results.into_iter(),
            Err(cause) => vec![Err(AppendError::Unreachable(cause)); appends.len()].into_iter(),
        };
        for Append { reply, reserved, permit, .. } in appends {
            drop((reserved, permit));
            // Whoever asked may have gone.
            let _ = reply.send(results.next().unwrap_or(Err(AppendError::Unreachable("redis did not answer".into()))));
        }
        self.journal.shared.appended.notify_one();
    }

    /// What became of each entry.
    fn agreed(&self, replies: Vec<Value>, entries: usize) -> Result<Vec<Result<(), AppendError>>, String> {
        let mut replies = replies.into_iter();
        match replies.next().and_then(|depth| depth.number()) {
            Some(depth) => self.journal.shared.depth.store(u64::try_from(depth).unwrap_or(0), Relaxed),
            None => return Err("redis refused to count the events".into()),
        }
        let added = replies.by_ref().take(entries).map(|reply| match reply {
            Value::Error(code) => Err(AppendError::Unreachable(format!("redis answered {}", code.as_str()))),
            _ => Ok(()),
        });
        let added: Vec<_> = added.collect();
        let settings = self.journal.settings();
        if settings.wait_replicas > 0 {
            let acknowledged = replies.next().and_then(|reply| reply.number()).unwrap_or(0);
            if acknowledged < i64::from(settings.wait_replicas) {
                return Err(format!(
                    "{acknowledged} replicas acknowledged them, and journal.wait_replicas asks for more"
                ));
            }
        }
        if settings.wait_aof {
            match replies.next() {
                Some(Value::Array(counts)) if counts.first().and_then(Value::number) == Some(1) => {}
                Some(Value::Error(_)) => return Err("it does not support WAITAOF, or has no append-only file".into()),
                _ => return Err("they did not reach its disk in time (journal.wait_aof)".into()),
            }
        }
        Ok(added)
    }

    fn bury(&mut self, letter: &DeadLetter, context: &mut StageContext<'_, Self>) {
        let metrics = self.journal.shared.metrics.clone();
        if self.burials >= MAX_BURIALS {
            return metrics.dead_letters_dropped(1);
        }
        self.burials += 1;
        let (link, command) = (self.link.clone(), letter.bury(&self.journal, ""));
        let work = async move { link.lock().await.one(command).await };
        context.spawn(work, move |stage, buried, _| {
            stage.burials -= 1;
            match buried {
                Ok(gone) => {
                    metrics.dead_letters_dropped(gone.number().and_then(|gone| u64::try_from(gone).ok()).unwrap_or(0))
                }
                Err(cause) => {
                    metrics.dead_letters_dropped(1);
                    warn!(cause:% = cause; "dead letter could not be written");
                }
            }
        });
    }

    /// Said once when it begins, and once when it has ended.
    fn tell(&mut self, cause: Option<&String>) {
        match (cause, self.is_failing) {
            (Some(cause), false) => warn!(cause = cause.as_str(); "journal cannot be written"),
            (None, true) => info!("journal can be written again"),
            _ => {}
        }
        self.is_failing = cause.is_some();
    }
}

impl Stage for AppendStage {
    type Message = AppendMessage;

    fn handle(&mut self, message: AppendMessage, context: &mut StageContext<'_, Self>) {
        match message {
            AppendMessage::Append(append) => {
                self.waiting.push_back(append);
                self.pump(context);
            }
            AppendMessage::Bury(letter) => self.bury(&letter, context),
        }
    }

    fn restarting(&mut self) {
        // Dropped, they answer. The line may be in any state.
        self.in_flight.clear();
        self.is_busy = false;
        self.burials = 0;
        self.link = Rc::new(Mutex::new(self.journal.shared.connector.link()));
    }

    fn started(&mut self, context: &mut StageContext<'_, Self>) {
        self.pump(context);
    }
}
