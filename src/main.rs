//! The binary: arguments, settings, a command, the exit code.

use std::process::ExitCode;

use redis_cache_sync::cli::{self, Command};
use redis_cache_sync::config::{Args, Config};
use tikv_jemallocator::Jemalloc;

/// Blobs come and go by the megabyte on several threads: glibc gives such memory back to the kernel at once, and pays for
/// every page of the next.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let (command, args) = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(answered) => return answered,
    };
    match command {
        Command::Demo { keep } => cli::demo::run(keep),
        Command::Send(send) => cli::send::run(&send),
        Command::Completions(shell) => cli::shell::completions(shell),
        Command::Man { command } => cli::shell::man(command.as_deref()),
        Command::Reconcile(wanted) => with_settings(args, |config| cli::reconcile::run(wanted, config)),
        Command::Clear { pattern, yes } => with_settings(args, |config| cli::clear::run(&pattern, yes, config)),
        Command::DeadLetters(letters) => with_settings(args, |config| cli::dead_letters::run(&letters, config)),
        Command::Healthcheck { live } => with_settings(args, |config| cli::healthcheck::run(live, config)),
        Command::CheckConfig { connect } => cli::check_config::run(connect, Config::load(args)),
        Command::Serve => cli::serve::run(args),
    }
}

fn with_settings(args: Args, run: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match Config::load(args) {
        Ok(loaded) => run(&loaded.config),
        Err(faults) => cli::refuse(&faults),
    }
}
