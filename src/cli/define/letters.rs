//! The definition of `dead-letters`.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::DEAD_LETTERS;
use crate::cli::dead_letters::{Args, LetterCommand};
use crate::journal::LetterId;

const ACTION: &str = "action";
const IDS: &str = "ids";
const SOURCE: &str = "source";
const PROBLEM: &str = "problem";
const KEY: &str = "key";
const AGE: &str = "age";
const JSON: &str = "json";
const FORCE: &str = "force";

pub fn dead_letters() -> Command {
    let filter = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new(DEAD_LETTERS)
        .about("Lists, shows, replays or drops events that could not be applied")
        .arg(Arg::new(ACTION).value_name("ACTION").required(true).value_parser(["list", "show", "replay", "drop"]))
        .arg(
            Arg::new(IDS)
                .value_name("ID")
                .num_args(0..)
                .value_parser(|text: &str| text.parse::<LetterId>())
                .help("The IDs of the letters; without them, the filters choose"),
        )
        .arg(filter(SOURCE, "NAME", "Only letters of this source"))
        .arg(filter(PROBLEM, "TYPE", "Only letters with this problem, such as blob-denied"))
        .arg(filter(KEY, "GLOB", "Only letters with a key that matches this Redis glob"))
        .arg(filter(AGE, "TIME", "Only letters of at least this age (90s, 15m, 2h, 1d), or of at most this age (<1d)"))
        .arg(Arg::new(JSON).long(JSON).action(ArgAction::SetTrue).help("Lists one JSON object per line"))
        .arg(
            Arg::new(FORCE)
                .long(FORCE)
                .action(ArgAction::SetTrue)
                .help("Replays even if it overwrites something newer"),
        )
        .after_help(
            "Examples:
  redis-cache-sync dead-letters list --problem blob-denied --age '<1d'
  redis-cache-sync dead-letters show 1795903463933-0
  redis-cache-sync dead-letters replay --source minio
  redis-cache-sync dead-letters drop --age 30d

The settings say where the journal is (--journal-url, or --redis-url). replay puts the events back into the journal.",
        )
}

/// What follows `dead-letters`.
pub fn letters_args(matches: &ArgMatches) -> Args {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let action = match text(ACTION).as_deref() {
        Some("show") => LetterCommand::Show,
        Some("replay") => LetterCommand::Replay,
        Some("drop") => LetterCommand::Drop,
        _ => LetterCommand::List,
    };
    Args {
        action,
        ids: matches.get_many(IDS).into_iter().flatten().cloned().collect(),
        source: text(SOURCE),
        problem: text(PROBLEM),
        key: text(KEY),
        age: text(AGE),
        json: matches.get_flag(JSON),
        force: matches.get_flag(FORCE),
    }
}
