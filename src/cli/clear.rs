//! `clear`: deletes by pattern straight in Redis, without the daemon and without its deadline.
//!
//! Counts first and shows a sample; deletes only what it is told to, by `--yes` or by a person at a terminal. A key of the
//! service's own is never seen: the session leaves those out of every scan.

use std::collections::HashSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use indicatif::ProgressBar;

use super::retry_window::RetryWindow;
use super::{on_stderr, serve, wrong_usage};
use crate::cache::{CacheError, Cursor, DeleteGroup, Portion, Progress, Scan, Session};
use crate::config::{CacheBackend, Config};
use crate::event::pattern::{Pattern, PatternError, Wider};

/// Keys of a preview that are shown.
const SHOWN: usize = 20;
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// `yes`: deletes without asking.
pub fn run(pattern: &str, yes: bool, config: &Config) -> ExitCode {
    let pattern = match usable(pattern, config) {
        Ok(pattern) => pattern,
        Err(fault) => return wrong_usage(&fault),
    };
    let cache = match serve::redis_cache(config) {
        Ok(cache) => cache,
        Err(error) => return wrong_usage(&error.to_string()),
    };
    let (session, portion, retry) = (cache.session(), Portion::default(), config.redis.retry);
    let clearing = Clearing { session, pattern, portion, retry, refused: 0, refusal: None };
    match actix_rt::System::new().block_on(clear(clearing, yes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            on_stderr(format_args!("redis-cache-sync: {}: {error}", cache.describe()));
            ExitCode::FAILURE
        }
    }
}

fn usable(pattern: &str, config: &Config) -> Result<Pattern, String> {
    if config.cache.backend == CacheBackend::Embedded {
        return Err("clear needs Redis: an embedded cache exists only inside its daemon".to_owned());
    }
    let max = config.event.max_key_bytes;
    if !(1..=max).contains(&pattern.len()) {
        return Err(format!("the pattern must be 1 to {max} bytes long, but has {}", pattern.len()));
    }
    Pattern::parse(pattern, config.event.allow_match_all).map_err(|error| match error {
        PatternError::MatchesAll => format!("the pattern {error}: --event-allow-match-all permits it"),
        error => format!("the pattern {error}"),
    })
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{error}; {deleted} keys were deleted before that")]
    Cache { error: CacheError, deleted: u64 },
    #[error("{refused} that the pattern matches could not be deleted: {error}")]
    Refused { error: CacheError, refused: String },
    #[error(transparent)]
    Output(#[from] io::Error),
}

async fn clear(mut clearing: Clearing, yes: bool) -> Result<(), Failure> {
    if !yes {
        let found = clearing.preview().await?;
        print_preview(&found, &clearing.pattern)?;
        if found.matched == 0 || !may_delete(found.matched)? {
            return Ok(());
        }
    }
    let deleted = clearing.delete().await?;
    writeln!(io::stdout(), "deleted {}", keys(deleted))?;
    match clearing.refusal {
        Some(error) => Err(Failure::Refused { error, refused: keys(clearing.refused) }),
        None => Ok(()),
    }
}

fn keys(count: u64) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{count} keys") }
}

fn print_preview(found: &Preview, pattern: &Pattern) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let verb = if found.matched == 1 { "matches" } else { "match" };
    writeln!(out, "{} {verb} {}", keys(found.matched), pattern.as_str().escape_debug())?;
    for key in &found.sample {
        writeln!(out, "  {}", String::from_utf8_lossy(key).escape_debug())?;
    }
    match found.matched - found.sample.len() as u64 {
        0 => Ok(()),
        more => writeln!(out, "  … and {more} more"),
    }
}

/// Asks a person, if there is one.
fn may_delete(matched: u64) -> io::Result<bool> {
    let mut out = io::stdout();
    if !io::stdin().is_terminal() || !out.is_terminal() {
        writeln!(out, "nothing was deleted; run it again with --yes to delete")?;
        return Ok(false);
    }
    write!(out, "Delete {}? Type yes: ", keys(matched))?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let agrees = answer.trim() == "yes";
    if !agrees {
        writeln!(out, "nothing was deleted")?;
    }
    Ok(agrees)
}

/// A way through all keys that match.
struct Clearing {
    session: Box<dyn Session>,
    pattern: Pattern,
    portion: Portion,
    /// How long a step is tried (`redis.retry_ms`).
    retry: Duration,
    /// Keys that Redis refuses to delete, and why it does.
    refused: u64,
    refusal: Option<CacheError>,
}

#[derive(Default)]
struct Preview {
    matched: u64,
    sample: Vec<Bytes>,
}

/// A step that was answered.
struct Step {
    deleted: u64,
    keys: Vec<Bytes>,
    next: Option<Cursor>,
}

impl Clearing {
    async fn preview(&mut self) -> Result<Preview, Failure> {
        let (mut found, mut seen) = (Preview::default(), HashSet::<u64, RandomState>::default());
        let hasher = RandomState::new();
        let mut from = None;
        loop {
            let step = self.step(&[], Some(from), 0).await?;
            for key in step.keys {
                if seen.insert(hasher.hash_one(&key)) {
                    found.matched += 1;
                    if found.sample.len() < SHOWN {
                        found.sample.push(key);
                    }
                }
            }
            from = step.next;
            if from.is_none() {
                found.sample.sort();
                return Ok(found);
            }
        }
    }

    /// Each round trip deletes what the one before found.
    async fn delete(&mut self) -> Result<u64, Failure> {
        let mut shown = Shown::new();
        let (mut deleted, mut doomed, mut from, mut is_over) = (0, Vec::new(), None, false);
        while !is_over || !doomed.is_empty() {
            let batch = doomed.split_off(doomed.len().saturating_sub(self.portion.keys()));
            let goes_on = doomed.is_empty() && !is_over;
            let step = self.step(&batch, goes_on.then_some(from), deleted).await?;
            deleted += step.deleted;
            if goes_on {
                is_over = step.next.is_none();
                (from, doomed) = (step.next, step.keys);
            }
            shown.show(deleted);
        }
        shown.finish();
        Ok(deleted)
    }

    /// Deletes, and takes one step of the scan if it is to; of the keys that it found, those that match.
    async fn step(&mut self, doomed: &[Bytes], mut scan: Option<Option<Cursor>>, before: u64) -> Result<Step, Failure> {
        let group = || DeleteGroup { keys: doomed.to_vec(), version: None };
        let groups: Vec<DeleteGroup> = if doomed.is_empty() { Vec::new() } else { vec![group()] };
        let wider = Wider::of([&self.pattern]);
        let window = RetryWindow::new(self.retry);
        let (mut deleted, mut found) = (0, Vec::new());
        loop {
            let only = wider.as_ref();
            let scan_now = scan.map(|from| Scan { from, only, ..Scan::default() });
            let progress: Progress = self.session.unlink_and_scan(&groups, scan_now, window.left()).await;
            let refused = progress.unlinked.iter().map(|unlinked| unlinked.refused.len()).sum::<usize>();
            let refusal = progress.unlinked.iter().find_map(|unlinked| unlinked.refusal.clone());
            self.portion.took(progress.took);
            deleted += progress.unlinked.iter().map(|unlinked| unlinked.deleted).sum::<u64>();
            match progress.failure {
                None => {
                    self.refused += refused as u64;
                    self.refusal = self.refusal.take().or(refusal);
                    let (mut keys, next) = progress.step.map_or((Vec::new(), None), |step| (step.keys, step.next));
                    keys.append(&mut found);
                    keys.retain(|key| self.pattern.matches(key));
                    return Ok(Step { deleted, keys, next });
                }
                Some(error) if !window.pause(Some(&error)).await => {
                    return Err(Failure::Cache { error, deleted: before + deleted });
                }
                Some(_) if progress.is_lost => scan = scan.map(|_| None),
                Some(_) => found.extend(progress.step.into_iter().flat_map(|step| {
                    scan = scan.map(|_| step.next);
                    step.keys
                })),
            }
        }
    }
}

/// How far it is, on standard error.
struct Shown {
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Shown {
    fn new() -> Self {
        Shown { bar: io::stderr().is_terminal().then(ProgressBar::new_spinner), last: Instant::now() }
    }

    fn show(&mut self, deleted: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} deleted", keys(deleted)));
            bar.tick();
        } else if self.last.elapsed() >= PROGRESS_EVERY {
            self.last = Instant::now();
            on_stderr(format_args!("{} deleted so far", keys(deleted)));
        }
    }

    fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}
