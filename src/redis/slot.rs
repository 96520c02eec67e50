//! Slots of a Redis Cluster: which one a key is in, by the rules of its specification.

use crc::{CRC_16_XMODEM, Crc, Table};

/// How many slots a Redis Cluster has.
pub const SLOTS: u16 = 16_384;

static CRC: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_XMODEM);

/// The slot of a key. What stands between its first braces decides, if that is not empty; otherwise all of the key.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let inside = key.get(open + 1..)?;
        let end = inside.iter().position(|&byte| byte == b'}').filter(|end| *end > 0)?;
        inside.get(..end)
    });
    slot_of_tag(tag.unwrap_or(key))
}

/// The slot of every key that has this hash tag, given without its braces.
pub fn slot_of_tag(tag: &[u8]) -> u16 {
    CRC.checksum(tag) % SLOTS
}

/// The slot of every key that begins so; None: the prefix has no whole hash tag, so they may be in any.
pub fn slot_of_prefix(prefix: &[u8]) -> Option<u16> {
    let open = prefix.iter().position(|byte| *byte == b'{')?;
    let tag = prefix.get(open + 1..)?.iter().position(|byte| *byte == b'}')?;
    (tag > 0).then(|| slot(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_that_which_redis_says() {
        for (key, expected) in [
            ("123456789", 12739),
            ("foo", 12182),
            ("{user1000}.following", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("", 0),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn keys_with_a_common_prefix_are_in_one_slot_if_it_has_a_whole_tag() {
        for (prefix, expected) in [
            ("{user}:", Some("user")),
            ("a{user}", Some("user")),
            ("{a{b}", Some("a{b")),
            ("{user}{}", Some("user")),
            ("{user", None),
            ("{}user", None),
            ("{}{user}", None),
            ("}{", None),
            ("", None),
        ] {
            assert_eq!(slot_of_prefix(prefix.as_bytes()), expected.map(|tag| slot_of_tag(tag.as_bytes())), "{prefix}");
        }
    }
}
