//! The command line, and one file a command.
//!
//! Owns what may be typed and the exit codes: 0 done, 1 not or not all, 64 a fault in the command line or the settings. The
//! flags of the settings follow from the table in [`config`](crate::config) and may stand before or after the command's name. What
//! they mean is left to [`Config::load`](crate::config::Config::load).

mod auth_reload;
pub mod check_config;
pub mod clear;
mod client;
pub mod dead_letters;
mod define;
pub mod demo;
pub mod healthcheck;
mod keys;
mod peers;
pub mod reconcile;
mod reload;
mod retry_window;
mod screen;
pub mod send;
pub mod serve;
pub mod shell;
mod signals;
mod stores;
mod traces;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap_complete::Shell;

use self::define::{
    BUCKET, CHECK_CONFIG, CLEAR, COMMAND, COMPLETIONS, CONFIG, CONNECT, DEAD_LETTERS, DELETE, DEMO, EMBEDDED,
    HEALTHCHECK, KEEP, MAN, PATTERN, PREFIX, READY, RECONCILE, REDIS_SERVER, SEND, SHELL, SOURCE, WEED, YES,
    definition, letters_args, send_args,
};
use crate::config::{
    Args, FAMILIES, Flag, SETTINGS, Setting, SettingFault, SettingFaults, find, named_by_flag, settings_of,
};

/// `EX_USAGE` of BSD's sysexits: the command line or the settings are at fault.
pub const EXIT_USAGE: u8 = 64;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subcommand {
    /// Run the daemon; the command when none is named.
    Serve,
    /// Show the whole job on this machine, with servers of its own.
    Demo(demo::DemoParts),
    /// Print every setting with its origin, and every fault.
    CheckConfig {
        /// Whether Redis is called as well (`--connect`).
        connect: bool,
    },
    /// Post the events of files, a folder, a table or another Redis to a running service.
    Send(Box<send::Args>),
    /// Delete the keys that match, straight in Redis, without the daemon.
    Clear {
        /// The Redis glob of the keys.
        pattern: String,
        /// Whether nobody is asked first (`--yes`).
        yes: bool,
    },
    /// Bring Redis in step with what a source's store holds.
    Reconcile(reconcile::Wanted),
    /// List, show, replay or drop events that could not be applied.
    DeadLetters(Box<dead_letters::Args>),
    /// Ask the daemon on this machine for its probe; the exit code is the answer, for images without a shell.
    Healthcheck {
        /// Whether `/ready` is asked; otherwise `/live`.
        ready: bool,
    },
    /// Print the completions for this shell.
    Completions(Shell),
    /// Print a manual page.
    Man {
        /// The command whose page it is; None: the page of the program.
        command: Option<String>,
    },
}

/// The command and what the command line says about settings. Unknown flags are among the faults of [`Args`], to be
/// listed with those of the settings.
///
/// # Errors
/// The exit code, when all there is to say has been printed: help, version, or a command line that makes no sense.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<(Subcommand, Args), ExitCode> {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let (matches, mut faults) = matches(argv.clone()).map_err(|error| {
        // Nothing is left to be done if even that cannot be printed.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
    })?;
    let named = named_by(&argv);
    let settings = |matches: &ArgMatches| settings(matches, &named);
    let outer = settings(&matches);
    let (command, mut args) = match matches.subcommand() {
        Some((name, inner)) => match of_its_own(name, inner) {
            // Those have no use for settings.
            Some(command) => {
                faults.extend(outer.flags.iter().map(|flag| needless(&flag.given_as, name)));
                faults.extend(outer.file.iter().map(|_| needless("--config", name)));
                (command, Args::default())
            }
            None => (with_settings(name, inner), outer.followed_by(settings(inner))),
        },
        None => (Subcommand::Serve, outer),
    };
    faults.extend(contradiction(&args));
    args.faults.extend(faults);
    match command {
        Subcommand::Serve
        | Subcommand::CheckConfig { .. }
        | Subcommand::Clear { .. }
        | Subcommand::Reconcile(_)
        | Subcommand::DeadLetters(_)
        | Subcommand::Healthcheck { .. } => Ok((command, args)),
        _ if !args.faults.is_empty() => Err(refuse(&SettingFaults(args.faults))),
        _ => Ok((command, args)),
    }
}

/// A command that takes no settings.
fn of_its_own(name: &str, inner: &ArgMatches) -> Option<Subcommand> {
    Some(match name {
        DEMO => Subcommand::Demo(demo::DemoParts {
            keep: inner.get_flag(KEEP),
            redis_server: inner.get_one(REDIS_SERVER).cloned(),
            weed: inner.get_one(WEED).cloned(),
        }),
        SEND => Subcommand::Send(Box::new(send_args(inner)?)),
        COMPLETIONS => Subcommand::Completions(*inner.get_one(SHELL)?),
        MAN => Subcommand::Man { command: inner.get_one(COMMAND).cloned() },
        _ => return None,
    })
}

fn with_settings(name: &str, inner: &ArgMatches) -> Subcommand {
    match name {
        CHECK_CONFIG => Subcommand::CheckConfig { connect: inner.get_flag(CONNECT) },
        CLEAR => {
            let pattern = inner.get_one(PATTERN).cloned().unwrap_or_default();
            Subcommand::Clear { pattern, yes: inner.get_flag(YES) }
        }
        RECONCILE => Subcommand::Reconcile(reconcile::Wanted {
            source: inner.get_one(SOURCE).cloned().unwrap_or_default(),
            bucket: inner.get_one(BUCKET).cloned(),
            prefix: inner.get_one(PREFIX).cloned().unwrap_or_default(),
            delete: inner.get_flag(DELETE),
            yes: inner.get_flag(YES),
        }),
        DEAD_LETTERS => Subcommand::DeadLetters(Box::new(letters_args(inner))),
        HEALTHCHECK => Subcommand::Healthcheck { ready: inner.get_flag(READY) },
        _ => Subcommand::Serve,
    }
}

/// Prints every fault; the exit code says that there were some.
pub fn refuse(faults: &SettingFaults) -> ExitCode {
    let count = match faults.0.len() {
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    on_stderr(format_args!("redis-cache-sync: cannot start, {count} in the settings:\n{faults}"));
    ExitCode::from(EXIT_USAGE)
}

/// A line on standard error. Whoever closed the pipe does not want to know.
fn on_stderr(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The same for a fault in what a command was given.
fn wrong_usage(fault: &str) -> ExitCode {
    on_stderr(format_args!("redis-cache-sync: {fault}"));
    ExitCode::from(EXIT_USAGE)
}

/// Parses, setting unknown flags aside, so that one of them does not hide the others.
fn matches(mut argv: Vec<OsString>) -> Result<(ArgMatches, Vec<SettingFault>), clap::Error> {
    let mut faults = Vec::new();
    let named = named_by(&argv);
    loop {
        let error = match definition(&named).try_get_matches_from(&argv) {
            Ok(matches) => return Ok((matches, faults)),
            Err(error) => error,
        };
        match set_aside(&mut argv, &error) {
            Some(fault) => faults.push(fault),
            None => {
                faults.iter().for_each(on_stderr);
                return Err(error);
            }
        }
    }
}

/// All settings below the names that flags set something of.
fn named_by(argv: &[OsString]) -> Vec<&'static Setting> {
    let named: BTreeSet<(&str, &str)> = argv.iter().filter_map(|arg| named_by_flag(arg.to_str()?)).collect();
    named.into_iter().flat_map(|(group, name)| settings_of(group, name)).collect()
}

/// Takes the unknown flag that the error is about, and what looks like its value, out of the arguments.
fn set_aside(argv: &mut Vec<OsString>, error: &clap::Error) -> Option<SettingFault> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg).filter(|flag| flag.starts_with('-'))?;
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let is_it = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.split('=').next() == Some(flag));
    let at = argv.iter().position(is_it).filter(|at| *at > 0)?;
    argv.remove(at);
    let is_value = |arg: &OsString| arg.to_str().is_some_and(|arg| !arg.starts_with('-') && !is_command(arg));
    if argv.get(at).is_some_and(is_value) {
        argv.remove(at);
    }
    let hint = text(ContextKind::SuggestedArg).map(|flag| format!(", did you mean {flag}?")).unwrap_or_default();
    Some(SettingFault::Usage(format!(
        "{flag} (command line): there is no such flag{hint}; allowed: those that --help lists"
    )))
}

fn is_command(text: &str) -> bool {
    define::COMMANDS.contains(&text)
}

fn settings(matches: &ArgMatches, named: &[&'static Setting]) -> Args {
    let mut flags: Vec<Flag> = Vec::new();
    for setting in SETTINGS.iter().chain(named.iter().copied()) {
        if let Some(value) = matches.get_one::<String>(setting.path) {
            flags.push(Flag { setting, value: value.clone(), given_as: format!("--{}", setting.flag()) });
        }
    }
    let is_given = |setting: &&Setting| matches.get_one::<String>(setting.path).is_some();
    let faults = FAMILIES.iter().flat_map(|family| family.settings).filter(is_given).map(|setting| {
        let flag = setting.flag();
        SettingFault::Usage(format!(
            "--{flag} (command line): write a name in place of NAME, as in --sources-minio-format or --stores-main-kind"
        ))
    });
    if matches.get_flag(EMBEDDED) {
        let short = find("cache.backend").map(|setting| Flag {
            setting,
            value: EMBEDDED.to_owned(),
            given_as: format!("--{EMBEDDED}"),
        });
        flags.extend(short);
    }
    Args { file: matches.get_one::<PathBuf>(CONFIG).cloned(), flags, faults: faults.collect() }
}

impl Args {
    /// What stands behind the command's name wins over what stands before it.
    fn followed_by(mut self, later: Args) -> Args {
        self.flags.extend(later.flags);
        self.faults.extend(later.faults);
        Args { file: later.file.or(self.file), ..self }
    }
}

fn needless(flag: &str, command: &str) -> SettingFault {
    let instead = match command {
        DEMO => "demo has settings of its own; allowed: --keep".to_owned(),
        _ => format!("{command} takes no settings; allowed: what {command} --help lists"),
    };
    SettingFault::Usage(format!("{flag} (command line): {instead}"))
}

/// `--embedded` beside a `--cache-backend` that says something else.
fn contradiction(args: &Args) -> Option<SettingFault> {
    let short = args.flags.iter().find(|flag| flag.given_as == "--embedded")?;
    let long = args.flags.iter().find(|flag| flag.given_as == "--cache-backend" && flag.value != short.value)?;
    Some(SettingFault::Pair {
        first: "--embedded (command line)".to_owned(),
        second: format!("--cache-backend {} (command line)", long.value.escape_debug()),
        reason: "they contradict each other".to_owned(),
    })
}
