use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn follow(traceparent: &str) -> Option<Trace> {
    Trace::follow(traceparent.as_bytes(), NonZeroU64::new(0xb7ad_6b71_6920_3331).unwrap())
}

fn states(headers: &[&[u8]]) -> String {
    let trace = follow(&format!("00-{TRACE}-{CALLER}-01")).unwrap();
    trace.with_state(headers.iter().copied()).tracestate().to_owned()
}

#[test]
fn a_valid_traceparent_is_followed_with_a_span_of_our_own() {
    let trace = follow(&format!("00-{TRACE}-{CALLER}-01")).unwrap();
    assert_eq!((trace.trace_id(), trace.parent_span_id()), (TRACE, CALLER));
    assert_eq!((trace.span_id(), trace.flags()), ("b7ad6b7169203331", "01"));
    assert_eq!(trace.traceparent(), format!("00-{TRACE}-b7ad6b7169203331-01"));
    let small = Trace::follow(trace.traceparent().as_bytes(), NonZeroU64::MIN).unwrap();
    assert_eq!((small.span_id(), small.parent_span_id()), ("0000000000000001", "b7ad6b7169203331"));
}

/// The cases of the specification's own test suite, and those that its text names.
#[test]
fn what_is_not_valid_is_as_good_as_absent() {
    let zeros = "0".repeat(32);
    for wrong in [
        String::new(),
        "00".into(),
        TRACE.into(),
        format!("00-{TRACE}-{CALLER}"),
        format!("00-{TRACE}-{CALLER}-"),
        format!("00-{TRACE}-{CALLER}-1"),
        format!("00-{TRACE}-{CALLER}-011"),
        format!("00-{TRACE}-{CALLER}-01-"),
        format!("00-{TRACE}-{CALLER}-01.what-the-future-will-be-like"),
        format!("00-{TRACE}-{CALLER}-01-what-the-future-will-be-like"),
        format!("ff-{TRACE}-{CALLER}-01"),
        format!("ff-{TRACE}-{CALLER}-01-more"),
        format!("FF-{TRACE}-{CALLER}-01"),
        format!("0-{TRACE}-{CALLER}-01"),
        format!("000-{TRACE}-{CALLER}-01"),
        format!(".0-{TRACE}-{CALLER}-01"),
        format!("0.-{TRACE}-{CALLER}-01"),
        format!("0G-{TRACE}-{CALLER}-01"),
        format!("CC-{TRACE}-{CALLER}-01"),
        format!("00-{zeros}-{CALLER}-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{}-{CALLER}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{}-01", CALLER.to_uppercase()),
        format!("00-.bf92f3577b34da6a3ce929d0e0e4736-{CALLER}-01"),
        format!("00-{TRACE}-.0f067aa0ba902b7-01"),
        format!("00-{TRACE}1-{CALLER}-01"),
        format!("00-{}-{CALLER}-01", &TRACE[1..]),
        format!("00-{TRACE}-{CALLER}1-01"),
        format!("00-{TRACE}-{}-01", &CALLER[1..]),
        format!("00-{TRACE}-{CALLER}-.0"),
        format!("00-{TRACE}-{CALLER}-0."),
        format!("00-{TRACE}-{CALLER}-0A"),
        format!("00_{TRACE}-{CALLER}-01"),
        format!("00-{TRACE}_{CALLER}-01"),
        format!("00-{TRACE}-{CALLER}_01"),
        format!("01-{TRACE}-{CALLER}"),
        format!("cc-{TRACE}-{CALLER}-01.what-the-future-will-be-like"),
        format!("cc-{TRACE}-{CALLER}-011"),
        format!("00-{TRACE}-{CALLER}-é1"),
    ] {
        assert_eq!(follow(&wrong), None, "{wrong}");
    }
    assert_eq!(Trace::follow(&[0xff; 55], NonZeroU64::MIN), None);
}

#[test]
fn a_version_to_come_is_read_by_its_first_four_parts_and_goes_on_as_the_one_we_know() {
    for later in ["", "-", "-what-the-future-will-be-like", "-4bf92f35"] {
        let trace = follow(&format!("cc-{TRACE}-{CALLER}-01{later}")).unwrap();
        assert_eq!(trace.traceparent(), format!("00-{TRACE}-b7ad6b7169203331-01"), "{later}");
    }
}

#[test]
fn flags_without_a_meaning_are_not_passed_on() {
    for (given, onward) in [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")] {
        assert_eq!(follow(&format!("00-{TRACE}-{CALLER}-{given}")).unwrap().flags(), onward, "{given}");
    }
}

#[test]
fn white_space_around_the_value_is_none_of_it() {
    assert_eq!(follow(&format!(" \t00-{TRACE}-{CALLER}-01\t ")), follow(&format!("00-{TRACE}-{CALLER}-01")));
}

#[test]
fn a_tracestate_goes_on_as_it_came_and_several_as_one() {
    assert_eq!(states(&[]), "");
    assert_eq!(states(&[b""]), "");
    assert_eq!(states(&[b"foo=1 \t , \t bar=2"]), "foo=1 \t , \t bar=2");
    assert_eq!(states(&[b"foo=1", b"", b"bar=2,rojo=00f067aa0ba902b7"]), "foo=1,bar=2,rojo=00f067aa0ba902b7");
    let longest = "x".repeat(512);
    assert_eq!(states(&[longest.as_bytes()]), longest);
}

#[test]
fn a_tracestate_beyond_all_bounds_or_that_nobody_could_read_is_dropped() {
    let (half, long) = ("x".repeat(256), "x".repeat(513));
    for wrong in [&[long.as_bytes()][..], &[half.as_bytes(), half.as_bytes()], &[b"a=1", b"b=\xff"], &[b"a=\x7f"]] {
        assert_eq!(states(wrong), "");
    }
}
