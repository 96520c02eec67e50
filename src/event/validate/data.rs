//! `value.data` by type: entries, keys or patterns, in their several forms.

use smallvec::smallvec;

use super::faults::{At, EventMember, Others};
use super::{Check, EventPart, EventType, JsonKind, Node, Tree, Ttl};
use crate::event::pattern::Pattern;
use crate::event::{Action, CacheKey, Few, Limits, MAX_PATTERNS};

/// One of the two members by which an object names what it is about.
type Named<'a> = (&'static str, EventMember<'a>);

impl Check<'_> {
    /// `ttl` is that of the whole event, for entries without one of their own.
    pub(super) fn data(
        &mut self,
        data: Node<'_>,
        at: &At<'_>,
        event: Option<EventType>,
        ttl: Option<Ttl>,
    ) -> Option<Action> {
        let inside = self.json_inside(data, at).ok()?;
        let decoded = match &inside {
            Some(text) => Some(self.tree(text, EventPart::Data)?),
            None => None,
        };
        let data = decoded.as_ref().map_or(data, Tree::root);
        match event {
            Some(EventType::Set) => self.entries(data, at, ttl).map(Action::Set),
            Some(EventType::Get) => self.keys(data, at).map(Action::Get),
            Some(EventType::Delete) => self.keys(data, at).map(Action::Delete),
            Some(EventType::DeletePattern) => self.patterns(data, at),
            None => {
                self.untyped(data, at);
                None
            }
        }
    }

    fn keys(&mut self, data: Node<'_>, at: &At<'_>) -> Option<Few<CacheKey>> {
        let at_most = self.limits.max_keys;
        match data.kind() {
            JsonKind::String => self.key(data, at).map(|key| smallvec![key]),
            JsonKind::Array => self.list(data, at, at_most, Self::key),
            JsonKind::Object => {
                let [key, keys] = self.faults.members(data, ["key", "keys"], Others::Refused, at);
                self.one_or_many(("key", key), ("keys", keys), at, at_most, Self::key)
            }
            _ => self.faults.refuse(at, "must be a key, an array of keys, or an object with `key` or `keys`"),
        }
    }

    fn patterns(&mut self, data: Node<'_>, at: &At<'_>) -> Option<Action> {
        let mut dry_run = Some(false);
        let patterns = match data.kind() {
            JsonKind::String => self.pattern(data, at).map(|pattern| smallvec![pattern]),
            JsonKind::Array => self.list(data, at, MAX_PATTERNS, Self::pattern),
            JsonKind::Object => {
                let names = ["pattern", "patterns", "dry_run"];
                let [pattern, patterns, flag] = self.faults.members(data, names, Others::Refused, at);
                dry_run = self.dry_run(flag, &at.name("dry_run"));
                self.one_or_many(("pattern", pattern), ("patterns", patterns), at, MAX_PATTERNS, Self::pattern)
            }
            _ => self
                .faults
                .refuse(at, "must be a pattern, an array of patterns, or an object with `pattern` or `patterns`"),
        };
        Some(Action::DeletePattern { patterns: patterns?, dry_run: dry_run? })
    }

    /// No type says what this is; but an object that says something twice is wrong under any.
    fn untyped(&mut self, data: Node<'_>, at: &At<'_>) {
        match data.kind() {
            JsonKind::Object => {
                self.faults.members(data, [], Others::Ignored(&[]), at);
            }
            JsonKind::Array => {
                for (index, item) in data.items().enumerate().filter(|(_, item)| item.kind() == JsonKind::Object) {
                    self.faults.members(item, [], Others::Ignored(&[]), &at.index(index));
                }
            }
            _ => {}
        }
    }

    /// What an object names by exactly one of two members: the first holds one, the second a list.
    fn one_or_many<T>(
        &mut self,
        (one, single): Named<'_>,
        (many, list): Named<'_>,
        at: &At<'_>,
        at_most: usize,
        mut parse: impl FnMut(&mut Self, Node<'_>, &At<'_>) -> Option<T>,
    ) -> Option<Few<T>> {
        let single_valid = single.given().and_then(|node| parse(self, node, &at.name(one)));
        let list_valid = list.given().and_then(|node| match node.kind() {
            JsonKind::Array => self.list(node, &at.name(many), at_most, parse),
            _ => self.faults.refuse(&at.name(many), "must be an array of strings"),
        });
        match (single.is_absent(), list.is_absent()) {
            (true, true) => self.faults.refuse(at, format!("must have `{one}` or `{many}`")),
            (false, false) => self.faults.refuse(at, format!("must have only one of `{one}` and `{many}`")),
            (false, true) => single_valid.map(|valid| smallvec![valid]),
            (true, false) => list_valid,
        }
    }

    pub(super) fn key(&mut self, node: Node<'_>, at: &At<'_>) -> Option<CacheKey> {
        let text = self.text(node, at, "must be a string: a key")?;
        match self.key_fault(&text) {
            None => self.once(CacheKey(text), at),
            Some(detail) => self.faults.refuse(at, detail),
        }
    }

    /// The key, unless the event must not name it again.
    pub(super) fn once(&mut self, key: CacheKey, at: &At<'_>) -> Option<CacheKey> {
        let is_first = self.named.as_mut().is_none_or(|named| named.add(&key));
        match is_first {
            true => Some(key),
            false => self.faults.refuse(at, "names a key again, which an event with a version must not"),
        }
    }

    pub(super) fn key_fault(&self, text: &str) -> Option<String> {
        key_fault(text, self.limits)
    }

    fn pattern(&mut self, node: Node<'_>, at: &At<'_>) -> Option<Pattern> {
        let text = self.text(node, at, "must be a string: a pattern")?;
        if let Some(detail) = length_fault(&text, self.limits) {
            return self.faults.refuse(at, detail);
        }
        match Pattern::parse(text, self.limits.allow_match_all) {
            Ok(pattern) => Some(pattern),
            Err(error) => self.faults.refuse(at, error.to_string()),
        }
    }

    fn dry_run(&mut self, flag: EventMember<'_>, at: &At<'_>) -> Option<bool> {
        match flag {
            EventMember::Absent => Some(false),
            EventMember::Twice => None,
            EventMember::Given(node) => match node.text() {
                "true" => Some(true),
                "false" => Some(false),
                _ => self.faults.refuse(at, "must be true or false"),
            },
        }
    }
}

/// What keeps a text from being a key, for who sent it.
pub fn key_fault(text: &str, limits: &Limits) -> Option<String> {
    length_fault(text, limits).or_else(|| limits.own_keys.fault(text))
}

fn length_fault(text: &str, limits: &Limits) -> Option<String> {
    let max = limits.max_key_bytes;
    let fits = (1..=max).contains(&text.len());
    (!fits).then(|| format!("must be 1 to {max} bytes long, but has {}", text.len()))
}
