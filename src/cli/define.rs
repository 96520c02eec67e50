//! The definition of the command line: names, help, examples. Completions and manual pages are made of it, too.

mod letters;
mod reconcile;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use clap_complete::Shell;

pub use self::letters::letters_args;
use super::send;
use crate::config::{DEFAULT_FILE, FAMILIES, SETTINGS, Secret, Setting, SettingKind, default_in_words};

pub const SERVE: &str = "serve";
pub const DEMO: &str = "demo";
pub const CHECK_CONFIG: &str = "check-config";
pub const SEND: &str = "send";
pub const CLEAR: &str = "clear";
pub const DEAD_LETTERS: &str = "dead-letters";
pub const HEALTHCHECK: &str = "healthcheck";
pub const COMPLETIONS: &str = "completions";
pub const MAN: &str = "man";
pub const RECONCILE: &str = "reconcile";
pub const SOURCE: &str = "source";
pub const BUCKET: &str = "bucket";
pub const COMMANDS: [&str; 10] =
    [SERVE, DEMO, CHECK_CONFIG, SEND, CLEAR, RECONCILE, DEAD_LETTERS, HEALTHCHECK, COMPLETIONS, MAN];

pub const CONFIG: &str = "config";
pub const CONNECT: &str = "connect";
pub const EMBEDDED: &str = "embedded";
pub const KEEP: &str = "keep";
pub const REDIS_SERVER: &str = "redis-server";
pub const WEED: &str = "weed";
pub const PATTERN: &str = "pattern";
pub const YES: &str = "yes";
pub const READY: &str = "ready";
pub const SHELL: &str = "shell";
pub const COMMAND: &str = "command";
const FILES: &str = "files";
const FROM_DIR: &str = "from-dir";
const START_AT: &str = "start-at";
pub const DELETE: &str = "delete";
const REDIS_URL: &str = "redis-url";
const REDIS_PASSWORD_FILE: &str = "redis-password-file";
const CSV: &str = "csv";
const VALUE: &str = "value";
const FROM_REDIS: &str = "from-redis";
const KEY_PATTERN: &str = "pattern";
const CERT: &str = "cert";
const CERT_KEY: &str = "cert-key";
const KEY: &str = "key";
/// What `send` takes its events from: one of them.
const SOURCES: &str = "sources";
const NOT_FOLDER: [&str; 3] = [FILES, CSV, FROM_REDIS];
const WEBHOOK_SECRET_FILE: &str = "webhook-secret-file";
const ANSWER_WITHIN: &str = "answer-within";
pub const PREFIX: &str = "prefix";
const TTL: &str = "ttl";
const TO: &str = "to";
const BATCH: &str = "batch";
const IN_FLIGHT: &str = "in-flight";
const RETRY_FOR: &str = "retry-for";
const SKIP: &str = "skip";
const FAILED: &str = "failed";
const TOKEN_FILE: &str = "token-file";
const CA_FILE: &str = "ca-file";

/// Longer than anybody waits; keeps arithmetic with instants from overflowing.
const MAX_SECONDS: u64 = 100 * 365 * 86_400;

/// The command line. `named` are the settings below a name of which it may set something.
pub fn definition(named: &[&'static Setting]) -> Command {
    Command::new("redis-cache-sync")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help(
            "Examples:
  redis-cache-sync demo
  redis-cache-sync --embedded
  redis-cache-sync --redis-url redis://localhost:6379
  redis-cache-sync send events.ndjson --to http://localhost:8080

Without a command it runs the daemon. Exit code 64: a fault in the command line or the settings. Each command has its
own examples: redis-cache-sync send --help",
        )
        .args(setting_args(named))
        .subcommand(serve().args(setting_args(named)))
        .subcommand(demo())
        .subcommand(check_config().args(setting_args(named)))
        .subcommand(sending())
        .subcommand(clear().args(setting_args(named)))
        .subcommand(reconcile::command().args(setting_args(named)))
        .subcommand(letters::dead_letters().args(setting_args(named)))
        .subcommand(healthcheck().args(setting_args(named)))
        .subcommand(completions())
        .subcommand(man())
}

fn serve() -> Command {
    Command::new(SERVE).about("Runs the daemon (the default)").after_help(
        "Examples:
  redis-cache-sync serve --redis-url redis://localhost:6379/1
  redis-cache-sync serve --config config/default.toml --fetch-allowed-hosts '*.example.com' --log-format json
  AUTH_TOKENS=a-long-secret redis-cache-sync serve --embedded --port 8081

Each setting is a flag, an environment variable and a member of the file: --fetch-pool-size, FETCH_POOL_SIZE,
fetch.pool_size.",
    )
}

fn demo() -> Command {
    let keep = Arg::new(KEEP).long(KEEP).action(ArgAction::SetTrue).help("Continues to serve afterwards");
    let program =
        |name, help| Arg::new(name).long(name).value_name("PROGRAM").value_parser(value_parser!(PathBuf)).help(help);
    let redis = program(REDIS_SERVER, "Starts this Redis and writes to it, in place of the embedded cache");
    let weed = program(WEED, "Starts this SeaweedFS and fetches from it, in place of a store of the demo's own");
    let about = "Shows the whole job on this machine, with nothing installed";
    Command::new(DEMO).about(about).args([keep, redis, weed]).after_help(
        "Examples:
  redis-cache-sync demo
  redis-cache-sync demo --keep
  redis-cache-sync demo --redis-server redis-server",
    )
}

fn check_config() -> Command {
    let about = "Shows the settings in effect and where each came from, or every fault";
    let connect = Arg::new(CONNECT).long(CONNECT).action(ArgAction::SetTrue).help(
        "Also tries Redis: address, TLS, login, version, mode and rights, with its own key that expires after 1 s",
    );
    Command::new(CHECK_CONFIG).about(about).arg(connect).after_help(
        "Examples:
  redis-cache-sync check-config
  redis-cache-sync check-config --config other.toml | grep redis
  redis-cache-sync check-config --connect --redis-url redis://localhost:6379
  REDIS_PORT=6380 redis-cache-sync check-config --redis-db 1",
    )
}

const SEND_EXAMPLES: &str = "Examples:
  redis-cache-sync send events.ndjson --to http://localhost:8080
  zcat events.gz | redis-cache-sync send - --to http://localhost:8080 --failed failed.ndjson
  redis-cache-sync send a.json b.ndjson --to https://sync.internal --ca-file ca.pem --token-file token
  redis-cache-sync send events.ndjson --to http://localhost:8080 --skip 120000
  redis-cache-sync send --from-dir public --prefix site/ --ttl 86400 --to http://localhost:8080
  redis-cache-sync send --csv users.csv --key 'user:{id}' --value profile --to http://localhost:8080
  redis-cache-sync send --from-redis redis://old:6379 --pattern 'user:*' --to http://localhost:8080

Events on one key keep their order, also when they are retried. Exit code 0: everything was stored; 1: something was not.";

fn path(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).value_parser(value_parser!(PathBuf)).help(help)
}

fn text(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).help(help)
}

fn number(name: &'static str, range: RangeInclusive<u64>, default: &'static str, help: &'static str) -> Arg {
    let parser = value_parser!(u64).range(range);
    Arg::new(name).long(name).value_name("N").value_parser(parser).default_value(default).help(help)
}

fn sending() -> Command {
    let command = Command::new(SEND).about("Sends events from files, or files as events, to a running service");
    let command = made_events(folder(inputs(command)));
    connection(bounds(command)).after_help(SEND_EXAMPLES)
}

/// Where the events come from: exactly one of these.
fn inputs(command: Command) -> Command {
    command
        .arg(
            Arg::new(FILES).value_name("FILE").value_parser(value_parser!(PathBuf)).num_args(1..).help(
                "Files of events: one a line, or one JSON object or array; gzipped or plain; - is standard input",
            ),
        )
        .arg(path(FROM_DIR, "DIR", "Stores each file of this folder; the path in the folder is the key"))
        .arg(path(CSV, "FILE", "Stores each row of this table; the first line names the columns"))
        .arg(text(FROM_REDIS, "URL", "Copies the strings of this Redis, each with its remaining time to live"))
        .group(ArgGroup::new(SOURCES).args([FILES, FROM_DIR, CSV, FROM_REDIS]).required(true))
}

/// What goes with a folder or another Redis.
fn folder(command: Command) -> Command {
    command
        .arg(text(PREFIX, "TEXT", "Prefix for the keys of the folder's files").conflicts_with_all(NOT_FOLDER))
        .arg(
            path(START_AT, "PATH", "Starts at this file of the folder, or at the next one if it is gone")
                .conflicts_with_all(NOT_FOLDER)
                .conflicts_with(SKIP),
        )
        .arg(
            Arg::new(DELETE)
                .long(DELETE)
                .action(ArgAction::SetTrue)
                .conflicts_with_all(NOT_FOLDER)
                .requires_all([PREFIX, REDIS_URL])
                .help("After all files are read, deletes keys that begin with the prefix and have no file"),
        )
        .arg(text(REDIS_URL, "URL", "The Redis behind the service, in which --delete finds keys").requires(DELETE))
        .arg(
            path(
                REDIS_PASSWORD_FILE,
                "FILE",
                "File with the password of --redis-url or --from-redis; SEND_REDIS_PASSWORD may hold it instead",
            )
            .conflicts_with_all([FILES, CSV]),
        )
}

/// What events made of files, rows and keys look like.
fn made_events(command: Command) -> Command {
    command
        .arg(
            text(VALUE, "COLUMN", "The column with the value; without it, the value is the whole row as JSON")
                .conflicts_with_all([FILES, FROM_DIR, FROM_REDIS]),
        )
        .arg(
            text(KEY_PATTERN, "GLOB", "Copies only keys that match this Redis glob")
                .conflicts_with_all([FILES, FROM_DIR, CSV]),
        )
        .arg(text(
            KEY,
            "TEXT",
            "With --csv: the key of a row, such as user:{id}; otherwise: the PEM file with the key of --cert",
        ))
        .arg(
            Arg::new(TTL)
                .long(TTL)
                .value_name("SECONDS")
                .value_parser(value_parser!(u32).range(1..))
                .conflicts_with_all([FILES, FROM_REDIS])
                .help("Time to live of files and rows"),
        )
}

/// Where to, how many at once, for how long.
fn bounds(command: Command) -> Command {
    command
        .arg(Arg::new(TO).long(TO).value_name("URL").required(true).help("The URL of the service: http://host:port"))
        .arg(number(BATCH, 1..=100_000, "500", "Most events in one request"))
        .arg(number(IN_FLIGHT, 1..=1000, "8", "Most requests in progress at once"))
        .arg(number(RETRY_FOR, 0..=MAX_SECONDS, "60", "Seconds during which an event is retried").value_name("SECONDS"))
        .arg(number(SKIP, 0..=u64::MAX, "0", "Skips the first N events, which were sent before"))
        .arg(path(FAILED, "FILE", "Writes the events that were not stored to this file, to send them again"))
}

/// How to reach the service and how to log in.
fn connection(command: Command) -> Command {
    command
        .arg(path(TOKEN_FILE, "FILE", "File with the bearer token; SEND_TOKEN may hold it instead"))
        .arg(path(CA_FILE, "PEM", "Trusts these authorities instead of the usual ones"))
        .arg(path(CERT, "PEM", "Client certificate to show; its key is in --key, --cert-key or the same file"))
        .arg(path(CERT_KEY, "PEM", "The key of --cert, when --key is the key of a row").requires(CERT))
        .arg(path(WEBHOOK_SECRET_FILE, "FILE", "Signs requests with the secret in this file (Standard Webhooks)"))
        .arg(number(ANSWER_WITHIN, 1..=MAX_SECONDS, "60", "Seconds to wait for an answer").value_name("SECONDS"))
}

/// What follows `send`; none only if the definition above lacks a default.
pub fn send_args(matches: &ArgMatches) -> Option<send::Args> {
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let ttl = matches.get_one::<u32>(TTL).copied();
    let folder = |folder| send::Folder::new(folder, text(PREFIX).unwrap_or_default(), ttl, path(START_AT));
    let table = |file| send::Table { path: file, key: text(KEY).unwrap_or_default(), value: text(VALUE), ttl };
    let from = |url: String| send::CopiedRedis {
        url: Secret::new(url),
        pattern: text(KEY_PATTERN).unwrap_or_else(|| "*".to_owned()),
    };
    // A PEM file may hold both.
    let key_file = |cert: &PathBuf| {
        let named = text(KEY).filter(|_| path(CSV).is_none()).map(PathBuf::from);
        path(CERT_KEY).or(named).unwrap_or_else(|| cert.clone())
    };
    Some(send::Args {
        files: matches.get_many(FILES).into_iter().flatten().cloned().collect(),
        folder: path(FROM_DIR).map(folder),
        table: path(CSV).map(table),
        redis: text(FROM_REDIS).map(from),
        mirror: text(REDIS_URL).filter(|_| matches.get_flag(DELETE)).map(Secret::new),
        to: text(TO)?,
        batch: usize::try_from(number(BATCH)?).ok()?,
        in_flight: usize::try_from(number(IN_FLIGHT)?).ok()?,
        retry_for: Duration::from_secs(number(RETRY_FOR)?),
        skip: number(SKIP)?,
        failed: path(FAILED),
        token_file: path(TOKEN_FILE),
        redis_password_file: path(REDIS_PASSWORD_FILE),
        ca_file: path(CA_FILE),
        identity: path(CERT).map(|cert| (cert.clone(), key_file(&cert))),
        webhook_secret_file: path(WEBHOOK_SECRET_FILE),
        answer_within: Duration::from_secs(number(ANSWER_WITHIN)?),
    })
}

fn clear() -> Command {
    let yes = Arg::new(YES).long(YES).action(ArgAction::SetTrue).help("Deletes without asking");
    Command::new(CLEAR)
        .about("Deletes keys by pattern directly in Redis")
        .arg(Arg::new(PATTERN).value_name("PATTERN").required(true).help("A Redis glob: sess:*, user:[0-9]?"))
        .arg(yes)
        .after_help(
            "Examples:
  redis-cache-sync clear 'sess:*'
  redis-cache-sync clear 'sess:*' --yes
  redis-cache-sync clear 'user:4?' --redis-url redis://localhost:6379/1 --yes
  redis-cache-sync clear '*' --event-allow-match-all --yes

Without --yes it counts the keys and shows some; on a terminal it then asks.",
        )
}

fn healthcheck() -> Command {
    let ready = Arg::new(READY).long(READY).action(ArgAction::SetTrue).help("Asks /ready instead of /live");
    Command::new(HEALTHCHECK)
        .about("Asks the daemon on this machine whether it is live, for images without a shell")
        .arg(ready)
        .after_help(
            "Examples:
  redis-cache-sync healthcheck && echo live
  redis-cache-sync healthcheck --ready
  PORT=8081 redis-cache-sync healthcheck",
        )
}

fn completions() -> Command {
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
    let shell = Arg::new(SHELL).value_name("SHELL").required(true);
    let parser = clap::builder::PossibleValuesParser::new(shells.map(|shell| shell.to_string()));
    let parser = clap::builder::TypedValueParser::try_map(parser, |name| name.parse::<Shell>());
    Command::new(COMPLETIONS).about("Prints completions for a shell").arg(shell.value_parser(parser)).after_help(
        "Examples:
  redis-cache-sync completions bash > ~/.local/share/bash-completion/completions/redis-cache-sync
  redis-cache-sync completions zsh > ~/.zfunc/_redis-cache-sync
  redis-cache-sync completions fish > ~/.config/fish/completions/redis-cache-sync.fish",
    )
}

fn man() -> Command {
    let command = Arg::new(COMMAND).value_name("COMMAND").help("The page of this command instead of the program's");
    Command::new(MAN).about("Prints a manual page").arg(command).after_help(
        "Examples:
  redis-cache-sync man | man -l -
  redis-cache-sync man send > ~/.local/share/man/man1/redis-cache-sync-send.1",
    )
}

/// `--config`, `--embedded` and a flag for every setting. For help, those below a name are there with `NAME` in its place.
fn setting_args(named: &[&'static Setting]) -> impl Iterator<Item = Arg> {
    let config = Arg::new(CONFIG).long(CONFIG).value_name("FILE").value_parser(value_parser!(PathBuf));
    let embedded = Arg::new(EMBEDDED).long(EMBEDDED).action(ArgAction::SetTrue);
    let own = [
        config.help(format!("Reads settings from this file instead of {DEFAULT_FILE}")),
        embedded.help("Short for --cache-backend embedded"),
    ];
    let rows = FAMILIES.iter().flat_map(|family| {
        let heading = match family.group {
            "stores" => "Settings of a store, under its NAME",
            _ => "Settings of a source, under its NAME",
        };
        family.settings.iter().map(move |setting| setting_arg(setting, heading))
    });
    own.into_iter()
        .chain(
            SETTINGS.iter().map(|setting| setting_arg(setting, "Settings (each also as a variable and in the file)")),
        )
        .chain(rows)
        .chain(named.iter().map(|setting| setting_arg(setting, "").hide(true)))
}

fn setting_arg(setting: &'static Setting, heading: &'static str) -> Arg {
    let arg = Arg::new(setting.path)
        .long(setting.flag())
        .value_name("VALUE")
        .help(setting.doc)
        .long_help(format!("{}\n[{}; default: {}]", setting.doc, setting.kind.allowed(), default_of(setting)))
        .hide_short_help(true)
        .help_heading(heading)
        .allow_negative_numbers(true);
    match setting.kind {
        SettingKind::Switch => arg.num_args(0..=1).default_missing_value("true"),
        _ => arg,
    }
}

/// Without the marks that it has in the docs.
fn default_of(setting: &Setting) -> String {
    default_in_words(setting).replace('`', "")
}
