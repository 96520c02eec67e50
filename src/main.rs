//! The binary: arguments, settings, a command, the exit code.

use std::process::ExitCode;

use redis_cache_sync::cli::{self, Subcommand};
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
        Subcommand::Demo(parts) => cli::demo::run(&parts),
        Subcommand::Send(send) => cli::send::run(&send),
        Subcommand::Completions(shell) => cli::shell::completions(shell),
        Subcommand::Man { command } => cli::shell::man(command.as_deref()),
        Subcommand::Reconcile(wanted) => with_settings(args, |config| cli::reconcile::run(wanted, config)),
        Subcommand::Clear { pattern, yes } => with_settings(args, |config| cli::clear::run(&pattern, yes, config)),
        Subcommand::DeadLetters(letters) => with_settings(args, |config| cli::dead_letters::run(&letters, config)),
        Subcommand::Healthcheck { ready } => cli::healthcheck::run(ready, args),
        Subcommand::CheckConfig { connect } => cli::check_config::run(connect, Config::load(args)),
        Subcommand::Serve => cli::serve::run(args),
    }
}

fn with_settings(args: Args, run: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match Config::load(args) {
        Ok(loaded) => run(&loaded.config),
        Err(faults) => cli::refuse(&faults),
    }
}
