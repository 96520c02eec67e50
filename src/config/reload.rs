//! Settings read again while the daemon runs.
//!
//! The files are read and checked as at a start, all of them: a fault anywhere and nothing changes. Of what came out, the
//! settings that are live ([`Setting::is_live`](super::Setting)) take effect, and the others stay as they are in force.

use std::io;
use std::path::Path;

use super::dotenv::DOTENV;
use super::effective::all_of;
use super::fault::{SettingFault, SettingFaults};
use super::files::{read_bounded, what_failed};
use super::layers::Layers;
use super::{Args, DEFAULT_FILE, Loaded, ShownSetting, complete, finish};

/// What came of reading again.
#[derive(Debug)]
pub struct Reloaded {
    /// What is in force from now on.
    pub loaded: Loaded,
    /// The live settings that are others than before, as they are now.
    pub changed: Vec<ShownSetting>,
    /// Settings that were changed to no effect.
    pub need_restart: Vec<&'static str>,
}

impl Loaded {
    /// What these settings become now that they are read again. Flags and the process's environment go on winning.
    ///
    /// # Errors
    /// As [`Config::load`](super::Config::load); besides, that a file is gone which was there: what it said would all
    /// be taken back.
    pub fn reload(&self, args: Args) -> Result<Reloaded, SettingFaults> {
        let now = finish(Layers::of(args))?;
        let is_gone = |file: &&String| !now.effective.files().contains(file);
        let gone: Vec<SettingFault> = self.effective.files().iter().filter(is_gone).map(|file| gone(file)).collect();
        if !gone.is_empty() {
            return Err(SettingFaults(gone));
        }
        let others = || {
            all_of([&now.effective, &self.effective])
                .filter(|setting| !now.effective.agrees(&self.effective, setting.path))
        };
        let need_restart = others().filter(|setting| !setting.is_live).map(|setting| setting.path).collect();
        let live: Vec<&str> = others().filter(|setting| setting.is_live).map(|setting| setting.path).collect();
        let mixed = self.effective.with(&now.effective, |setting| setting.is_live);
        let mixed = mixed.map_err(|fault| SettingFaults(vec![fault]))?;
        let loaded = complete(mixed, now.warnings, Vec::new())?;
        let is_shown = |path: &str| loaded.sources.iter().any(|shown| shown.path == path);
        let gone = live.iter().filter(|path| !is_shown(path)).map(|path| ShownSetting::unset(path));
        let changed = loaded.sources.iter().filter(|shown| live.contains(&shown.path)).cloned().chain(gone).collect();
        Ok(Reloaded { loaded, changed, need_restart })
    }
}

fn gone(file: &str) -> SettingFault {
    SettingFault::SettingsFile { file: file.to_owned(), reason: "it is gone, and with it what it said".to_owned() }
}

/// What the files of settings hold, to be compared: however they were replaced, that shows. It may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct FileSnapshot([Result<Vec<u8>, String>; 2]);

impl FileSnapshot {
    /// Reads the settings as they are now.
    pub fn read(args: &Args) -> Self {
        let file = args.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        FileSnapshot(
            [file, Path::new(DOTENV)].map(|path| read_bounded(path).map_err(|error: io::Error| what_failed(&error))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SETTINGS, find};

    fn loaded(pairs: &[(&str, &str)]) -> Loaded {
        let mut layers = Layers::new();
        layers.add_pairs(pairs);
        finish(layers).unwrap_or_else(|faults| panic!("{pairs:?}: {faults}"))
    }

    #[test]
    fn of_what_is_read_again_only_the_live_settings_are_taken() {
        let before = loaded(&[("log_level", "info"), ("auth.tokens", "a,b"), ("redis.batch_max", "7")]);
        let now = loaded(&[("log_level", "warn"), ("auth.tokens", "a,b"), ("redis.batch_max", "8")]);
        let mixed = before.effective.with(&now.effective, |setting| setting.is_live).expect("a mixture");
        assert!(mixed.agrees(&now.effective, "log_level") && !mixed.agrees(&before.effective, "log_level"));
        assert!(mixed.agrees(&before.effective, "redis.batch_max"));
        assert!(before.effective.agrees(&now.effective, "auth.tokens"), "secrets are compared too");
        for setting in SETTINGS {
            assert!(mixed.agrees(if setting.is_live { &now.effective } else { &before.effective }, setting.path));
        }
        assert!(find("log_level").is_some_and(|setting| setting.is_live));
    }
}
