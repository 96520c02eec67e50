//! Reloads the settings when one of their files has changed, and on SIGHUP.
//!
//! Here is decided what changes; to have it take effect is for who gets the [`SettingsChange`]. A fault anywhere and nothing
//! changes; each is told of as the start would.

use log::{error, info, warn};
use tokio::sync::mpsc::Sender;

use super::{Look, Readings, Reloader};
use crate::config::{self, Args, Config, FileSnapshot, Loaded, MASK, Secret, ShownSetting};

/// What stands for all of them in the metrics.
const SETTINGS: &str = "settings";

/// The settings in force, and where they came from.
pub struct SettingsOrigin {
    args: Args,
    /// The state of the files no later than they were read.
    texts: FileSnapshot,
    loaded: Loaded,
}

/// Settings that are to take effect.
pub struct SettingsChange {
    /// All of them.
    pub config: Config,
    /// The settings that changed, for the log.
    pub settings: String,
}

impl SettingsOrigin {
    pub fn new(args: Args, texts: FileSnapshot, loaded: Loaded) -> Self {
        SettingsOrigin { args, texts, loaded }
    }
}

impl Reloader {
    /// Follows the files of the settings, and hands over what is to take effect.
    pub fn follow_settings(&mut self, origin: SettingsOrigin, changes: Sender<SettingsChange>) {
        let SettingsOrigin { args, texts, mut loaded } = origin;
        let mut readings = Readings::of(texts);
        let mut tokens = Readings::of(tokens_in_effect(&loaded.config));
        let metrics = self.metrics.clone();
        metrics.reloaded(SETTINGS, true);
        // What the last attempt was told of, if it failed: another file may have been at fault, which nobody looks at for changes.
        let mut failed: Option<Vec<String>> = None;
        let mut has_others = false;
        self.watch(move |look| {
            let has_changed = readings.news(FileSnapshot::read(&args), look).is_some();
            has_others |= tokens.news(tokens_of_sources(&loaded.config), look).is_some();
            let is_asked = has_changed || look == Look::Asked;
            let is_tried_again = failed.is_some() && readings.stands() && tokens.stands();
            if is_asked || has_others && failed.is_none() || is_tried_again {
                let told = failed.take().filter(|_| !is_asked);
                failed = reload_settings(&mut loaded, args.clone(), has_others, &changes, told.as_deref()).err();
                has_others &= failed.is_some();
                metrics.reloaded(SETTINGS, failed.is_none());
            }
        });
    }
}

/// What the files of tokens that sources name held when they were last adopted, in the order of the sources.
fn tokens_in_effect(config: &Config) -> Vec<Result<Vec<Secret>, String>> {
    let with_files = config.sources.values().filter(|source| source.tokens_file.is_some());
    with_files.map(|source| Ok(source.tokens_of_file.clone())).collect()
}

/// What they hold now.
fn tokens_of_sources(config: &Config) -> Vec<Result<Vec<Secret>, String>> {
    let files = config.sources.values().filter_map(|source| source.tokens_file.as_deref());
    files.map(config::tokens_in).collect()
}

/// Has what is read take effect. `has_others`: tokens in a file that a source names are others than before.
///
/// # Errors
///
/// The faults; each has been told of, unless they are those that were told of last.
fn reload_settings(
    loaded: &mut Loaded,
    args: Args,
    has_others: bool,
    changes: &Sender<SettingsChange>,
    told: Option<&[String]>,
) -> Result<(), Vec<String>> {
    let reloaded = match loaded.reload(args) {
        Ok(reloaded) => reloaded,
        Err(faults) => {
            let faults: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
            if told != Some(&faults[..]) {
                faults.iter().for_each(|fault| error!("{fault}"));
                error!(faults = faults.len(); "new settings are invalid, the previous ones stay in effect");
            }
            return Err(faults);
        }
    };
    if !reloaded.need_restart.is_empty() {
        let settings = reloaded.need_restart.join(", ");
        warn!(settings = settings.as_str(); "changed settings take effect only after a restart");
    }
    *loaded = reloaded.loaded;
    if reloaded.changed.is_empty() && !has_others {
        info!("settings reloaded, nothing changed");
        return Ok(());
    }
    let others = has_others.then(|| "tokens_file of a source".to_owned());
    let settings = reloaded.changed.iter().map(shown).chain(others).collect::<Vec<_>>().join(", ");
    // Whoever is to be told may be draining by now, and takes no more.
    let _ = changes.blocking_send(SettingsChange { config: loaded.config.clone(), settings });
    Ok(())
}

fn shown(ShownSetting { path, value, .. }: &ShownSetting) -> String {
    if value == MASK { (*path).to_owned() } else { format!("{path} = {value}") }
}
