use bytes::Bytes;

use super::*;
use crate::event::Ttl;
use crate::event::invalid::{Fault, InvalidKind};
use crate::event::outcome::{Origin, Problem, ProblemKind};

fn answered(event: EventType, results: Vec<(&'static str, Outcome)>) -> Answered {
    let (targets, outcomes) = results.into_iter().map(|(target, outcome)| (ByteString::from(target), outcome)).unzip();
    let (spent, age_when_accepted_ms) = (Few::new(), None);
    Answered { id: None, event, has_version: false, targets, outcomes, spent, age_when_accepted_ms }
}

fn stored(bytes: usize, ttl: Option<u32>, source: Origin) -> Outcome {
    Outcome::Stored { bytes, ttl: ttl.and_then(Ttl::from_seconds), source }
}

#[track_caller]
fn assert_answer(answered: &Answered, json: &str) {
    let mut out = Text::default();
    write_answer(&mut out, answered);
    assert_eq!(String::from_utf8(out.into_whole().unwrap()).unwrap(), json);
}

fn batch(elements: &[EventResult], minimal: bool) -> String {
    let mut out = Text::default();
    write_batch(&mut out, elements, minimal);
    String::from_utf8(out.into_whole().unwrap()).unwrap()
}

fn invalid(id: Option<&'static str>, faults: &[(&str, &'static str)]) -> Invalid {
    let faults = faults.iter().map(|&(pointer, detail)| Fault { pointer: pointer.into(), detail: detail.into() });
    Invalid { id: id.map(ByteString::from), event: None, kind: InvalidKind::Faults(faults.collect()) }
}

#[test]
fn a_set_answers_what_was_stored() {
    let mut answer = answered(EventType::Set, vec![("user:42", stored(14, Some(3600), Origin::Inline))]);
    answer.id = Some("e-1".into());
    assert_answer(
        &answer,
        r#"{"status":"ok","event":"SET","id":"e-1","results":[{"key":"user:42","status":"stored","bytes":14,"ttl":3600,"source":"inline"}]}"#,
    );
    assert_answer(
        &answered(EventType::Set, vec![("k", stored(0, None, Origin::Blob)), ("l", Outcome::Superseded)]),
        r#"{"status":"ok","event":"SET","results":[{"key":"k","status":"stored","bytes":0,"ttl":null,"source":"blob"},{"key":"l","status":"superseded"}]}"#,
    );
}

#[test]
fn a_get_answers_text_or_base64() {
    let hits = vec![
        ("a", Outcome::Hit(Bytes::from_static(b"text"))),
        ("b", Outcome::Hit(Bytes::from_static(&[0x00, 0x01, 0xff]))),
        ("q\"\n", Outcome::Hit(Bytes::from_static("\u{0}\"é".as_bytes()))),
        ("c", Outcome::Miss),
    ];
    assert_answer(
        &answered(EventType::Get, hits),
        r#"{"status":"ok","event":"GET","results":[{"key":"a","status":"hit","value":"text"},{"key":"b","status":"hit","value":"AAH/","encoding":"base64"},{"key":"q\"\n","status":"hit","value":"\u0000\"é"},{"key":"c","status":"miss"}]}"#,
    );
}

#[test]
fn a_delete_answers_what_was_there() {
    assert_answer(
        &answered(EventType::Delete, vec![("a", Outcome::Deleted), ("c", Outcome::Absent)]),
        r#"{"status":"ok","event":"DELETE","results":[{"key":"a","status":"deleted"},{"key":"c","status":"absent"}]}"#,
    );
}

#[test]
fn a_pattern_answers_counts_and_a_sample() {
    assert_answer(
        &answered(EventType::DeletePattern, vec![("sess:*", Outcome::PatternDeleted { matched: 120, deleted: 119 })]),
        r#"{"status":"ok","event":"DELETE_PATTERN","results":[{"pattern":"sess:*","status":"deleted","matched":120,"deleted":119}]}"#,
    );
    let sample = vec![Bytes::from_static(b"sess:1"), Bytes::from_static(b"\xff")];
    let preview = |is_estimated, sample| Outcome::Preview { matched: 120, sample, is_estimated };
    assert_answer(
        &answered(EventType::DeletePattern, vec![("sess:*", preview(true, Vec::new()))]),
        r#"{"status":"ok","event":"DELETE_PATTERN","results":[{"pattern":"sess:*","status":"preview","matched":120,"estimated":true,"sample":[]}]}"#,
    );
    assert_answer(
        &answered(EventType::DeletePattern, vec![("sess:*", preview(false, sample))]),
        r#"{"status":"ok","event":"DELETE_PATTERN","results":[{"pattern":"sess:*","status":"preview","matched":120,"sample":["sess:1",{"key":"/w==","encoding":"base64"}]}]}"#,
    );
}

#[test]
fn failures_carry_their_problem_without_a_status_code() {
    assert_answer(
        &answered(EventType::Set, vec![("k", Outcome::failed(ProblemKind::BlobUnavailable, "it answered 503"))]),
        r#"{"status":"unavailable","event":"SET","results":[{"key":"k","status":"unavailable","problem":{"type":"urn:redis-cache-sync:blob-unavailable","title":"The blob is unavailable","detail":"it answered 503"}}]}"#,
    );
    let problem = Box::new(Problem::new(ProblemKind::Timeout, "stopped"));
    assert_answer(
        &answered(
            EventType::DeletePattern,
            vec![("a*", Outcome::PatternDeleteFailed { matched: 5, deleted: 2, got_further: true, problem })],
        ),
        r#"{"status":"unavailable","event":"DELETE_PATTERN","results":[{"pattern":"a*","status":"unavailable","matched":5,"deleted":2,"problem":{"type":"urn:redis-cache-sync:timeout","title":"The work did not end in time","detail":"stopped"}}]}"#,
    );
}

#[test]
fn an_event_is_as_bad_as_its_worst_entry() {
    let rejected = || Outcome::failed(ProblemKind::BlobDenied, "");
    let unavailable = || Outcome::failed(ProblemKind::CacheUnavailable, "");
    for (outcomes, class) in [
        (vec![], Class::Ok),
        (vec![Outcome::Deleted, Outcome::Superseded], Class::Ok),
        (vec![rejected(), Outcome::Deleted], Class::Rejected),
        (vec![unavailable(), rejected(), Outcome::Deleted], Class::Unavailable),
    ] {
        let mut answer = answered(EventType::Set, vec![]);
        answer.outcomes = outcomes.into();
        assert_eq!(answer.class(), class);
    }
}

#[test]
fn a_batch_counts_events_and_lists_them_with_their_index() {
    let elements = [
        EventResult::Answered(answered(EventType::Delete, vec![("a", Outcome::Deleted)])),
        EventResult::Invalid(invalid(Some("e-2"), &[("/value/ttl", "must be so")])),
        EventResult::Invalid(Invalid {
            id: None,
            event: None,
            kind: InvalidKind::Malformed("bad at line 3 column 1".into()),
        }),
    ];
    let ok = r#"{"index":0,"status":"ok","event":"DELETE","results":[{"key":"a","status":"deleted"}]},"#;
    let others = concat!(
        r#"{"index":1,"id":"e-2","status":"rejected","problem":{"type":"urn:redis-cache-sync:invalid-event","title":"The event is not valid","#,
        r#""status":422,"detail":"/value/ttl must be so","errors":[{"pointer":"/value/ttl","detail":"must be so"}]}},"#,
        r#"{"index":2,"status":"rejected","problem":{"type":"urn:redis-cache-sync:malformed-json","title":"The event is not JSON","#,
        r#""status":400,"detail":"bad at line 3 column 1"}}"#,
    );
    let head = r#"{"status":"rejected","counts":{"ok":1,"rejected":2,"unavailable":0},"events":["#;
    assert_eq!(batch(&elements, false), format!("{head}{ok}{others}]}}"));
    assert_eq!(batch(&elements, true), format!("{head}{others}]}}"));
}

#[test]
fn a_batch_is_as_bad_as_its_worst_event() {
    let ok = || EventResult::Answered(answered(EventType::Delete, vec![("a", Outcome::Absent)]));
    let rejected = || EventResult::Invalid(invalid(None, &[("", "must be a JSON object")]));
    let outcome = Outcome::failed(ProblemKind::Interrupted, "");
    let unavailable = || EventResult::Answered(answered(EventType::Delete, vec![("a", outcome.clone())]));
    assert_eq!(batch(&[], false), r#"{"status":"ok","counts":{"ok":0,"rejected":0,"unavailable":0},"events":[]}"#);
    assert_eq!(BatchCounts::of(&[ok()]).class(), Class::Ok);
    assert_eq!(BatchCounts::of(&[ok(), rejected()]).class(), Class::Rejected);
    assert_eq!(BatchCounts::of(&[unavailable(), ok(), rejected()]).class(), Class::Unavailable);
}

#[test]
fn a_problem_names_the_first_fault_and_lists_all() {
    let document = |invalid: &Invalid| serde_json::to_string(&invalid.problem()).unwrap();
    assert!(
        document(&invalid(None, &[("", "must be a JSON object")]))
            .contains(r#""detail":"the event must be a JSON object""#)
    );
    let two = document(&invalid(None, &[("/key", "is wrong"), ("/id", "too")]));
    assert!(two.contains(r#""detail":"2 faults, the first: /key is wrong""#), "{two}");
    assert!(
        two.ends_with(r#""errors":[{"pointer":"/key","detail":"is wrong"},{"pointer":"/id","detail":"too"}]}"#),
        "{two}"
    );
}

#[test]
fn an_event_ends_with_its_last_entry_and_is_as_old_as_it_says_but_never_younger_than_nothing() {
    let mut answer = answered(EventType::Set, vec![]);
    assert_eq!((answer.delay(), answer.age()), (Duration::ZERO, None));
    let spent = |total| Spent { total, ..Spent::default() };
    answer.spent = vec![spent(2_000), spent(3_500), spent(1_000)].into();
    assert_eq!(answer.delay(), Duration::from_micros(3_500));
    for (before, age) in [(10, 13_500), (0, 3_500), (-2, 1_500), (-4, 0), (i64::MIN, 0)] {
        answer.age_when_accepted_ms = Some(before);
        assert_eq!(answer.age(), Some(Duration::from_micros(age)));
    }
    answer.age_when_accepted_ms = Some(i64::MAX);
    assert!(answer.age() > Some(Duration::from_secs(1 << 40)));
}

#[test]
fn an_event_failed_for_the_first_entry_that_ended_as_it_did_and_not_for_one_that_was_overtaken() {
    let failed = |kind| Outcome::failed(kind, "");
    let gone = Problem { is_overtaken: true, ..Problem::new(ProblemKind::BlobUnavailable, "") };
    let results = vec![
        ("a", Outcome::Deleted),
        ("b", failed(ProblemKind::BlobDenied)),
        ("c", Outcome::Failed(gone)),
        ("d", failed(ProblemKind::Timeout)),
    ];
    let mut answer = answered(EventType::Set, results);
    let failure = |answer: &Answered| answer.failure().map(|(at, problem)| (at, problem.kind));
    assert_eq!(failure(&answer), Some((2, ProblemKind::BlobUnavailable)));
    answer.supersede_changed_objects();
    assert_eq!(failure(&answer), Some((3, ProblemKind::Timeout)));
    answer.outcomes.truncate(2);
    assert_eq!(failure(&answer), Some((1, ProblemKind::BlobDenied)));
    answer.outcomes.truncate(1);
    assert_eq!(failure(&answer), None);
}
