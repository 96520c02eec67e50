//! Keys that belong to the service, in the Redis of the cache: no event names them, and no pattern matches them.

/// The names of these keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnKeys {
    version_prefix: String,
    journal: String,
}

impl OwnKeys {
    /// Those that begin with `version_prefix`, the stream `journal`, and what lies beside that: `{journal}:…`. An empty name is
    /// no name.
    pub fn new(version_prefix: impl Into<String>, journal: impl Into<String>) -> Self {
        OwnKeys { version_prefix: version_prefix.into(), journal: journal.into() }
    }

    /// What the keys begin with that hold versions.
    pub fn version_prefix(&self) -> &str {
        &self.version_prefix
    }

    /// The name of the journal.
    pub fn journal(&self) -> &str {
        &self.journal
    }

    /// Whether the key is one of them.
    pub fn contain(&self, key: &[u8]) -> bool {
        self.is_of_version(key) || self.is_of_journal(key)
    }

    /// Why the text must not be a key of anybody else; None: it may be.
    pub fn fault(&self, key: &str) -> Option<String> {
        let what = if self.is_of_version(key.as_bytes()) {
            format!("start with `{}`", self.version_prefix)
        } else if self.is_of_journal(key.as_bytes()) {
            format!("be `{0}` or start with `{{{0}}}:`", self.journal)
        } else {
            return None;
        };
        Some(format!("must not {what}: such keys belong to the service"))
    }

    fn is_of_version(&self, key: &[u8]) -> bool {
        !self.version_prefix.is_empty() && key.starts_with(self.version_prefix.as_bytes())
    }

    fn is_of_journal(&self, key: &[u8]) -> bool {
        let name = self.journal.as_bytes();
        let beside = || key.strip_prefix(b"{")?.strip_prefix(name)?.strip_prefix(b"}:");
        !name.is_empty() && (key == name || beside().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_are_those_of_versions_and_of_the_journal_and_no_others() {
        let own = OwnKeys::new("rcs:v:", "rcs:journal");
        for key in ["rcs:v:", "rcs:v:{1}a", "rcs:journal", "{rcs:journal}:dead", "{rcs:journal}:"] {
            assert!(own.contain(key.as_bytes()) && own.fault(key).is_some(), "{key}");
        }
        for key in ["", "rcs:v", "rcs:journal:", "rcs:journals", "{rcs:journal}", "{rcs:journal", "a{rcs:journal}:dead"]
        {
            assert!(!own.contain(key.as_bytes()) && own.fault(key).is_none(), "{key}");
        }
        assert!(!OwnKeys::default().contain(b"") && !OwnKeys::default().contain(b"{}:"));
    }
}
