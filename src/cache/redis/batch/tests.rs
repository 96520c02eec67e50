use std::time::Duration;

use super::*;
use crate::cache::redis::sharing::{Refusal, RefusedTogether};
use crate::cache::redis::split::WINDOW_BYTES;
use crate::cache::{CacheError, Reply};
use crate::event::{CacheKey, OwnKeys};
use crate::redis::{Code, Frame};

fn key(name: &'static str) -> CacheKey {
    CacheKey::new_unchecked(name)
}

fn set(name: &'static str) -> Command {
    Command::Set { key: key(name), value: Bytes::new(), ttl: None, version: None, remembered: None }
}

fn options(version_keys: &VersionKeys, sets: bool) -> EncodeOptions<'_> {
    let singly = Singly { sets, expiring: sets, ..Singly::default() };
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

fn set_for(name: &'static str, seconds: u32) -> Command {
    let ttl = Ttl::from_seconds(seconds);
    Command::Set { key: key(name), value: Bytes::from_static(b"v"), ttl, version: None, remembered: None }
}

#[test]
fn sets_with_one_expiry_share_a_call_of_their_own() {
    let segment = [set_for("a", 7), set_for("b", 7), set_for("c", 8), set("d"), set_for("e", 8)];
    let keys = version_keys(false);
    let wire = |options| {
        let pieces = encode(&segment[..3], 0, options, None, Vec::new()).into_pieces();
        String::from_utf8(pieces.into_iter().flatten().collect()).unwrap().replace("\r\n", " ")
    };
    let alone = "*5 $3 SET $1 c $1 v $2 EX $1 8 ";
    let together = "*8 $6 MSETEX $1 2 $1 a $1 v $1 b $1 v $2 EX $1 7 ";
    assert_eq!(wire(options(&keys, false)), [together, alone].concat());
    assert!(wire(options(&keys, true)).ends_with(&["b $1 v $2 EX $1 7 ", alone].concat()));

    let replies = |first| {
        let frames = vec![first, Frame::Status, Frame::Status, Frame::Status];
        let mut replies = ReplyReader::new(&segment, options(&keys, false), frames.into_iter());
        let results = replies.by_ref().map(|step| if let Step::Done(result) = step { result } else { panic!("done") });
        (results.collect::<Vec<_>>(), replies.refused_together)
    };
    assert_eq!(replies(Frame::Number(1)), (vec![Ok(Reply::Stored); 5], RefusedTogether::default()));
    for (line, refusal) in [
        ("NOPERM No permissions to access a key", Refusal::Together),
        ("NOPERM User u has no permissions to run the 'msetex' command", Refusal::Unknown),
        ("ERR unknown command 'MSETEX'", Refusal::Unknown),
    ] {
        let (results, refused) = replies(Frame::Error(Code::from_line(line.as_bytes())));
        let (together, others) = results.split_at(2);
        assert!(together.iter().all(|result| *result == Err(CacheError::RefusedTogether)), "{line}");
        assert!(others.iter().all(Result::is_ok), "{line}");
        assert_eq!(refused, RefusedTogether { expiring: Some(refusal), ..RefusedTogether::default() });
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

/// What becomes of reads of these keys, by the count of an `EXISTS` and the starts of their values; one with a `-` is an error.
fn read_together(count: Frame, starts: &[&'static str]) -> Vec<&'static str> {
    let keys = version_keys(false);
    let segment: Vec<Command> = starts.iter().map(|_| Command::Get { key: key("k"), max_bytes: 9 }).collect();
    let starts = starts.iter().map(|start| match start.strip_prefix('-') {
        Some(line) => Frame::Error(Code::from_line(line.as_bytes())),
        None => Frame::Text(Bytes::from_static(start.as_bytes())),
    });
    let frames: Vec<Frame> = std::iter::once(count).chain(starts).collect();
    let steps = ReplyReader::new(&segment, options(&keys, false), frames.into_iter());
    let names = steps.map(|step| match step {
        Step::Done(Ok(Reply::Hit(_))) => "hit",
        Step::Done(Ok(Reply::Miss)) => "miss",
        Step::Empty => "ask",
        _ => "other",
    });
    names.collect()
}

#[test]
fn reads_share_an_exists_and_what_it_does_not_tell_is_asked_for() {
    let keys = version_keys(false);
    let segment = vec![Command::Get { key: key("k"), max_bytes: 9 }; READS_TOGETHER + 1];
    let calls = |options: EncodeOptions<'_>| encode(&segment, 0, options, None, Vec::new()).commands();
    let cluster = version_keys(true);
    assert_eq!(calls(options(&keys, false)), READS_TOGETHER + 1 + 2);
    assert_eq!(calls(options(&keys, true)), 2 * segment.len());
    assert_eq!(calls(options(&cluster, false)), 2 * segment.len());
    assert_eq!(calls(EncodeOptions { with_exists: false, ..options(&keys, false) }), segment.len());

    assert_eq!(read_together(Frame::Number(1), &["v", "", ""]), ["hit", "miss", "miss"]);
    assert_eq!(read_together(Frame::Number(2), &["v", "", ""]), ["hit", "ask", "ask"]);
    assert_eq!(read_together(Frame::Number(0), &["v", ""]), ["hit", "ask"]);
    let refused = Frame::Error(Code::from_line(b"NOPERM No permissions to access a key"));
    assert_eq!(read_together(refused.clone(), &["v", ""]), ["hit", "ask"]);

    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(read_together(Frame::Number(2), &[wrong_type, "v", ""]), ["other", "hit", "miss"]);
    // A key without permission may exist or not.
    let forbidden = "-NOPERM No permissions to access a key";
    assert_eq!(read_together(Frame::Number(1), &[forbidden, ""]), ["other", "ask"]);

    let singly = Singly { reads: true, ..Singly::default() };
    assert_eq!(calls(EncodeOptions { singly, ..options(&keys, false) }), 2 * segment.len());
    let mut replies = ReplyReader::new(&segment[..2], options(&keys, false), vec![refused].into_iter());
    assert!(replies.next().is_none());
    assert_eq!(replies.refused_together, RefusedTogether { reads: Some(Refusal::Together), ..Default::default() });
}

/// No server that is known answers so; one that did must not have its elements taken for the replies to other commands.
#[test]
fn an_array_where_none_may_be_answers_nothing_behind_it() {
    let keys = version_keys(false);
    let segment = [Command::Delete { key: key("a"), version: None }, Command::Delete { key: key("b"), version: None }];
    let frames = vec![Frame::Array(1), Frame::Number(1), Frame::Number(0)];
    let steps: Vec<Step> = ReplyReader::new(&segment, options(&keys, false), frames.into_iter()).collect();
    assert!(matches!(&steps[..], [Step::Done(Err(_))]));
}
