//! A folder of files as events: each ordinary file is one SET of what it holds, under its path in the folder.
//!
//! Files come in the order of their names, one at a time, and only one is held. A symbolic link counts as the file it leads
//! to if that lies in the folder; links that lead out of it, to a folder or nowhere are left out, and so is what is no
//! file. Text is sent as text, anything else as base64: Redis gets the very bytes either way.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use walkdir::{DirEntry, WalkDir};

use super::split::MAX_EVENT_BYTES;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
    name: String,
    prefix: String,
    ttl: Option<u32>,
}

/// A file that is to become an event.
pub struct Found {
    /// As it was named on the command line, and from there on.
    path: PathBuf,
    /// Where it really is.
    real: PathBuf,
    key: Result<String, &'static str>,
}

#[derive(Serialize)]
struct Event<'a> {
    key: &'static str,
    /// Tells where it came from if the value is missing: the service ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    value: Value<'a>,
}

#[derive(Serialize)]
struct Value<'a> {
    data: Entry<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
}

#[derive(Serialize)]
struct Entry<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

impl Folder {
    pub fn new(path: PathBuf, prefix: String, ttl: Option<u32>) -> Self {
        Folder { name: path.display().to_string(), path, prefix, ttl }
    }

    /// The same, with its real path.
    ///
    /// # Errors
    /// Why it cannot be gone through, for a person.
    pub fn open(&self) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", self.name);
        let path = self.path.canonicalize().map_err(failed)?;
        if !path.metadata().map_err(failed)?.is_dir() {
            return Err(format!("{}: it is no folder", self.name));
        }
        Ok(Folder { path, ..self.clone() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every file, or why a part of the folder cannot be read.
    pub fn files(&self) -> impl Iterator<Item = Result<Found, String>> {
        let entries = WalkDir::new(&self.path).sort_by_file_name().into_iter();
        entries.filter_map(|entry| match entry {
            Ok(entry) => self.found(&entry).map(Ok),
            Err(error) => Some(Err(error.to_string())),
        })
    }

    fn found(&self, entry: &DirEntry) -> Option<Found> {
        let kind = entry.file_type();
        let real = match kind.is_symlink() {
            false => entry.path().to_owned(),
            true => entry.path().canonicalize().ok().filter(|real| real.starts_with(&self.path))?,
        };
        if !kind.is_file() && !fs::metadata(&real).is_ok_and(|metadata| metadata.is_file()) {
            return None;
        }
        let inside = entry.path().strip_prefix(&self.path).ok()?;
        let key = inside.to_str().map(|inside| format!("{}{inside}", self.prefix));
        let key = key.ok_or("its name is not UTF-8, so it is no key");
        Some(Found { path: Path::new(&self.name).join(inside), real, key })
    }

    /// The event that stores a file, and the bytes that were read.
    ///
    /// # Errors
    /// Why it cannot be sent, for a person.
    pub fn event(&self, file: &Found) -> Result<(Bytes, u64), String> {
        let key = file.key.as_deref().map_err(|why| (*why).to_owned())?;
        let too_large = || format!("more than {} MiB: store it by its URL instead", MAX_EVENT_BYTES >> 20);
        let content = read(&file.real).map_err(|error| error.to_string())?.ok_or_else(too_large)?;
        let length = content.len() as u64;
        let (value, encoding) = match String::from_utf8(content) {
            Ok(text) => (text, None),
            Err(bytes) => (STANDARD.encode(bytes.as_bytes()), Some("base64")),
        };
        let text = self.line(Event { key: "SET", file: None, value: self.value(key, Some(&value), encoding) });
        if text.len() > MAX_EVENT_BYTES { Err(too_large()) } else { Ok((text, length)) }
    }

    /// In its place among the events that were not stored, where there is none. Sent again, it is refused.
    pub fn without_content(&self, file: &Found) -> Bytes {
        let (name, lossy) = (file.name(), file.path.to_string_lossy());
        let key = file.key.as_deref().unwrap_or(&lossy);
        self.line(Event { key: "SET", file: Some(&name), value: self.value(key, None, None) })
    }

    fn value<'a>(&self, key: &'a str, value: Option<&'a str>, encoding: Option<&'static str>) -> Value<'a> {
        Value { data: Entry { key, value, encoding }, ttl: self.ttl }
    }

    fn line(&self, event: Event) -> Bytes {
        // Texts and numbers alone: there is nothing that could not be written.
        serde_json::to_vec(&event).unwrap_or_default().into()
    }
}

impl Found {
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
