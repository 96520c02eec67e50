//! What the holder of a token may do: read, write, and to which keys.
//!
//! A token has its rights where it is set, on the same line: `billing:a-long-random-text read prefix=billing:`. A token
//! without a word behind it may do everything.

use std::fmt::{self, Write};

use super::invalid::{Invalid, InvalidKind};
use super::{Action, Event};

/// Characters of a token's name, at most.
const MAX_NAME: usize = 32;
/// Bytes of a token, at most.
const MAX_TOKEN_BYTES: usize = 4096;
/// Prefixes of one token, at most.
const MAX_PREFIXES: usize = 64;
/// Bytes of one prefix, at most.
const MAX_PREFIX_BYTES: usize = 256;
/// Prefixes that a refusal lists, and characters of each text in it, at most.
const MAX_LISTED: usize = 3;
const MAX_SHOWN: usize = 100;

/// A bearer token as it is set: `[NAME:]TOKEN`, and behind blanks its rights: `read`, `write`, `prefix=TEXT`.
#[derive(Debug)]
pub struct TokenLine<'a> {
    /// `[a-z][a-z0-9_-]{0,31}`: what else stands before a colon is part of the token.
    pub name: Option<&'a str>,
    /// The token without its name.
    pub token: &'a str,
    /// The token with its name, which may be shown too.
    pub named_token: &'a str,
    /// None: its holder may do everything.
    pub rights: Option<Rights>,
}

/// What the holder of a token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    name: Box<str>,
    may_read: bool,
    may_write: bool,
    /// One of these begins every key; none: all keys.
    prefixes: Vec<Box<str>>,
}

/// What is done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its value is told, or that it is there.
    Read,
    /// Its value changes, or goes.
    Write,
}

impl<'a> TokenLine<'a> {
    /// Reads a line of `auth.tokens` or of a file of tokens.
    ///
    /// # Errors
    /// What is wrong, without quoting the line: it holds a secret.
    pub fn parse(line: &'a str) -> Result<Self, &'static str> {
        let mut words = line.split_ascii_whitespace();
        let named_token = words.next().ok_or("no token")?;
        if named_token.len() > MAX_TOKEN_BYTES {
            return Err("a token that is too long");
        }
        if !named_token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token with a character that cannot stand in an Authorization header");
        }
        let (name, token) =
            named_token.split_once(':').filter(|(name, token)| is_name(name) && !token.is_empty()).unzip();
        let token = token.unwrap_or(named_token);
        let mut words = words.peekable();
        let rights = match (words.peek().is_some(), name) {
            (false, _) => None,
            (true, Some(name)) => Some(Rights::parse(name, words)?),
            (true, None) => return Err("a blank inside of a token, or rights of a token without a name"),
        };
        Ok(TokenLine { name, token, named_token, rights })
    }
}

fn is_name(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    text.len() <= MAX_NAME && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_inside)
}

impl Rights {
    fn parse<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> Result<Self, &'static str> {
        let mut rights = Rights { name: name.into(), may_read: false, may_write: false, prefixes: Vec::new() };
        for word in words {
            match word.strip_prefix("prefix=") {
                Some("") => return Err("prefix= without a text behind it"),
                Some(prefix) if prefix.len() > MAX_PREFIX_BYTES => return Err("a prefix of more than 256 bytes"),
                Some(_) if rights.prefixes.len() == MAX_PREFIXES => return Err("more than 64 prefixes"),
                Some(prefix) => rights.prefixes.push(prefix.into()),
                None if word == "read" => rights.may_read = true,
                None if word == "write" => rights.may_write = true,
                None => return Err("a right other than read, write and prefix=TEXT"),
            }
        }
        if !rights.may_read && !rights.may_write {
            (rights.may_read, rights.may_write) = (true, true);
        }
        Ok(rights)
    }

    /// Whether they are limited to some keys.
    pub fn has_prefixes(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// Whether this is permitted, for some keys at least.
    ///
    /// # Errors
    /// Why not, for the sender.
    pub fn allow(&self, access: Access) -> Result<(), String> {
        match access {
            Access::Read if !self.may_read => Err(format!("The token \"{}\" may only write.", self.name)),
            Access::Write if !self.may_write => Err(format!("The token \"{}\" may only read.", self.name)),
            Access::Read | Access::Write => Ok(()),
        }
    }

    /// Whether all keys of the action begin as they must.
    ///
    /// # Errors
    /// Which does not, for the sender.
    pub fn cover(&self, action: &Action) -> Result<(), String> {
        if self.prefixes.is_empty() {
            return Ok(());
        }
        let outside = |key: &[u8]| !self.prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
        let (what, found) = match action {
            Action::Set(entries) => ("key", entries.iter().map(|entry| &entry.key).find(|key| outside(key.as_bytes()))),
            Action::Get(keys) | Action::Delete(keys) => ("key", keys.iter().find(|key| outside(key.as_bytes()))),
            Action::DeletePattern { patterns, .. } => {
                let found = patterns.iter().find(|pattern| outside(pattern.prefix()));
                return found.map_or(Ok(()), |pattern| Err(self.outside("pattern", pattern.as_str())));
            }
        };
        found.map_or(Ok(()), |key| Err(self.outside(what, key.as_str())))
    }

    /// The event as one that is refused; None: it is permitted.
    pub fn refusal(&self, event: &Event) -> Option<Invalid> {
        let access = match event.action {
            Action::Get(_) | Action::DeletePattern { dry_run: true, .. } => Access::Read,
            Action::Set(_) | Action::Delete(_) | Action::DeletePattern { dry_run: false, .. } => Access::Write,
        };
        let why = self.allow(access).and_then(|()| self.cover(&event.action)).err()?;
        Some(Invalid { id: event.id.clone(), event: Some(event.action.name()), kind: InvalidKind::Forbidden(why) })
    }

    fn outside(&self, what: &str, text: &str) -> String {
        let mut said =
            format!("The token \"{}\" has no right to the {what} {}. Its prefixes: ", self.name, shown(text));
        for (place, prefix) in self.prefixes.iter().take(MAX_LISTED).enumerate() {
            let _ = write!(said, "{}{}", if place == 0 { "" } else { ", " }, shown(prefix));
        }
        match self.prefixes.len().saturating_sub(MAX_LISTED) {
            0 => said.push('.'),
            more => {
                let _ = write!(said, " and {more} more.");
            }
        }
        said
    }
}

/// For whoever looks after the settings: `may read keys that begin with "a:" or "b:"`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.may_read, self.may_write) {
            (true, false) => "may read ",
            (false, _) => "may write ",
            (true, true) => "may read and write ",
        })?;
        if self.prefixes.is_empty() {
            return f.write_str("all keys");
        }
        f.write_str("keys that begin with ")?;
        for (place, prefix) in self.prefixes.iter().enumerate() {
            write!(f, "{}{prefix:?}", if place == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

/// In quotes, cut to a length that fits a line.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
