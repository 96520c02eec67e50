use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text, true).unwrap()
}

#[test]
fn matches_as_redis_does() {
    // pattern, keys that match, keys that do not
    let table: &[(&str, &[&str], &[&str])] = &[
        ("sess:*", &["sess:", "sess:1"], &["sess", "Sess:1", "xsess:1"]),
        ("*", &["", "a", "é"], &[]),
        ("**", &["a"], &[""]),
        ("a**b", &["ab", "axb", "abb"], &["a", "ba"]),
        ("*a*b", &["ab", "xaxb", "aabab"], &["ba", "abx"]),
        ("h?llo", &["hello"], &["hllo", "héllo"]),
        ("h??llo", &["héllo"], &["hello"]),
        ("h[ae]llo", &["hello", "hallo"], &["hillo", "h[ae]llo"]),
        ("h[^e]llo", &["hallo", "h^llo"], &["hello"]),
        ("h[a-c]llo", &["hallo", "hbllo", "hcllo"], &["hdllo", "h-llo"]),
        ("h[c-a]llo", &["hbllo"], &["hdllo"]),
        ("a[]", &[], &["a", "a]", "ab"]),
        ("a[]]", &[], &["a]", "a"]),
        ("a[^]", &["ab", "a]", "a^"], &["a"]),
        ("a[\\]]", &["a]"], &["a\\", "a"]),
        ("a[\\a-c]", &["aa", "a-", "ac"], &["ab", "a\\"]),
        ("a[!-\\]]", &["a5]", "a\\]"], &["a5", "a]]"]),
        ("a[+-]]", &["a+", "a]", "aA"], &["a+]", "a^"]),
        ("a[-x]", &["a-", "ax"], &["ab"]),
        ("a[x\\-]", &["a-", "ax"], &["ab"]),
        ("a[*?[]", &["a*", "a?", "a["], &["ab"]),
        ("a\\*", &["a*"], &["ab", "a\\*"]),
        ("a\\[b", &["a[b"], &["ab"]),
        ("a\\bc", &["abc"], &["a\\bc"]),
        ("a\\", &["a\\"], &["a"]),
        ("a]", &["a]"], &["a"]),
        ("^a-", &["^a-"], &["a"]),
        ("*.jpg*", &["x.jpg", "x.jpg.old"], &["x.jp"]),
    ];
    for (text, matching, others) in table {
        for key in *matching {
            assert!(pattern(text).matches(key.as_bytes()), "{text} should match {key:?}");
        }
        for key in *others {
            assert!(!pattern(text).matches(key.as_bytes()), "{text} should not match {key:?}");
        }
    }
}

#[test]
fn unclosed_classes_are_refused() {
    for text in ["a[", "a[^", "a[b", "a[\\]", "a[\\", "a[b-]", "a[b-", "a[]b[c", "[a]*x["] {
        assert_eq!(Pattern::parse(text, false), Err(PatternError::UnclosedClass), "{text}");
        assert_eq!(Pattern::parse(text, true), Err(PatternError::UnclosedClass), "{text}");
    }
}

#[test]
fn a_pattern_without_a_literal_is_refused_unless_allowed() {
    for text in ["*", "**", "?", "?*", "[a-z]*", "*[^]*", "[a]", "[]"] {
        assert_eq!(Pattern::parse(text, false), Err(PatternError::MatchesAll), "{text}");
        assert!(Pattern::parse(text, true).is_ok(), "{text}");
    }
    for text in ["\\*", "a*", "[a]b", "\\", "*]"] {
        assert!(Pattern::parse(text, false).is_ok(), "{text}");
    }
}

#[test]
fn more_stars_than_redis_follows_match_nothing() {
    let key = "a".repeat(2000);
    assert!(pattern(&"*a".repeat(MAX_STARS)).matches(key.as_bytes()));
    assert!(pattern(&("*a".repeat(MAX_STARS) + "*")).matches(key.as_bytes()));
    assert!(!pattern(&"*a".repeat(MAX_STARS + 1)).matches(key.as_bytes()));
}

#[test]
fn a_hostile_pattern_takes_no_exponential_time() {
    let key = "a".repeat(1024);
    assert!(!pattern(&("a*".repeat(500) + "b")).matches(key.as_bytes()));
}

#[test]
fn overlap_is_denied_only_where_ends_or_lengths_differ() {
    let apart = [
        ("a*", "b*"),
        ("sess:*", "user:*"),
        ("*:a", "*:b"),
        ("ab", "abc"),
        ("ab", "abc*"),
        ("a?c*", "abd*"),
        ("[ab]*", "[c-e]*"),
        ("a[]*", "ab*"),
        ("x?", "x"),
    ];
    let together =
        [("a*", "ab*"), ("*", "x"), ("a*b", "ac*"), ("a?", "?b"), ("[a-c]*", "[c-e]*"), ("a*", "*b"), ("ab*", "a*b")];
    for (one, two) in apart {
        assert!(!pattern(one).may_overlap(&pattern(two)), "{one} {two}");
        assert!(!pattern(two).may_overlap(&pattern(one)), "{two} {one}");
    }
    for (one, two) in together {
        assert!(pattern(one).may_overlap(&pattern(two)), "{one} {two}");
        assert!(pattern(two).may_overlap(&pattern(one)), "{two} {one}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patterns_that_match_one_key_may_overlap(
        one in "[ab*?]{1,5}", two in "[ab*?]{1,5}", keys in prop::collection::vec("[ab]{1,5}", 20),
    ) {
        let (one, two) = (pattern(&one), pattern(&two));
        for key in keys.iter().map(String::as_bytes) {
            if one.matches(key) && two.matches(key) {
                prop_assert!(one.may_overlap(&two), "{one:?} {two:?} {key:?}");
            }
        }
    }
}
