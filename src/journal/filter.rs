//! Which dead letters are meant.

use std::time::Duration;

use super::dead::DeadLetter;
use super::unix_millis;
use crate::event::pattern::Pattern;

/// What a person says of the letters that are meant. What is not said lets every letter through.
#[derive(Debug, Default)]
pub struct LetterFilter {
    source: Option<String>,
    problem: Option<String>,
    key: Option<Pattern>,
    age: Option<Age>,
}

/// A bound of the time since a letter was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Age {
    is_most: bool,
    bound: Duration,
}

impl LetterFilter {
    /// Letters of this source, with this problem, that name a key which this Redis glob matches, and were given up so long ago at least,
    /// or with `<` before it at most (`90s`, `15m`, `<1d`). An empty text says nothing.
    ///
    /// # Errors
    /// Which of them cannot be read, and how it is written.
    pub fn new(source: &str, problem: &str, key: &str, age: &str) -> Result<Self, String> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let key = given(key).map(|glob| Pattern::parse(glob, true)).transpose();
        let age = given(age).map(|age| Age::parse(&age).ok_or("age is a number and s, m, h or d: 90s, 15m, <1d"));
        Ok(LetterFilter {
            source: given(source),
            problem: given(problem),
            key: key.map_err(|error| format!("key {error}"))?,
            age: age.transpose()?,
        })
    }

    /// Whether the letter is meant.
    pub fn passes(&self, letter: &DeadLetter) -> bool {
        let age = Duration::from_millis(unix_millis().saturating_sub(letter.died_ms));
        self.source.as_ref().is_none_or(|source| letter.meta.source == *source)
            && self.problem.as_ref().is_none_or(|problem| letter.problem == *problem)
            && self.age.is_none_or(|Age { is_most, bound }| if is_most { age <= bound } else { age >= bound })
            && self.key.as_ref().is_none_or(|key| letter.keys().iter().any(|name| key.matches(name.as_bytes())))
    }
}

impl Age {
    fn parse(text: &str) -> Option<Self> {
        let (is_most, text) = text.strip_prefix('<').map_or((false, text), |rest| (true, rest));
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        Some(Age { is_most, bound: Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_unit_and_a_direction() {
        let parsed = |text| Age::parse(text).map(|age| (age.is_most, age.bound));
        let hour = Duration::from_secs(3600);
        assert_eq!(
            [parsed("1h"), parsed("<60m"), parsed("3600s")],
            [Some((false, hour)), Some((true, hour)), Some((false, hour))]
        );
        assert_eq!(parsed("2d"), Some((false, hour * 48)));
        for bad in ["", "h", "1", "1w", "-1s", "é"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
