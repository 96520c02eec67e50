use std::time::Duration;

use super::super::split::WINDOW_BYTES;
use super::*;
use crate::event::{CacheKey, OwnKeys, Ttl};

fn key(name: &'static str) -> CacheKey {
    CacheKey::new_unchecked(name)
}

fn set(name: &'static str) -> Command {
    Command::Set { key: key(name), value: Bytes::new(), ttl: None, version: None, remembered: None }
}

fn options(version_keys: &VersionKeys, sets: bool) -> EncodeOptions<'_> {
    let singly = Singly { sets, versions: false };
    EncodeOptions {
        version_keys,
        with_exists: true,
        windows: &[],
        window_bytes: WINDOW_BYTES,
        with_scripts: false,
        singly,
        asking: false,
        probes_length: false,
    }
}

fn version_keys(is_cluster: bool) -> VersionKeys {
    VersionKeys { own: OwnKeys::new("v:", ""), window: Duration::ZERO, is_cluster }
}

#[test]
fn plain_sets_side_by_side_share_a_call_within_bounds_and_one_node() {
    let calls =
        |segment: &[Command], options: EncodeOptions<'_>| encode(segment, 0, options, None, Vec::new()).commands();
    let expiring =
        Command::Set { key: key("a"), value: Bytes::new(), ttl: Ttl::from_seconds(1), version: None, remembered: None };
    let large =
        Command::Set { key: key("a"), value: vec![0; MAX_BYTES].into(), ttl: None, version: None, remembered: None };
    let one = version_keys(false);
    for (segment, count) in [
        (vec![set("a"), set("b"), set("a")], 1),
        (vec![set("a"), expiring.clone(), set("b"), set("c")], 3),
        (vec![set("a"), Command::Delete { key: key("a"), version: None }, set("b")], 3),
        (vec![set("a"), large.clone(), large, set("b"), set("c")], 4),
        (vec![set("a"); MAX_KEYS + 1], 2),
    ] {
        assert_eq!(calls(&segment, options(&one, false)), count, "{segment:?}");
        assert_eq!(calls(&segment, options(&one, true)), segment.len(), "{segment:?}");
        assert_eq!(calls(&segment, options(&version_keys(true), false)), segment.len(), "{segment:?}");
    }
}

#[test]
fn a_value_is_taken_from_the_window_only_if_that_must_be_all_of_it() {
    let decoded = |max_bytes, start: &'static [u8], exists| {
        let frames = vec![Frame::Text(Bytes::from_static(start)), Frame::Number(exists)];
        let segment = [Command::Get { key: key("a"), max_bytes }];
        match ReplyReader::new(&segment, options(&version_keys(false), false), frames.into_iter()).next() {
            Some(Step::Done(result)) => Some(result),
            Some(Step::ReadOn | Step::Empty | Step::Elsewhere(_)) | None => None,
        }
    };
    assert_eq!(decoded(9, b"", 0), Some(Ok(Reply::Miss)));
    assert_eq!(decoded(9, b"", 1), None);
    assert_eq!(decoded(2, b"ab", 1), Some(Ok(Reply::Hit(Bytes::from_static(b"ab")))));
    assert_eq!(decoded(2, b"abc", 1), None);
    assert_eq!(decoded(0, b"a", 1), None);
    assert_eq!(decoded(usize::MAX, &[0; WINDOW_BYTES], 1), None);
}
