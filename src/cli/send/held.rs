//! What stays behind an event that was given up: later events on its keys. They go to the same file, in order, so that
//! sending that file again puts nothing older over something newer.

use std::collections::HashSet;

use super::event::{Item, Looker, Touches, named};
use crate::event::pattern::Pattern;

#[derive(Default)]
pub struct HeldBack {
    keys: HashSet<Box<str>>,
    patterns: Vec<Pattern>,
}

impl HeldBack {
    /// How much is remembered.
    pub fn len(&self) -> usize {
        self.keys.len() + self.patterns.len()
    }

    /// This event was given up.
    pub fn add(&mut self, looker: &Looker, item: &Item) {
        match looker.event(&item.text) {
            None => {}
            Some(event) => {
                self.keys.extend(named(&event).into_iter().map(Box::from));
                self.patterns.extend(looker.patterns(&item.text));
            }
        }
    }

    /// Whether something was given up that this one must not overtake. Patterns may overtake each other: all they do is
    /// delete.
    pub fn holds(&self, looker: &Looker, item: &Item) -> bool {
        if self.len() == 0 || item.touches == Touches::Nothing {
            return false;
        }
        if item.touches == Touches::Everything {
            let patterns = looker.patterns(&item.text);
            return self.keys.iter().any(|key| patterns.iter().any(|pattern| pattern.matches(key.as_bytes())));
        }
        looker.event(&item.text).is_some_and(|event| {
            named(&event).into_iter().any(|key| {
                self.keys.contains(key) || self.patterns.iter().any(|pattern| pattern.matches(key.as_bytes()))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cli::send::event::InputPlace;

    #[test]
    fn what_comes_after_a_given_up_event_on_its_keys_is_held_and_nothing_else() {
        let looker = Looker::new();
        let event = |kind: &str, data: &str| {
            let text = Bytes::from(format!(r#"{{"key":"{kind}","value":{{"data":{data}}}}}"#));
            Item {
                number: 0,
                place: InputPlace { file: "f".into(), line: 1 },
                touches: looker.touches(&text),
                text,
                read_to: 0,
            }
        };
        let mut held = HeldBack::default();
        assert!(!held.holds(&looker, &event("DELETE", r#""a""#)));
        held.add(&looker, &event("SET", r#"[{"key":"a","value":1},{"key":"b","value":1}]"#));
        held.add(&looker, &event("DELETE_PATTERN", r#""s:*""#));
        for data in [r#""a""#, r#"["x","b"]"#, r#""s:1""#] {
            assert!(held.holds(&looker, &event("DELETE", data)), "{data}");
        }
        assert!(held.holds(&looker, &event("DELETE_PATTERN", r#"["x","[ab]"]"#)));
        for event in [event("DELETE", r#""c""#), event("DELETE_PATTERN", r#""s:*""#), event("NOTHING", r#""a""#)] {
            assert!(!held.holds(&looker, &event), "{event:?}");
        }
    }
}
