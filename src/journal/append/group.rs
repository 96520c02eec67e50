//! A group commit: the commands of one pipeline, and what their replies say.
//!
//! The entries are appended by a transaction that has a time: a script before it spoils it (`WATCH`) once that is over by the
//! clock of the server. So what a lost connection left in a socket or in the network is not appended behind newer events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Append, AppendError, AppendResult};
use crate::journal::link::{Args, IntoArg, Link, LinkError, Value, args};
use crate::journal::{Journal, JournalSettings, Shared};

/// Spoils a transaction that comes too late.
pub const GUARD: &str = include_str!("../scripts/guard.lua");
/// Where the script's command stands; its time is added when it is sent.
const GUARD_PLACE: usize = 1;
/// Commands of a transaction beside its entries.
const AROUND_ENTRIES: usize = 5;
/// For replicas, and for the disk.
pub const WAIT_MS: u64 = 2000;

/// What goes as one pipeline.
#[derive(Default)]
pub struct AppendGroup {
    pub appends: Vec<Append>,
    /// The commands that add dead letters, with what these hold.
    pub letters: Vec<(Args, Arc<()>)>,
}

/// How long Redis may wait for replicas and the disk.
pub fn block(settings: &JournalSettings) -> Duration {
    let waits = u64::from(settings.wait_replicas > 0) + u64::from(settings.wait_aof);
    Duration::from_millis(WAIT_MS * waits)
}

/// What became of a group.
pub struct GroupEnd {
    /// Of each entry.
    pub appends: Vec<AppendResult>,
    /// Of each dead letter: how many had to go for it, or why it was not written.
    pub letters: Vec<Result<u64, LinkError>>,
    /// Events in the stream, if that was told.
    pub depth: Option<u64>,
}

/// A line to the journal's Redis, and what time it is there.
pub struct AppendLine {
    link: Link,
    clock: Option<Clock>,
}

/// It was this time at the server, or later, when its answer arrived.
#[derive(Clone, Copy)]
struct Clock {
    unix_ms: u64,
    at: Instant,
}

impl AppendGroup {
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.letters.is_empty()
    }

    /// From when on none of its entries may be appended, because the first of their requests is answered then, or all are; None: it
    /// has no entries.
    fn ends(&self, journal: &Journal) -> Option<Instant> {
        let first = self.appends.iter().map(|append| append.ends).min()?;
        Some(journal.shared.cut_off.get().map_or(first, |cut_off| first.min(*cut_off)))
    }

    fn commands(&self, journal: &Journal) -> Vec<Args> {
        let Shared { keys, settings, .. } = &*journal.shared;
        let mut commands = Vec::with_capacity(self.appends.len() + self.letters.len() + 7);
        if !self.appends.is_empty() {
            let (stream, events): (Bytes, u64) =
                ((&keys.stream).into_arg(), self.appends.iter().map(|append| append.events).sum());
            commands.push(args!["WATCH", &keys.late]);
            commands.push(args!["EVAL", GUARD, 1_u64, &keys.late]);
            commands.push(args!["MULTI"]);
            commands.push(args!["INCRBY", &keys.events, events]);
            commands.extend(self.appends.iter().map(|append| args!["XADD", &stream, "*", "e", &append.entry]));
            commands.push(args!["EXEC"]);
            if settings.wait_replicas > 0 {
                commands.push(args!["WAIT", u64::from(settings.wait_replicas), WAIT_MS]);
            }
            if settings.wait_aof {
                commands.push(args!["WAITAOF", 1_u64, 0_u64, WAIT_MS]);
            }
        }
        commands.extend(self.letters.iter().map(|(command, _)| command.clone()));
        commands
    }

    /// What became of it, by the replies to its commands.
    pub fn ended(&self, journal: &Journal, replies: Result<Vec<Value>, LinkError>) -> GroupEnd {
        let mut replies = match replies {
            Ok(replies) => replies.into_iter(),
            Err(error) => {
                let appends = self.none_appended(&error.to_string());
                return GroupEnd { appends, letters: vec![Err(error); self.letters.len()], depth: None };
            }
        };
        let (mut depth, mut appends) = (None, Vec::new());
        if !self.appends.is_empty() {
            let read = self.appended(journal.settings(), &mut replies);
            (depth, appends) = read.unwrap_or_else(|cause| (None, self.none_appended(&cause)));
        }
        GroupEnd { appends, letters: replies.map(buried).collect(), depth }
    }

    fn none_appended(&self, cause: &str) -> Vec<AppendResult> {
        vec![Err(AppendError::Unreachable(cause.to_owned())); self.appends.len()]
    }

    /// The depth, and what became of each entry.
    fn appended(
        &self,
        settings: &JournalSettings,
        replies: &mut impl Iterator<Item = Value>,
    ) -> Result<(Option<u64>, Vec<AppendResult>), String> {
        let head: Vec<Value> = replies.by_ref().take(self.appends.len() + AROUND_ENTRIES).collect();
        let waits = replies.by_ref().take(usize::from(settings.wait_replicas > 0) + usize::from(settings.wait_aof));
        let waits: Vec<Value> = waits.collect();
        let added = match head.last() {
            Some(Value::Array(added)) => added,
            Some(Value::Nil) => return Err("they came to it too late, and were not taken".to_owned()),
            _ => return Err(refusal(&head)),
        };
        if let Some(Value::Error(code)) = head.get(GUARD_PLACE) {
            return Err(format!("redis answered {} to the script before them", code.as_str()));
        }
        kept(settings, &waits)?;
        let depth = added.first().and_then(Value::number).and_then(|depth| u64::try_from(depth).ok());
        let end = |reply: &Value| match reply {
            Value::Error(code) => Err(AppendError::Unreachable(format!("redis answered {}", code.as_str()))),
            _ => Ok(()),
        };
        Ok((depth, added.iter().skip(1).map(end).collect()))
    }
}

/// Of a transaction that was not carried out: the first error says why, that of `EXEC` only that there was one.
fn refusal(replies: &[Value]) -> String {
    match replies.iter().find_map(Value::as_error) {
        Some(code) => format!("redis answered {}", code.as_str()),
        None => "redis did not answer".to_owned(),
    }
}

/// Whether replicas and the disk have the entries, where that is asked for.
pub fn kept(settings: &JournalSettings, waits: &[Value]) -> Result<(), String> {
    let mut waits = waits.iter();
    if settings.wait_replicas > 0 {
        let acknowledged = waits.next().and_then(Value::number).unwrap_or(0);
        if acknowledged < i64::from(settings.wait_replicas) {
            return Err(format!("{acknowledged} replicas acknowledged them, and journal.wait_replicas asks for more"));
        }
    }
    if settings.wait_aof {
        match waits.next() {
            Some(Value::Array(counts)) if counts.first().and_then(Value::number) == Some(1) => {}
            Some(Value::Error(_)) => {
                return Err("it does not support WAITAOF (Redis 7.2 or later does), or has no append-only file: \
                            journal.wait_aof cannot be kept"
                    .into());
            }
            _ => return Err("they did not reach its disk in time (journal.wait_aof)".into()),
        }
    }
    Ok(())
}

fn buried(reply: Value) -> Result<u64, LinkError> {
    match reply {
        Value::Error(code) => Err(LinkError::Refused(code.as_str().to_owned())),
        gone => Ok(gone.number().and_then(|gone| u64::try_from(gone).ok()).unwrap_or(0)),
    }
}

impl AppendLine {
    pub fn new(link: Link) -> Self {
        AppendLine { link, clock: None }
    }

    /// Sends a group. After a failure it returns when nothing of the group can be appended any more.
    pub fn send(
        mut self,
        group: &AppendGroup,
        journal: &Journal,
    ) -> impl Future<Output = (Self, Result<Vec<Value>, LinkError>)> + use<> {
        let (commands, block) = (group.commands(journal), block(journal.settings()));
        let (exec, letters, ends) =
            (group.appends.len() + AROUND_ENTRIES - 1, group.letters.len(), group.ends(journal));
        async move {
            let replies = match ends {
                None => self.link.call(commands, block).await,
                Some(ends) => self.append(commands, exec, letters, (block, ends)).await,
            };
            (self, replies)
        }
    }

    /// Sends a transaction whose `EXEC` stands at this place, and the dead letters behind it. An append of others that comes too late,
    /// and the first lease of a journal, spoil what is under way as well. That was in time and has not been carried out: it is
    /// sent again, without the dead letters.
    async fn append(
        &mut self,
        mut commands: Vec<Args>,
        exec: usize,
        letters: usize,
        (block, ends): (Duration, Instant),
    ) -> Result<Vec<Value>, LinkError> {
        let last = ends.min(Instant::now() + self.link.patience());
        let mut replies = self.append_once(commands.clone(), block, ends).await?;
        commands.truncate(commands.len() - letters);
        while self.clock.is_some() && matches!(replies.get(exec), Some(Value::Nil)) && Instant::now() < last {
            let again = self.append_once(commands.clone(), block, ends).await?;
            replies.splice(..commands.len(), again);
        }
        Ok(replies)
    }

    async fn append_once(
        &mut self,
        mut commands: Vec<Args>,
        block: Duration,
        ends: Instant,
    ) -> Result<Vec<Value>, LinkError> {
        // Behind a failure it may be another server.
        let clock = match self.clock.take() {
            Some(clock) => clock,
            None => self.ask_time().await?,
        };
        let now = Instant::now();
        let within = ends.saturating_duration_since(now).min(self.link.patience() + block);
        let deadline = clock.unix_ms + millis(now - clock.at + within);
        if let Some(guard) = commands.get_mut(GUARD_PLACE) {
            guard.push(deadline.into_arg());
        }
        let replies = self.link.call_before(commands, block, now + within).await?;
        let told = replies.get(GUARD_PLACE).and_then(Value::number).and_then(|told| u64::try_from(told).ok());
        self.clock = told.filter(|told| *told < deadline).map(|unix_ms| Clock { unix_ms, at: Instant::now() });
        Ok(replies)
    }

    async fn ask_time(&mut self) -> Result<Clock, LinkError> {
        let reply = self.link.one(args!["TIME"]).await?;
        let number = |place: usize| u64::try_from(reply.list().get(place)?.number()?).ok();
        let unix_ms = number(0).zip(number(1)).map(|(seconds, micros)| seconds * 1000 + micros / 1000);
        let unix_ms = unix_ms.ok_or(LinkError::Lost("redis does not tell the time".into()))?;
        Ok(Clock { unix_ms, at: Instant::now() })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
