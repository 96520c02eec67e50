//! What of a pattern is given to Redis to match: a part that is cheap on every version. Redis does nothing else while it
//! matches, and goes back at each star; the rest is matched here.

use super::{Pattern, is_special};

/// Bytes behind the star, at most: Redis compares them at each place of each key.
const MAX_BEHIND_STAR: usize = 8;

/// A glob that matches every key that some patterns match, and others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wider {
    prefix: Vec<u8>,
    glob: Vec<u8>,
}

impl Wider {
    /// None: there is no such glob that would rule anything out.
    pub fn of<'p>(patterns: impl IntoIterator<Item = &'p Pattern>) -> Option<Wider> {
        let mut patterns = patterns.into_iter();
        let first = patterns.next()?;
        let (mut prefix, mut is_alone) = (first.prefix(), true);
        for other in patterns {
            let common = prefix.iter().zip(other.prefix()).take_while(|(one, two)| one == two).count();
            (prefix, is_alone) = (&prefix[..common], false);
        }
        let mut glob = Vec::with_capacity(prefix.len() + MAX_BEHIND_STAR + 2);
        escape(prefix, &mut glob);
        if !(is_alone && prefix.len() == first.compiled.min_len() && !first.compiled.has_star()) {
            glob.push(b'*');
            if is_alone {
                behind_star(first, &mut glob);
            }
        }
        (glob != b"*").then(|| Wider { prefix: prefix.to_vec(), glob })
    }

    /// The literal bytes with which every matching key begins.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The glob as Redis accepts it.
    pub fn glob(&self) -> &[u8] {
        &self.glob
    }
}

fn behind_star(pattern: &Pattern, glob: &mut Vec<u8>) {
    let suffix = pattern.compiled.suffix();
    if !suffix.is_empty() {
        escape(&suffix[suffix.len().saturating_sub(MAX_BEHIND_STAR)..], glob);
    } else if let Some(middle) = pattern.compiled.middle() {
        escape(&middle[..middle.len().min(MAX_BEHIND_STAR)], glob);
        glob.push(b'*');
    }
}

fn escape(literal: &[u8], glob: &mut Vec<u8>) {
    for byte in literal {
        if is_special(*byte) {
            glob.push(b'\\');
        }
        glob.push(*byte);
    }
}
