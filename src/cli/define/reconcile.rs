//! The command line of `reconcile`.

use clap::{Arg, ArgAction, Command};

use super::{BUCKET, DELETE, PREFIX, RECONCILE, SOURCE, YES};

pub(super) fn command() -> Command {
    let yes = Arg::new(YES)
        .long(YES)
        .action(ArgAction::SetTrue)
        .help("Changes Redis; without it, only shows what it would do");
    let delete =
        Arg::new(DELETE).long(DELETE).action(ArgAction::SetTrue).help("Also deletes keys whose object is gone");
    Command::new(RECONCILE)
        .about("Brings Redis in step with what a source's store holds now")
        .arg(Arg::new(SOURCE).value_name("SOURCE").required(true).help("The name of the source"))
        .arg(
            Arg::new(BUCKET)
                .long(BUCKET)
                .value_name("NAME")
                .help("Only this bucket; without it, the buckets in the source's include"),
        )
        .arg(Arg::new(PREFIX).long(PREFIX).value_name("TEXT").help("Only objects whose names begin with this text"))
        .arg(delete)
        .arg(yes)
        .after_help(
            "Examples:
  redis-cache-sync reconcile photos --bucket photos
  redis-cache-sync reconcile photos --bucket photos --prefix 2026/ --delete --yes

It never overwrites anything newer. After an interruption run it again: it skips what is in step.
Exit code 1: something was not done, or --delete left keys without an object of which nothing shows whose they are.",
        )
}
