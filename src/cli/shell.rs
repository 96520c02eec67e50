//! `completions` and `man`, made from the definition of the command line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;

use super::{definition, on_stderr, wrong_usage};

const NAME: &str = "redis-cache-sync";

/// Prints the completions for a shell to stdout, as a script that the shell reads at its start.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(&[]), NAME, &mut script);
    print(&script)
}

/// The page of one command; without one, of the program.
pub fn man(command: Option<&str>) -> ExitCode {
    let mut program = definition(&[]);
    program.build();
    let page = match command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            // The reader looks for it as `man redis-cache-sync-send`.
            Some(command) => command.clone().name(format!("{NAME}-{name}")),
            None => return wrong_usage(&format!("man {}: there is no such command", name.escape_debug())),
        },
    };
    let mut text = Vec::new();
    match clap_mangen::Man::new(page).render(&mut text) {
        Ok(()) => print(&text),
        Err(error) => {
            on_stderr(format_args!("redis-cache-sync: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &[u8]) -> ExitCode {
    // Whoever closed the pipe has seen enough.
    let _ = io::stdout().write_all(text);
    ExitCode::SUCCESS
}
