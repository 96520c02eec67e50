//! What the journal's Redis may lose of what was accepted, by what it says of itself; and whether it permits a journal at all.

use std::time::Duration;

use super::append::{GUARD, WAIT_MS};
use super::lease;
use super::link::{Args, Link, Value, args};
use super::{Journal, JournalSettings};

/// Something that may cost accepted events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// It keeps nothing on disk as it goes.
    NoAppendOnlyFile,
    /// It may drop the journal's keys when its memory is full.
    MayEvict {
        /// Its `maxmemory-policy`.
        maxmemory_policy: String,
    },
}

impl Loss {
    /// For a person: what may happen, and what to do.
    pub fn text(&self) -> String {
        match self {
            Loss::NoAppendOnlyFile => {
                "it has no append-only file: a crash of it loses what was accepted (appendonly yes)".to_owned()
            }
            Loss::MayEvict { maxmemory_policy } => {
                format!("its maxmemory-policy is {maxmemory_policy}: it may evict the journal (noeviction)")
            }
        }
    }
}

/// What it may lose. One that does not tell may lose nothing that is known.
pub(super) async fn losses(link: &mut Link) -> Vec<Loss> {
    // All of INFO counts what a large server has, and takes its time.
    let sections = ["persistence", "memory"].map(|section| args!["INFO", section]);
    let Ok(sections) = link.call(sections.into(), Duration::ZERO).await else { return Vec::new() };
    let text = sections.iter().filter_map(Value::text).map(|text| String::from_utf8_lossy(text)).collect::<String>();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let evicts = field("maxmemory_policy").filter(|policy| *policy != "noeviction");
    let evicts = evicts.map(|policy| Loss::MayEvict { maxmemory_policy: policy.to_owned() });
    let is_lost = field("aof_enabled") == Some("0");
    is_lost.then_some(Loss::NoAppendOnlyFile).into_iter().chain(evicts).collect()
}

/// What was tried, and why it did not go well.
pub type Tried = (String, Option<String>);

impl Journal {
    /// Does once what the service does, on a key of the journal that is gone a second later, and leaves its events alone. Without a
    /// connection the rest is left out.
    pub async fn examine(&self) -> (Vec<Tried>, Vec<Loss>) {
        let mut link = self.shared.connector.link();
        let reached = link.one(args!["PING"]).await;
        let where_to = format!("journal in {}: address, TLS and login", self.shared.connector.describe());
        if let Err(error) = reached {
            return (vec![(where_to, Some(error.to_string()))], Vec::new());
        }
        let appended = self.try_append(&mut link).await;
        let fed = lease::look(self, &mut link).await.map_err(|error| error.to_string());
        let tried = vec![
            (where_to, None),
            (asked(self.settings()), appended.err()),
            ("right to feed the journal".to_owned(), fed.err()),
        ];
        (tried, losses(&mut link).await)
    }

    async fn try_append(&self, link: &mut Link) -> Result<(), String> {
        let key = &format!("{{{}}}:check-config", self.settings().name);
        let mut commands: Vec<Args> = vec![
            args!["WATCH", key],
            args!["EVAL", GUARD, 1_u64, key, u64::from(u32::MAX) * 1000],
            args!["MULTI"],
            args!["XADD", key, "*", "e", "x"],
            args!["PEXPIRE", key, 1000_u64],
            args!["EXEC"],
        ];
        let settings = self.settings();
        if settings.wait_replicas > 0 {
            commands.push(args!["WAIT", u64::from(settings.wait_replicas), WAIT_MS]);
        }
        if settings.wait_aof {
            commands.push(args!["WAITAOF", 1_u64, 0_u64, WAIT_MS]);
        }
        let (sent, block) = (6, super::append::block(settings));
        let replies = link.call(commands, block).await.map_err(|error| error.to_string())?;
        let (sent, waits) = replies.split_at_checked(sent).unwrap_or((&replies, &[]));
        if let Some(code) = sent.iter().find_map(Value::as_error) {
            return Err(format!("redis answered {}", code.as_str()));
        }
        super::append::kept(settings, waits)
    }
}

fn asked(settings: &JournalSettings) -> String {
    let mut text = "right to append to the journal".to_owned();
    if settings.wait_replicas > 0 {
        text.push_str(", acknowledged by journal.wait_replicas");
    }
    if settings.wait_aof {
        text.push_str(", on disk (journal.wait_aof)");
    }
    text
}
