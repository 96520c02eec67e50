//! The command line, and one file a command.
//!
//! Owns what may be typed and the exit codes: 0 done, 64 a fault in the command line or the settings. The flags of the
//! settings follow from the table in [`config`](crate::config) and may stand before or after the command's name. What
//! they mean is left to [`Config::load`](crate::config::Config::load).

pub mod check_config;
pub mod demo;
mod rereading;
pub mod serve;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use crate::config::{Args, DEFAULT_FILE, Fault, Faults, Flag, Kind, SETTINGS, find};

/// `EX_USAGE` of BSD's sysexits: the command line or the settings are at fault.
pub const EXIT_USAGE: u8 = 64;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Serve,
    Demo { keep: bool },
    CheckConfig,
}

/// The command and what the command line says about settings. Unknown flags are among the faults of [`Args`], to be
/// listed with those of the settings.
///
/// # Errors
/// The exit code, when all there is to say has been printed: help, version, or a command line that makes no sense.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<(Command, Args), ExitCode> {
    let (matches, mut faults) = matches(argv.into_iter().collect()).map_err(|error| {
        // Nothing is left to be done if even that cannot be printed.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
    })?;
    let outer = settings(&matches);
    let (command, mut args) = match matches.subcommand() {
        Some((DEMO, inner)) => {
            faults.extend(outer.flags.iter().map(|flag| needless(&flag.given_as)));
            faults.extend(outer.file.iter().map(|_| needless("--config")));
            (Command::Demo { keep: inner.get_flag(KEEP) }, Args::default())
        }
        Some((CHECK_CONFIG, inner)) => (Command::CheckConfig, outer.followed_by(settings(inner))),
        Some((_, inner)) => (Command::Serve, outer.followed_by(settings(inner))),
        None => (Command::Serve, outer),
    };
    faults.extend(contradiction(&args));
    args.faults = faults;
    match command {
        Command::Demo { .. } if !args.faults.is_empty() => Err(refuse(&Faults(args.faults))),
        _ => Ok((command, args)),
    }
}

/// Prints every fault; the exit code says that there were some.
pub fn refuse(faults: &Faults) -> ExitCode {
    let count = match faults.0.len() {
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    eprintln!("redis-cache-sync: cannot start, {count} in the settings:\n{faults}");
    ExitCode::from(EXIT_USAGE)
}

const SERVE: &str = "serve";
const DEMO: &str = "demo";
const CHECK_CONFIG: &str = "check-config";
const CONFIG: &str = "config";
const EMBEDDED: &str = "embedded";
const KEEP: &str = "keep";

fn definition() -> clap::Command {
    clap::Command::new("redis-cache-sync")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help("Without a command it serves. Faults in the command line or the settings end it with exit code 64.")
        .args(setting_args())
        .subcommand(clap::Command::new(SERVE).about("Runs the daemon (the default)").args(setting_args()))
        .subcommand(
            clap::Command::new(DEMO)
                .about("Shows the whole job on this machine, with nothing installed")
                .arg(Arg::new(KEEP).long(KEEP).action(ArgAction::SetTrue).help("Goes on serving afterwards")),
        )
        .subcommand(
            clap::Command::new(CHECK_CONFIG)
                .about("Shows the settings in effect and where each came from, or every fault")
                .args(setting_args()),
        )
}

/// `--config`, `--embedded` and a flag for every setting.
fn setting_args() -> impl Iterator<Item = Arg> {
    let config = Arg::new(CONFIG).long(CONFIG).value_name("FILE").value_parser(clap::value_parser!(PathBuf));
    let embedded = Arg::new(EMBEDDED).long(EMBEDDED).action(ArgAction::SetTrue);
    let own = [
        config.help(format!("Reads settings from this file instead of {DEFAULT_FILE}")),
        embedded.help("Short for --cache-backend embedded"),
    ];
    own.into_iter().chain(SETTINGS.iter().map(|setting| {
        let arg = Arg::new(setting.path)
            .long(setting.flag())
            .value_name("VALUE")
            .help(setting.doc)
            .help_heading("Settings")
            .allow_negative_numbers(true);
        match setting.kind {
            Kind::Switch => arg.num_args(0..=1).default_missing_value("true"),
            _ => arg,
        }
    }))
}

/// Parses, setting unknown flags aside, so that one of them does not hide the others.
fn matches(mut argv: Vec<OsString>) -> Result<(ArgMatches, Vec<Fault>), clap::Error> {
    let mut faults = Vec::new();
    loop {
        let error = match definition().try_get_matches_from(&argv) {
            Ok(matches) => return Ok((matches, faults)),
            Err(error) => error,
        };
        match set_aside(&mut argv, &error) {
            Some(fault) => faults.push(fault),
            None => {
                faults.iter().for_each(|fault| eprintln!("{fault}"));
                return Err(error);
            }
        }
    }
}

/// Takes the unknown flag that the error is about, and what looks like its value, out of the arguments.
fn set_aside(argv: &mut Vec<OsString>, error: &clap::Error) -> Option<Fault> {
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
    Some(Fault::Usage(format!("{flag} (command line): there is no such flag{hint}; allowed: those that --help lists")))
}

fn is_command(text: &str) -> bool {
    [SERVE, DEMO, CHECK_CONFIG].contains(&text)
}

fn settings(matches: &ArgMatches) -> Args {
    let mut flags: Vec<Flag> = Vec::new();
    for setting in SETTINGS {
        if let Some(value) = matches.get_one::<String>(setting.path) {
            flags.push(Flag { setting, value: value.clone(), given_as: format!("--{}", setting.flag()) });
        }
    }
    if matches.get_flag(EMBEDDED) {
        let short = find("cache.backend").map(|setting| Flag {
            setting,
            value: EMBEDDED.to_owned(),
            given_as: format!("--{EMBEDDED}"),
        });
        flags.extend(short);
    }
    Args { file: matches.get_one::<PathBuf>(CONFIG).cloned(), flags, faults: Vec::new() }
}

impl Args {
    /// What stands behind the command's name wins over what stands before it.
    fn followed_by(mut self, later: Args) -> Args {
        self.flags.extend(later.flags);
        Args { file: later.file.or(self.file), ..self }
    }
}

fn needless(flag: &str) -> Fault {
    Fault::Usage(format!("{flag} (command line): demo has settings of its own; allowed: --keep"))
}

/// `--embedded` beside a `--cache-backend` that says something else.
fn contradiction(args: &Args) -> Option<Fault> {
    let short = args.flags.iter().find(|flag| flag.given_as == "--embedded")?;
    let long = args.flags.iter().find(|flag| flag.given_as == "--cache-backend" && flag.value != short.value)?;
    Some(Fault::Pair {
        first: "--embedded (command line)".to_owned(),
        second: format!("--cache-backend {} (command line)", long.value.escape_debug()),
        reason: "they contradict each other".to_owned(),
    })
}
