//! The binary: arguments, settings, a command, the exit code.

use std::process::ExitCode;

use redis_cache_sync::cli::{self, Command};
use redis_cache_sync::config::Config;
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
        Command::CheckConfig => cli::check_config::run(Config::load(args)),
        Command::Serve => match Config::load(args) {
            Ok(loaded) => cli::serve::run(loaded),
            Err(faults) => cli::refuse(&faults),
        },
    }
}
