//! A folder of files as events: each ordinary file is one SET of what it holds, under its path in the folder.
//!
//! Files come in the order of their names, one at a time, and only one is held. A symbolic link counts as the file it leads
//! to if that lies in the folder; links that lead out of it, to a folder or nowhere are left out, and so is what is no
//! file. Text is sent as text, anything else as base64: Redis gets the very bytes either way.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use walkdir::{DirEntry, WalkDir};

use super::made;
use super::split::MAX_EVENT_BYTES;

/// A folder to send, as the command line names it, or with its real path once [opened](Folder::open).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
    name: String,
    prefix: String,
    ttl: Option<u32>,
    /// The first file that is sent, or the next one if it is gone: its path in the folder.
    start_at: Option<PathBuf>,
}

/// A file that is to become an event.
pub struct FoundFile {
    /// The path as it was named on the command line, and from there on.
    path: PathBuf,
    /// Where it really is.
    real: PathBuf,
    key: Result<String, &'static str>,
}

impl Folder {
    /// Nothing is read yet. `prefix` stands before each file's path in its key, `ttl` is in seconds, and files before
    /// `start_at` are left out.
    pub fn new(path: PathBuf, prefix: String, ttl: Option<u32>, start_at: Option<PathBuf>) -> Self {
        Folder { name: path.display().to_string(), path, prefix, ttl, start_at }
    }

    /// The text before each file's path in its key.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What [`Folder::new`] takes as the place to start at, for a file as it was told.
    pub fn inside<'a>(&self, file: &'a str) -> &'a str {
        file.strip_prefix(&self.name).unwrap_or(file).trim_start_matches('/')
    }

    /// Whether files before a certain one are left out.
    pub fn starts_later(&self) -> bool {
        self.start_at.is_some()
    }

    /// The same, with its real path.
    ///
    /// # Errors
    /// Why it cannot be gone through, for a person.
    pub fn open(&self) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", self.name);
        let path = self.path.canonicalize().map_err(failed)?;
        if !path.metadata().map_err(failed)?.is_dir() {
            return Err(format!("{}: not a folder", self.name));
        }
        Ok(Folder { path, ..self.clone() })
    }

    /// The folder as it was named on the command line, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every file, or why a part of the folder cannot be read.
    pub fn files(&self) -> impl Iterator<Item = Result<FoundFile, String>> {
        let entries = WalkDir::new(&self.path).sort_by_file_name().into_iter();
        entries.filter_map(|entry| match entry {
            Ok(entry) => self.found(&entry).map(Ok),
            Err(error) => Some(Err(error.to_string())),
        })
    }

    fn found(&self, entry: &DirEntry) -> Option<FoundFile> {
        let kind = entry.file_type();
        let real = match kind.is_symlink() {
            false => entry.path().to_owned(),
            true => entry.path().canonicalize().ok().filter(|real| real.starts_with(&self.path))?,
        };
        if !kind.is_file() && !fs::metadata(&real).is_ok_and(|metadata| metadata.is_file()) {
            return None;
        }
        let inside = entry.path().strip_prefix(&self.path).ok()?;
        // Both in the order of the walk, which goes by the names of the parts.
        if self.start_at.as_deref().is_some_and(|start| inside < start) {
            return None;
        }
        let key = inside.to_str().map(|inside| format!("{}{inside}", self.prefix));
        let key = key.ok_or("its name is not UTF-8");
        Some(FoundFile { path: Path::new(&self.name).join(inside), real, key })
    }

    /// The event that stores a file, and the bytes that were read.
    ///
    /// # Errors
    /// Why it cannot be sent, for a person.
    pub fn event(&self, file: &FoundFile) -> Result<(Bytes, u64), String> {
        let key = file.key.as_deref().map_err(|why| (*why).to_owned())?;
        let too_large = || format!("more than {} MiB: store it by its URL instead", MAX_EVENT_BYTES >> 20);
        let content = read(&file.real).map_err(|error| error.to_string())?.ok_or_else(too_large)?;
        let length = content.len() as u64;
        let text = made::set(key, content, self.ttl);
        if text.len() > MAX_EVENT_BYTES { Err(too_large()) } else { Ok((text, length)) }
    }

    /// In its place among the events that were not stored, where there is none.
    pub fn without_content(&self, file: &FoundFile) -> Bytes {
        let lossy = file.path.to_string_lossy();
        made::set_without_value(file.key.as_deref().unwrap_or(&lossy), &file.name())
    }

    /// Whether a file of the folder is stored under this key.
    pub fn has(&self, key: &str) -> bool {
        let Some(inside) = key.strip_prefix(&self.prefix) else { return false };
        let path = Path::new(inside);
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        // As [`Folder::files`] sees it: `a//b` and `a/./b` lead to a file, and are not its name.
        let is_its_name = path.components().collect::<PathBuf>().as_os_str().len() == inside.len();
        let real = self.path.join(path).canonicalize();
        is_inside && is_its_name && real.is_ok_and(|real| real.starts_with(&self.path) && real.is_file())
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        let files = self.files().filter_map(Result::ok);
        files.filter_map(|file| fs::metadata(file.real).ok()).map(|metadata| metadata.len()).sum()
    }
}

impl FoundFile {
    pub fn name(&self) -> Arc<str> {
        self.path.display().to_string().into()
    }
}

/// What the file holds; none if that is more than may be sent. It may grow while it is read.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let most = MAX_EVENT_BYTES as u64;
    if file.metadata()?.len() > most {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 <= most).then_some(content))
}
