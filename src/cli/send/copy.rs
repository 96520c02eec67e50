//! Keys of another Redis as events: its strings with what is left of their expiries; and keys that a mirrored folder has no
//! file for.

use std::vec::IntoIter;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::event::InputPlace;
use super::folder::Folder;
use super::made::{self, Made, MadeStep};
use super::split::MAX_EVENT_BYTES;
use crate::cache::redis::export::{Export, Exported};
use crate::config::Secret;
use crate::event::OwnKeys;
use crate::event::pattern::escaped;

/// How what comes from either is called.
pub const FROM_REDIS: &str = "--from-redis";
pub const DELETE_FLAG: &str = "--delete";

/// A value with its key and as base64 must fit into an event.
const MAX_VALUE_BYTES: u64 = (MAX_EVENT_BYTES as u64) / 4 * 3 - 4096;
/// Keys of one DELETE.
const DELETED_TOGETHER: usize = 100;

/// What the command line says of a Redis to copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedRedis {
    /// It may hold a password.
    pub url: Secret,
    /// The Redis glob that keys must match to be copied.
    pub pattern: String,
}

/// The URL of a Redis with the password that was given apart from it.
///
/// # Errors
/// There are two passwords, or the URL can hold none.
pub fn with_password(url: &Secret, password: Option<&Secret>) -> Result<Secret, String> {
    let Some(password) = password else { return Ok(url.clone()) };
    let mut url =
        Url::parse(url.expose()).map_err(|_| "it is not the URL of a Redis, such as redis://localhost:6379/0")?;
    if url.password().is_some() {
        return Err("it holds a password, and another one was given as well".to_owned());
    }
    // The URL takes a `%` for the beginning of an encoded byte.
    let encoded = utf8_percent_encode(password.expose(), NON_ALPHANUMERIC).to_string();
    url.set_password(Some(&encoded)).map_err(|()| "it cannot hold a password")?;
    Ok(Secret::new(String::from(url)))
}

/// The keys of a Redis, but for those of a service that writes into it.
struct Keys(Export);

impl Keys {
    /// The keys of one step, perhaps none; None at the end.
    fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, String> {
        // By their usual names.
        let own = OwnKeys::new("rcs:v:", "rcs:journal");
        let keys = self.0.keys()?;
        Ok(keys.map(|keys| keys.into_iter().filter(|key| !own.contain(key)).collect()))
    }
}

/// The strings of a Redis as events.
pub struct Strings {
    keys: Keys,
    found: IntoIter<Exported>,
}

impl Strings {
    /// # Errors
    /// Why the Redis cannot be read, for a person.
    pub fn open(from: &CopiedRedis) -> Result<Self, String> {
        let keys = Keys(Export::open(from.url.expose(), from.pattern.as_bytes(), MAX_VALUE_BYTES)?);
        Ok(Strings { keys, found: Vec::new().into_iter() })
    }

    fn step(&mut self) -> Result<Option<MadeStep>, String> {
        if let Some(found) = self.found.next() {
            return Ok(Some(MadeStep::Made(made_of(found))));
        }
        let Some(keys) = self.keys.next()? else { return Ok(None) };
        self.found = self.keys.0.read(keys)?.into_iter();
        Ok(Some(MadeStep::Pause))
    }
}

/// An error says why the source cannot continue.
impl Iterator for Strings {
    type Item = Result<MadeStep, String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn made_of(found: Exported) -> Made {
    let (key, is_text) = match String::from_utf8(found.key) {
        Ok(key) => (key, true),
        Err(error) => (error.to_string(), false),
    };
    let ttl = found.ttl_seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    let unfit = |why: &str| (made::set_without_value(&key, FROM_REDIS), why.to_owned());
    let event = match found.value {
        _ if !is_text => Err(unfit("the key is not UTF-8")),
        Some(value) => Ok(made::set(&key, value, ttl)),
        None => Err(unfit("it does not hold a string, or its string is too large")),
    };
    Made { place: InputPlace { file: key.into(), line: 0 }, event }
}

/// DELETEs of keys below a folder's prefix for which the folder has no file.
pub struct Orphans<'f> {
    keys: Keys,
    folder: &'f Folder,
    found: Vec<String>,
}

impl<'f> Orphans<'f> {
    /// # Errors
    /// Why the Redis cannot be read, for a person.
    pub fn open(url: &Secret, folder: &'f Folder) -> Result<Self, String> {
        let pattern = format!("{}*", escaped(folder.prefix()));
        let keys = Keys(Export::open(url.expose(), pattern.as_bytes(), 0)?);
        Ok(Orphans { keys, folder, found: Vec::new() })
    }

    fn step(&mut self) -> Result<Option<MadeStep>, String> {
        while self.found.len() < DELETED_TOGETHER
            && let Some(keys) = self.keys.next()?
        {
            let keys = keys.into_iter().filter_map(|key| String::from_utf8(key).ok());
            self.found.extend(keys.filter(|key| !self.folder.has(key)));
        }
        let together: Vec<String> = self.found.drain(..self.found.len().min(DELETED_TOGETHER)).collect();
        let place = InputPlace { file: DELETE_FLAG.into(), line: 0 };
        Ok((!together.is_empty()).then(|| MadeStep::Made(Made { place, event: Ok(made::delete(&together)) })))
    }
}

/// An error says why the source cannot continue.
impl Iterator for Orphans<'_> {
    type Item = Result<MadeStep, String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_given_apart_is_put_into_the_url_and_there_is_one_of_them() {
        let url = |url: &str, password: &str| with_password(&Secret::new(url), Some(&Secret::new(password)));
        assert_eq!(url("redis://h:1/2", "p/w:@%41").expect("a URL").expose(), "redis://:p%2Fw%3A%40%2541@h:1/2");
        assert_eq!(url("redis://u@h", "pw").expect("a URL").expose(), "redis://u:pw@h");
        assert!(
            url("redis://:one@h", "two").is_err() && url("nonsense", "pw").is_err() && url("redis:x", "pw").is_err()
        );
    }
}
