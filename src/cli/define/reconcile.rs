//! The command line of `reconcile`.

use clap::{Arg, ArgAction, Command};

use super::{BUCKET, DELETE, PREFIX, RECONCILE, SOURCE, YES};

pub(super) fn command() -> Command {
    let yes = Arg::new(YES).long(YES).action(ArgAction::SetTrue).help("Changes Redis; without it, it only tells");
    let delete =
        Arg::new(DELETE).long(DELETE).action(ArgAction::SetTrue).help("Deletes keys whose object is gone, too");
    Command::new(RECONCILE)
        .about("Brings Redis in step with what a source's store holds now")
        .arg(Arg::new(SOURCE).value_name("SOURCE").required(true).help("The name of the source"))
        .arg(
            Arg::new(BUCKET)
                .long(BUCKET)
                .value_name("NAME")
                .help("The only bucket; without it, those that include of the source names"),
        )
        .arg(Arg::new(PREFIX).long(PREFIX).value_name("TEXT").help("Only objects whose names begin so"))
        .arg(delete)
        .arg(yes)
        .after_help(
            "Examples:
  redis-cache-sync reconcile photos --bucket photos
  redis-cache-sync reconcile photos --bucket photos --prefix 2026/ --delete --yes

Nothing newer is overwritten. Begun again after an interruption, it goes on: what is in step is only looked at.
Exit code 1 if anything was left undone.",
        )
}
