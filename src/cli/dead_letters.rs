//! `dead-letters`: lists what could not be applied, shows one, runs it again, or drops it; straight in the journal's Redis.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::{on_stderr, serve, wrong_usage};
use crate::config::Config;
use crate::journal::dead::{DeadLetter, when};
use crate::journal::{LetterFilter, LetterId, LetterWalk, Letters, LinkError};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterCommand {
    /// Lists letters, the oldest first.
    List,
    /// Shows letters with everything that is known of them.
    Show,
    /// Puts their events back into the journal.
    Replay,
    /// Takes them away.
    Drop,
}

/// What follows `dead-letters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub action: LetterCommand,
    /// With these letters; none: all that the filters let through.
    pub ids: Vec<LetterId>,
    /// Only letters of this source.
    pub source: Option<String>,
    /// With this problem alone.
    pub problem: Option<String>,
    /// That name a key which this Redis glob matches.
    pub key: Option<String>,
    /// Only letters of at least this age, or with `<` in front of at most this age: `90s`, `15m`, `<1d`.
    pub age: Option<String>,
    /// One JSON object a line.
    pub json: bool,
    /// Runs again what may overwrite something newer.
    pub force: bool,
}

/// Exit code 1: Redis did not answer, a letter is not there, or one was not run again.
pub fn run(args: &Args, config: &Config) -> ExitCode {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let filter = LetterFilter::new(&text(&args.source), &text(&args.problem), &text(&args.key), &text(&args.age));
    let filter = match filter {
        Ok(filter) => filter,
        Err(fault) => return wrong_usage(&format!("--{fault}")),
    };
    if matches!(args.action, LetterCommand::Show) && args.ids.is_empty() {
        return wrong_usage("show needs the ID of a dead letter, as list prints it");
    }
    let letters = match serve::letters(config) {
        Ok(Some(letters)) => letters,
        Ok(None) => return wrong_usage("an embedded cache has no journal: set journal.url"),
        Err(error) => return wrong_usage(&error.to_string()),
    };
    let mut out = io::stdout().lock();
    match actix_rt::System::new().block_on(carry_out(args, filter, letters, &mut out)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            on_stderr(format_args!("redis-cache-sync: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(
    args: &Args,
    filter: LetterFilter,
    mut letters: Letters,
    out: &mut impl Write,
) -> Result<bool, LinkError> {
    let (mut done, mut is_whole) = (0_u64, true);
    if matches!(args.action, LetterCommand::List) && !args.json {
        let _ =
            writeln!(out, "{:<20} {:<20} {:<18} {:<10} {:>8}  KEYS", "ID", "GIVEN UP", "PROBLEM", "SOURCE", "ATTEMPTS");
    }
    for id in &args.ids {
        match letters.find(*id).await? {
            Some(letter) => is_whole &= one(args, (*id, &letter), &mut letters, out, &mut done).await?,
            None => {
                on_stderr(format_args!("redis-cache-sync: there is no dead letter {id}"));
                is_whole = false;
            }
        }
    }
    if args.ids.is_empty() {
        // What is put back may die again while this runs: only as many are looked at as there were at the start.
        let mut walk = LetterWalk::new(filter, None, letters.count().await?);
        while let Some((id, letter)) = walk.next(&mut letters).await? {
            is_whole &= one(args, (id, &letter), &mut letters, out, &mut done).await?;
        }
    }
    match args.action {
        LetterCommand::Replay => {
            on_stderr(format_args!("{done} put back into the journal; the replica that feeds it applies them"))
        }
        LetterCommand::Drop => on_stderr(format_args!("{done} dropped")),
        LetterCommand::List | LetterCommand::Show => {}
    }
    Ok(is_whole)
}

/// Does it to one letter. False: it was not run again.
async fn one(
    args: &Args,
    (id, letter): (LetterId, &DeadLetter),
    letters: &mut Letters,
    out: &mut impl Write,
    done: &mut u64,
) -> Result<bool, LinkError> {
    match args.action {
        // Whoever closed the pipe has seen enough.
        LetterCommand::List if args.json => drop(writeln!(out, "{}", as_json(id, letter))),
        LetterCommand::List => drop(writeln!(out, "{}", line(id, letter))),
        LetterCommand::Show => drop(writeln!(out, "{:#}", as_json(id, letter))),
        LetterCommand::Drop => *done += u64::from(letters.drop(id).await?),
        LetterCommand::Replay => {
            let held = match letters.guard(letter, args.force) {
                Ok(held) => held,
                Err(why) => {
                    on_stderr(format_args!("{id} stays: {why}"));
                    return Ok(false);
                }
            };
            *done += u64::from(letters.replay(id, letter, held).await?);
        }
    }
    Ok(true)
}

fn line(id: LetterId, letter: &DeadLetter) -> String {
    let source = if letter.meta.source.is_empty() { "-" } else { &letter.meta.source };
    let keys = letter.keys().join(" ");
    let keys: String = keys.escape_debug().take(60).collect();
    format!(
        "{:<20} {:<20} {:<18} {source:<10} {:>8}  {keys}",
        id.to_string(),
        when(letter.died_ms),
        letter.problem,
        letter.attempts
    )
}

fn as_json(id: LetterId, letter: &DeadLetter) -> Value {
    let mut told = letter.to_json(id);
    told["event"] = serde_json::from_slice(&letter.event).unwrap_or(Value::Null);
    told
}
