//! `check-config`: loads the settings as `serve` would and shows what came out, or every fault. `--connect` tries Redis besides,
//! with all that the service will ask of it, on one key of its own that is gone a second later; and each store.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use super::{on_stderr, refuse, serve, stores};
use crate::cache::redis::SetupError;
use crate::cache::{CacheError, Command, DeleteGroup, Scan, Session};
use crate::config::{CacheBackend, Config, Loaded, Secret, SettingFaults, ShownSetting, SourceConfig};
use crate::event::rights::TokenLine;
use crate::event::version::Version;
use crate::event::{CacheKey, Ttl};

/// Prints one setting a line, `name = value   # source`, on standard output and the warnings on standard error.
///
/// `connect`: tries Redis as well, and says for each check whether it went well.
pub fn run(connect: bool, loaded: Result<Loaded, SettingFaults>) -> ExitCode {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults),
    };
    for warning in &loaded.warnings {
        on_stderr(format_args!("warning: {warning}"));
    }
    // Whoever closed the pipe has seen enough.
    let mut out = std::io::stdout();
    let _ = out.write_all(aligned(&loaded.sources).as_bytes());
    let _ = out.write_all(tokens(&loaded.config).as_bytes());
    let _ = out.write_all(sources(&loaded.config).as_bytes());
    if !connect {
        return ExitCode::SUCCESS;
    }
    match actix_rt::System::new().block_on(examine(&loaded.config)) {
        Ok(checks) => {
            let _ = out.write_all(checks.iter().map(Check::line).collect::<String>().as_bytes());
            if checks.iter().any(Check::is_fault) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            on_stderr(format_args!("redis-cache-sync: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// An object, to show what becomes of its name.
const EXAMPLE: (&str, &str) = ("bucket", "dir/name.ext");

/// What each token may do that may not do everything, by its name.
fn tokens(config: &Config) -> String {
    let of_sources = config.sources.values().flat_map(SourceConfig::all_tokens);
    let tokens: Vec<Secret> = config.auth.all_tokens().into_iter().chain(of_sources).collect();
    let lines = tokens.iter().filter_map(|token| TokenLine::parse(token.expose()).ok());
    let line = |line: TokenLine<'_>| Some(format!("token {}: {}\n", line.name?, line.rights?));
    lines.filter_map(line).collect()
}

/// Where each source's producer is to post, and the key of an object as an example.
fn sources(config: &Config) -> String {
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    let host = if config.bind.is_unspecified() { "HOST".to_owned() } else { config.bind.to_string() };
    let host = if config.bind.is_ipv6() && !config.bind.is_unspecified() { format!("[{host}]") } else { host };
    let (bucket, object) = EXAMPLE;
    let line = |(name, source): (&String, &SourceConfig)| {
        let (url, key) =
            (format!("{scheme}://{host}:{}/sources/{name}", config.port), source.key.key(name, bucket, object));
        format!("source {name}: POST {url}; the object {bucket}/{object} has the key {}\n", key.escape_debug())
    };
    config.sources.iter().map(line).collect()
}

/// One thing that was tried.
struct Check {
    what: String,
    failure: Option<String>,
    /// Whether the service does without it.
    is_optional: bool,
}

impl Check {
    fn new<T>(what: impl Into<String>, result: Result<T, CacheError>) -> Self {
        Check::of((what.into(), result.err().map(|error| error.to_string())))
    }

    fn of((what, failure): (String, Option<String>)) -> Self {
        Check { what, failure, is_optional: false }
    }

    fn optional(self) -> Self {
        Check { is_optional: true, ..self }
    }

    fn is_fault(&self) -> bool {
        self.failure.is_some() && !self.is_optional
    }

    fn line(&self) -> String {
        match &self.failure {
            None => format!("ok      {}\n", self.what),
            Some(cause) if self.is_optional => format!("warning {}: {cause}\n", self.what),
            Some(cause) => format!("failed  {}: {cause}\n", self.what),
        }
    }
}

/// Connects, and does once what the service does. Without a connection the rest is left out; each step is bounded by the time
/// that settings give to connecting and an answer.
async fn examine(config: &Config) -> Result<Vec<Check>, SetupError> {
    let mut checks = examine_cache(config).await?;
    // Where it is the Redis of the cache, that has said what is wrong.
    if config.journal.url.is_some() || !checks.iter().any(Check::is_fault) {
        checks.extend(examine_journal(config).await?);
    }
    checks.extend(stores::probe(config).await.into_iter().map(Check::of));
    Ok(checks)
}

/// The journal's Redis, and what it may lose. Where nobody has asked for a journal, one that is not permitted is no fault.
async fn examine_journal(config: &Config) -> Result<Vec<Check>, SetupError> {
    let Some(journal) = serve::journal_alone(config)? else { return Ok(Vec::new()) };
    let (tried, losses) = journal.examine().await;
    let is_optional = !journal.is_asked_for();
    let tried = tried.into_iter().map(Check::of);
    let tried = tried.map(|check| if is_optional { check.optional() } else { check });
    let lost = losses.iter().map(|loss| Check::of(("what the journal keeps".to_owned(), Some(loss.text()))).optional());
    Ok(tried.chain(lost).collect())
}

async fn examine_cache(config: &Config) -> Result<Vec<Check>, SetupError> {
    if config.cache.backend == CacheBackend::Embedded {
        return Ok(vec![Check::of(("cache.backend is embedded: there is no Redis to connect to".into(), None))]);
    }
    let mut config = config.clone();
    config.redis.version_window = Duration::from_secs(1);
    let redis = &config.redis;
    let within = redis.connect_timeout + redis.response_timeout;
    let cache = serve::redis_cache(&config)?;
    let mut session = cache.session();
    let what = format!("{}: address, TLS, login, version and mode", cache.describe());
    let connected = Check::new(what, session.ping(within).await);
    if connected.failure.is_some() {
        return Ok(vec![connected]);
    }
    let mut checks = vec![connected];
    let key = CacheKey::new_unchecked(format!("{}check-config", redis.version_prefix));
    let set = |version| {
        let (key, ttl) = (key.clone(), Ttl::from_seconds(1));
        Command::Set { key, value: "x".into(), ttl, version, remembered: None }
    };
    for (what, command) in [
        ("right to write", set(None)),
        ("right to read", Command::Get { key: key.clone(), max_bytes: 1024 }),
        ("right to delete", Command::Delete { key: key.clone(), version: None }),
        ("right to write with a version", set(Version::from_number(1))),
    ] {
        checks.push(Check::new(what, one(session.as_mut(), command, within).await));
    }
    let groups = [DeleteGroup { keys: vec![key.as_bytes().to_vec().into()], version: None }];
    let scanned = session.unlink_and_scan(&groups, Some(Scan::default()), within).await;
    checks.push(Check::new("right to delete by pattern", scanned.failure.map_or(Ok(()), Err)));
    Ok(checks)
}

async fn one(session: &mut dyn Session, command: Command, within: Duration) -> Result<(), CacheError> {
    let mut results = session.apply(&[command], within).await;
    results.pop().unwrap_or(Err(CacheError::Unavailable("redis did not answer".into()))).map(drop)
}

/// A value longer than this does not push the sources of the others aside.
const MAX_COLUMN: usize = 30;

fn aligned(settings: &[ShownSetting]) -> String {
    let name_width = settings.iter().map(|setting| setting.path.len()).max().unwrap_or(0);
    let widths = settings.iter().map(|setting| setting.value.chars().count());
    let value_width = widths.filter(|width| *width <= MAX_COLUMN).max().unwrap_or(0);
    let line = |setting: &ShownSetting| {
        let ShownSetting { path, value, source } = setting;
        format!("{path:name_width$} = {value:value_width$}   # {source}\n")
    };
    settings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_and_sources_stand_below_each_other() {
        let shown =
            |path, value: &str, source: &str| ShownSetting { path, value: value.to_owned(), source: source.to_owned() };
        let lines = aligned(&[shown("a", "1", "default"), shown("long.name", "\"x\"", ".env LONG_NAME")]);
        assert_eq!(lines, "a         = 1     # default\nlong.name = \"x\"   # .env LONG_NAME\n");
    }
}
