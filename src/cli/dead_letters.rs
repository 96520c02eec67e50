//! `dead-letters`: lists what could not be applied, shows one, runs it again, or drops it; straight in the journal's Redis.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::{serve, wrong_usage};
use crate::config::Config;
use crate::event::pattern::Pattern;
use crate::event::time::rfc3339;
use crate::journal::dead::DeadLetter;
use crate::journal::{Letters, LinkError, unix_millis};

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
    pub ids: Vec<String>,
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

/// The filters, read.
struct Filter {
    source: Option<String>,
    problem: Option<String>,
    key: Option<Pattern>,
    age: Option<(bool, Duration)>,
}

/// Exit code 1: Redis did not answer, a letter is not there, or one was not run again.
pub fn run(args: &Args, config: &Config) -> ExitCode {
    let filter = match Filter::of(args) {
        Ok(filter) => filter,
        Err(fault) => return wrong_usage(&fault),
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
    match actix_rt::System::new().block_on(carry_out(args, &filter, letters, &mut out)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("redis-cache-sync: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(
    args: &Args,
    filter: &Filter,
    mut letters: Letters,
    out: &mut impl Write,
) -> Result<bool, LinkError> {
    let (mut done, mut is_whole, mut after) = (0_u64, true, "-".to_owned());
    if matches!(args.action, LetterCommand::List) && !args.json {
        let _ =
            writeln!(out, "{:<20} {:<20} {:<18} {:<10} {:>8}  KEYS", "ID", "GIVEN UP", "PROBLEM", "SOURCE", "ATTEMPTS");
    }
    for id in &args.ids {
        match letters.find(id).await? {
            Some(letter) => is_whole &= one(args, (id, &letter), &mut letters, out, &mut done).await?,
            None => {
                eprintln!("redis-cache-sync: there is no dead letter {id}");
                is_whole = false;
            }
        }
    }
    // What is put back may die again while this runs: only what was there at the start is looked at.
    let begun = unix_millis();
    while args.ids.is_empty() {
        let page = letters.behind(&after).await?;
        let Some((last, _)) = page.last() else { break };
        after.clone_from(last);
        for (id, letter) in page.iter().filter(|(_, letter)| letter.died_ms <= begun && filter.passes(letter)) {
            is_whole &= one(args, (id, letter), &mut letters, out, &mut done).await?;
        }
    }
    match args.action {
        LetterCommand::Replay => eprintln!("{done} put back into the journal; the replica that feeds it applies them"),
        LetterCommand::Drop => eprintln!("{done} dropped"),
        LetterCommand::List | LetterCommand::Show => {}
    }
    Ok(is_whole)
}

/// Does it to one letter. False: it was not run again.
async fn one(
    args: &Args,
    (id, letter): (&str, &DeadLetter),
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
            if let Some(why) = letter.hindrance().filter(|_| letter.event.is_empty() || !args.force) {
                eprintln!("{id} stays: {why}");
                return Ok(false);
            }
            *done += u64::from(letters.replay(id, letter, !args.force).await?);
        }
    }
    Ok(true)
}

impl Filter {
    fn of(args: &Args) -> Result<Self, String> {
        let key = args.key.as_ref().map(|glob| Pattern::parse(glob.clone(), true)).transpose();
        let age =
            args.age.as_ref().map(|age| parse_age(age).ok_or("--age is a number and s, m, h or d: 90s, 15m, <1d"));
        Ok(Filter {
            source: args.source.clone(),
            problem: args.problem.clone(),
            key: key.map_err(|error| format!("--key {error}"))?,
            age: age.transpose()?,
        })
    }

    fn passes(&self, letter: &DeadLetter) -> bool {
        let age = Duration::from_millis(unix_millis().saturating_sub(letter.died_ms));
        self.source.as_ref().is_none_or(|source| letter.meta.source == *source)
            && self.problem.as_ref().is_none_or(|problem| letter.problem == *problem)
            && self.age.is_none_or(|(is_most, bound)| if is_most { age <= bound } else { age >= bound })
            && self.key.as_ref().is_none_or(|key| letter.keys().iter().any(|name| key.matches(name.as_bytes())))
    }
}

/// Whether it is the most, and the time.
fn parse_age(text: &str) -> Option<(bool, Duration)> {
    let (is_most, text) = text.strip_prefix('<').map_or((false, text), |rest| (true, rest));
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    Some((is_most, Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?)))
}

fn line(id: &str, letter: &DeadLetter) -> String {
    let source = if letter.meta.source.is_empty() { "-" } else { &letter.meta.source };
    let keys = letter.keys().join(" ");
    let keys: String = keys.escape_debug().take(60).collect();
    format!("{id:<20} {:<20} {:<18} {source:<10} {:>8}  {keys}", when(letter.died_ms), letter.problem, letter.attempts)
}

fn as_json(id: &str, letter: &DeadLetter) -> Value {
    let event = serde_json::from_slice(&letter.event).unwrap_or(Value::Null);
    json!({
        "id": id, "problem": letter.problem, "detail": letter.detail, "source": letter.meta.source,
        "keys": letter.keys(), "accepted": when(letter.meta.accepted_ms), "died": when(letter.died_ms),
        "attempts": letter.attempts, "request_id": letter.meta.request_id, "event": event,
    })
}

/// RFC 3339, in seconds. What stands in Redis may be no time at all.
fn when(millis: u64) -> String {
    i64::try_from(millis / 1000).ok().and_then(rfc3339).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_unit_and_a_direction() {
        let hour = Duration::from_secs(3600);
        assert_eq!(
            [parse_age("1h"), parse_age("<60m"), parse_age("3600s")],
            [Some((false, hour)), Some((true, hour)), Some((false, hour))]
        );
        assert_eq!(parse_age("2d"), Some((false, hour * 48)));
        for bad in ["", "h", "1", "1w", "-1s", "é"] {
            assert_eq!(parse_age(bad), None, "{bad}");
        }
    }
}
