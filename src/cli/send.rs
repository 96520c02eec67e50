//! `send`: posts the events of files to a running service.
//!
//! Promises: events on one key take effect in their order, whatever has to be repeated; what the service may take later is
//! tried again; what was not stored is told and counted, and kept on request; memory does not grow with the files.
//!
//! `split` and `event` make events of bytes, `folder` of whole files, `table` of rows, `copy` of the keys of a Redis, with
//! `made`; `input` reads, `plan` says what may go together and what must wait, `post` makes one request, `held` keeps back
//! what must not overtake what was given up, `ledger` and `progress` keep count and show it, and `run` is the loop through
//! all of them.

mod copy;
mod event;
mod folder;
mod held;
mod input;
mod ledger;
mod made;
mod plan;
mod post;
mod progress;
mod run;
mod split;
mod table;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustls::ClientConfig;
use url::Url;

pub use self::copy::CopiedRedis;
use self::event::{InputPlace, Looker};
pub use self::folder::Folder;
use self::input::{Input, InputFile};
use self::ledger::{Ledger, SendCounts};
use self::plan::RequestLimits;
use self::post::Poster;
use self::run::{Run, RunEnd, SendSettings};
pub use self::table::Table;
use self::table::check_template;
use super::signals::Signals;
use super::{client, on_stderr, wrong_usage};
use crate::config::{self, Secret, WebhookSecret};
use crate::event::rights::TokenLine;

/// The environment's way to give the token.
pub const TOKEN_VARIABLE: &str = "SEND_TOKEN";
/// The same for the password of `--from-redis` or `--redis-url`.
pub const REDIS_PASSWORD_VARIABLE: &str = "SEND_REDIS_PASSWORD";
/// Bytes of one request; well below the least that `http.max_body_bytes` is likely to be set to.
const BATCH_BYTES: usize = 1 << 20;
const EVENTS: &str = "/events";

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// The files with events, JSON or NDJSON, read in this order; `-` is the standard input.
    pub files: Vec<PathBuf>,
    /// In place of `files`, as are the next two.
    pub folder: Option<Folder>,
    /// A CSV file whose rows are sent as SETs.
    pub table: Option<Table>,
    /// Another Redis whose strings are sent as SETs.
    pub redis: Option<CopiedRedis>,
    /// The URL of the Redis whose keys go that the folder has no file for.
    pub mirror: Option<Secret>,
    /// The URL of the service, such as `http://localhost:8080`.
    pub to: String,
    /// Events of one request, at most (`--batch`).
    pub batch: usize,
    /// Requests under way at once, at most (`--in-flight`).
    pub in_flight: usize,
    /// How long what is unavailable is sent again before `send` gives up (`--retry-for`).
    pub retry_for: Duration,
    /// Events at the beginning that are not sent (`--skip`): those that an earlier run finished.
    pub skip: u64,
    /// A file that gets the events that were not stored (`--failed`), to be sent again; None: they are only reported.
    pub failed: Option<PathBuf>,
    /// A file whose token goes into `Authorization` (`--token-file`).
    pub token_file: Option<PathBuf>,
    /// The password to the URL of `redis` or `mirror`.
    pub redis_password_file: Option<PathBuf>,
    /// A PEM file of the authorities to trust for `to` (`--ca-file`); None: the usual ones.
    pub ca_file: Option<PathBuf>,
    /// PEM files of a certificate to show, and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A file whose secret signs each request (`--webhook-secret-file`).
    pub webhook_secret_file: Option<PathBuf>,
    /// For the answer to one request.
    pub answer_within: Duration,
}

/// What was named and could be used.
struct Ready {
    sources: Vec<InputFile>,
    url: Url,
    token: Option<Secret>,
    webhook_secret: Option<WebhookSecret>,
    tls: ClientConfig,
    failed: Option<File>,
}

/// Success only if every event was stored.
pub fn run(args: &Args) -> ExitCode {
    match prepare(args) {
        Ok(ready) => actix_rt::System::new().block_on(send(args, ready)).unwrap_or_else(|error| {
            on_stderr(format_args!("redis-cache-sync: {error}"));
            ExitCode::FAILURE
        }),
        Err(fault) => wrong_usage(&fault),
    }
}

fn prepare(args: &Args) -> Result<Ready, String> {
    let url = events_url(&args.to).map_err(|reason| format!("--to: {reason}"))?;
    let about = |flag: &str, path: &Path, reason: String| format!("{flag}: {}: {reason}", path.display());
    let token = match &args.token_file {
        Some(path) => {
            let lines = config::tokens_in(path).map_err(|reason| about("--token-file", path, reason))?;
            // A line may say rights too, as in a file of the service; they are not sent. A name before the token may be a part of it.
            lines.first().and_then(|line| Some(Secret::new(TokenLine::parse(line.expose()).ok()?.named_token)))
        }
        None => token_of_environment()?,
    };
    let authorities = match &args.ca_file {
        Some(path) => Some(config::authorities_in(path).map_err(|reason| about("--ca-file", path, reason))?),
        None => None,
    };
    let identity = match &args.identity {
        Some((cert, key)) => {
            Some(config::identity_in(cert, key).map_err(|reason| format!("--cert and --key: {reason}"))?)
        }
        None => None,
    };
    let webhook_secret = match &args.webhook_secret_file {
        Some(path) => {
            let secrets = config::webhook_secrets_in(path);
            secrets.map_err(|reason| about("--webhook-secret-file", path, reason))?.into_iter().next()
        }
        None => None,
    };
    let tls = client::tls(authorities, identity).map_err(|error| format!("--cert and --key: {error}"))?;
    let mut sources = InputFile::open_all(&args.files)?;
    if let Some(folder) = &args.folder {
        let folder = folder.open().map_err(|fault| format!("--from-dir: {fault}"))?;
        let mirror = args.mirror.as_ref().map(|url| redis_url("--redis-url", url, args)).transpose()?;
        sources.push(InputFile::Folder { folder, mirror });
    }
    if let Some(table) = &args.table {
        check_template(&table.key).map_err(|fault| format!("--key: {fault}"))?;
        sources.push(InputFile::table(table.clone()).map_err(|fault| format!("--csv: {fault}"))?);
    }
    if let Some(redis) = &args.redis {
        let url = redis_url(copy::FROM_REDIS, &redis.url, args)?;
        sources.push(InputFile::Redis(CopiedRedis { url, ..redis.clone() }));
    }
    let failed =
        args.failed.as_deref().map(ledger::create).transpose().map_err(|fault| format!("--failed: {fault}"))?;
    Ok(Ready { sources, url, token, webhook_secret, tls, failed })
}

/// With the password of the file or the environment; warns of one that stands among the arguments.
fn redis_url(flag: &str, url: &Secret, args: &Args) -> Result<Secret, String> {
    if config::has_password(url.expose()) {
        on_stderr(format_args!(
            "redis-cache-sync: warning: process lists show the password in {flag}; \
             --redis-password-file and {REDIS_PASSWORD_VARIABLE} keep it to yourself"
        ));
    }
    let password = match &args.redis_password_file {
        Some(path) => {
            let about = |reason| format!("--redis-password-file: {}: {reason}", path.display());
            Some(config::password_in(path).map_err(about)?)
        }
        // A password in the URL is the nearer one.
        None => config::secret_variable(REDIS_PASSWORD_VARIABLE).filter(|_| !config::has_password(url.expose())),
    };
    copy::with_password(url, password.as_ref()).map_err(|reason| format!("{flag}: {reason}"))
}

fn token_of_environment() -> Result<Option<Secret>, String> {
    let token = config::secret_variable(TOKEN_VARIABLE);
    let is_good = |token: &Secret| token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    match token {
        Some(token) if !is_good(&token) => {
            Err(format!("{TOKEN_VARIABLE}: a token must consist of visible ASCII characters"))
        }
        token => Ok(token),
    }
}

/// `http://host:8080` is short for `http://host:8080/events`.
fn events_url(text: &str) -> Result<Url, &'static str> {
    let mut url = Url::parse(text).map_err(|_| "it must be a URL, such as http://localhost:8080")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("it must be an http or https URL, such as http://localhost:8080");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not hold a user or password: give a token with --token-file");
    }
    if url.path() == "/" {
        url.set_path(EVENTS);
    }
    url.set_fragment(None);
    Ok(url)
}

async fn send(args: &Args, ready: Ready) -> Result<ExitCode, String> {
    let mut signals = Signals::listen(None).map_err(|error| error.to_string())?;
    let looker = Looker::new();
    let client = client::client(ready.tls, args.in_flight, args.answer_within);
    let poster = Poster::new(client, ready.url.into(), ready.token, ready.webhook_secret, args.answer_within);
    let input = Input::start(ready.sources, looker.clone(), args.skip).map_err(|error| error.to_string())?;
    let ledger = Ledger::new(args.skip, ready.failed);
    let batch = RequestLimits { events: args.batch, bytes: BATCH_BYTES };
    let settings = SendSettings { batch, in_flight: args.in_flight, retry_for: args.retry_for };
    let mut run = Run::new(settings, poster, looker, ledger, input.total.clone());
    let end = run.run(input, &mut signals).await;
    run.screen.finish();
    if let RunEnd::Stopped(why) = &end {
        run.screen.say(&format!("redis-cache-sync: {}: {why}", args.to));
    }
    if let Some(hint) = hint(&end, &run, args) {
        run.screen.say(&hint);
    }
    let counts = run.ledger.counts;
    // Whoever closed the pipe does not want to know.
    let _ = writeln!(std::io::stdout(), "{}", summary(&counts, run.screen.elapsed()));
    let is_all_stored = counts.rejected + counts.unavailable == 0 && run.faults == 0;
    Ok(if is_all_stored && matches!(end, RunEnd::Done) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How to go on where something is left that was neither stored nor kept.
fn hint(end: &RunEnd, run: &Run, args: &Args) -> Option<String> {
    let is_left = match end {
        RunEnd::Done => false,
        RunEnd::Interrupted => true,
        RunEnd::Stopped(_) => args.failed.is_none(),
    };
    let (first, place) = &run.stopped_at;
    let at = place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
    let kept = args.failed.as_ref().filter(|_| run.ledger.counts.total() > run.ledger.counts.ok);
    let before = kept.map(|path| format!(", after the events in {}", path.display())).unwrap_or_default();
    let from_there = from_there(args.folder.as_ref(), place.as_ref(), (*first, args.skip));
    let sent = first - args.skip;
    is_left.then(|| format!("stopped{at} after {sent} events; to continue, run it again with {from_there}{before}"))
}

/// What to add to the command line to go on at this place, or before this number. `skip` is what was left out this time.
fn from_there(folder: Option<&Folder>, place: Option<&InputPlace>, (first, skip): (u64, u64)) -> String {
    match (folder, place) {
        // Files come and go in a folder: what was sent is told by name there, and by number elsewhere.
        (Some(folder), Some(place)) if *place.file != *copy::DELETE_FLAG => {
            let instead = if skip > 0 { " in place of --skip" } else { "" };
            format!("--start-at '{}'{instead}", folder.inside(&place.file))
        }
        (folder, _) => {
            let instead = if folder.is_some_and(Folder::starts_later) { " in place of --start-at" } else { "" };
            format!("--skip {first}{instead}")
        }
    }
}

fn summary(counts: &SendCounts, took: Duration) -> String {
    let SendCounts { ok, rejected, unavailable } = counts;
    let (sent, seconds) = (counts.total(), took.as_secs_f64());
    let rate = sent as f64 / seconds.max(0.001);
    format!(
        "sent {sent}, ok {ok}, rejected {rejected}, unavailable {unavailable} in {seconds:.3} s, {rate:.0} events/s"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_means_its_events() {
        let url = |text| events_url(text).map(String::from);
        for text in ["http://h:8080", "http://h:8080/", "http://h:8080/events", "http://h:8080#x"] {
            assert_eq!(url(text).as_deref(), Ok("http://h:8080/events"), "{text}");
        }
        assert_eq!(url("https://h/proxy/events?a=1").as_deref(), Ok("https://h/proxy/events?a=1"));
        for text in ["", "h:8080", "localhost", "ftp://h", "http://user:secret@h"] {
            let reason = url(text).expect_err(text);
            assert!(!reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn the_way_to_go_on_is_a_file_of_the_folder_or_a_number_and_one_of_both() {
        let folder = |start: Option<&str>| Folder::new("dir".into(), String::new(), None, start.map(PathBuf::from));
        let told = |start: Option<&str>, file: &str, skip: u64| {
            let place = InputPlace { file: file.into(), line: 0 };
            from_there(Some(&folder(start)), Some(&place), (7, skip))
        };
        assert_eq!(told(None, "dir/b/x", 0), "--start-at 'b/x'");
        assert_eq!(told(None, "dir/b/x", 3), "--start-at 'b/x' in place of --skip");
        assert_eq!(told(None, copy::DELETE_FLAG, 3), "--skip 7");
        assert_eq!(told(Some("b"), copy::DELETE_FLAG, 0), "--skip 7 in place of --start-at");
        assert_eq!(from_there(None, None, (7, 3)), "--skip 7");
    }

    #[test]
    fn the_summary_has_a_fixed_form() {
        let counts = SendCounts { ok: 990, rejected: 8, unavailable: 2 };
        let expected = "sent 1000, ok 990, rejected 8, unavailable 2 in 0.500 s, 2000 events/s";
        assert_eq!(summary(&counts, Duration::from_millis(500)), expected);
    }
}
