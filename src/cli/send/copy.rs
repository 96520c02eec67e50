//! Keys of another Redis as events: its strings with what is left of their expiries; and keys that a mirrored folder has no
//! file for.

use bytes::Bytes;

use super::folder::Folder;
use super::made;
use super::split::MAX_EVENT_BYTES;
use crate::cache::redis::export::Export;
use crate::config::Secret;

/// Where the service keeps versions by default: companions of keys, and nothing to copy.
const VERSIONS: &[u8] = b"rcs:v:";
/// A value with its key and as base64 must fit into an event.
const MAX_VALUE_BYTES: u64 = (MAX_EVENT_BYTES as u64) / 4 * 3 - 4096;
/// Keys of one DELETE.
const DELETED_TOGETHER: usize = 100;

/// What the command line says of a Redis to copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// It may hold a password.
    pub url: Secret,
    pub pattern: String,
}

/// An event that was made, or the key for which there is none, and why.
pub type Made = Result<(String, Bytes), (String, String)>;

/// The strings of a Redis, step by step.
pub struct Strings(Export);

impl Strings {
    /// # Errors
    /// Why the Redis cannot be read, for a person.
    pub fn open(from: &Redis) -> Result<Self, String> {
        Export::open(from.url.expose(), from.pattern.as_bytes(), MAX_VALUE_BYTES).map(Strings)
    }

    /// Of one step, perhaps nothing; None at the end.
    ///
    /// # Errors
    /// Why it does not go on.
    pub fn next(&mut self) -> Result<Option<Vec<Made>>, String> {
        let Some(mut keys) = self.0.keys()? else { return Ok(None) };
        keys.retain(|key| !key.starts_with(VERSIONS));
        let made = self.0.read(keys)?.into_iter().map(|found| {
            let key =
                String::from_utf8(found.key).map_err(|error| (error.to_string(), "the key is not UTF-8".to_owned()))?;
            let ttl = found.ttl_seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
            match found.value {
                Some(value) => {
                    let event = made::set(&key, value, ttl);
                    Ok((key, event))
                }
                None => Err((key, "it holds no string, or too large a one".to_owned())),
            }
        });
        Ok(Some(made.collect()))
    }
}

/// Keys below a folder's prefix for which the folder has no file.
pub struct Orphans<'f> {
    keys: Export,
    folder: &'f Folder,
    found: Vec<String>,
}

impl<'f> Orphans<'f> {
    /// # Errors
    /// Why the Redis cannot be read, for a person.
    pub fn open(url: &Secret, folder: &'f Folder) -> Result<Self, String> {
        let pattern: String = folder.prefix().chars().flat_map(escaped).chain(['*']).collect();
        let keys = Export::open(url.expose(), pattern.as_bytes(), 0)?;
        Ok(Orphans { keys, folder, found: Vec::new() })
    }

    /// A DELETE of the next of them; None at the end.
    ///
    /// # Errors
    /// Why it does not go on.
    pub fn next(&mut self) -> Result<Option<Bytes>, String> {
        while self.found.len() < DELETED_TOGETHER
            && let Some(keys) = self.keys.keys()?
        {
            let keys = keys.into_iter().filter(|key| !key.starts_with(VERSIONS));
            let keys = keys.filter_map(|key| String::from_utf8(key).ok());
            self.found.extend(keys.filter(|key| !self.folder.has(key)));
        }
        let together: Vec<String> = self.found.drain(..self.found.len().min(DELETED_TOGETHER)).collect();
        Ok((!together.is_empty()).then(|| made::delete(&together)))
    }
}

/// In a pattern of Redis, stands for itself.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let is_special = matches!(character, '*' | '?' | '[' | ']' | '\\');
    is_special.then_some('\\').into_iter().chain([character])
}
