use proptest::prelude::*;

use super::segments::MAX_STARS;
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
fn a_hostile_pattern_takes_time_that_is_linear_in_both_lengths() {
    let a = |times: usize| "a".repeat(times);
    let long_class = format!("*[ab]{}b*c", "?a".repeat(200));
    let hostile = [
        "a*".repeat(500) + "b",
        format!("*{}b*", a(900)),
        format!("*{}b", a(900)),
        format!("*{}", "[ab]*".repeat(200) + "b"),
        long_class,
        format!("*{}*b", "?[a]".repeat(8)),
    ];
    for text in &hostile {
        let pattern = pattern(text);
        // With a product of the lengths, half an hour of comparisons each.
        let begun = std::time::Instant::now();
        assert!(!pattern.matches(a(2_000_000).as_bytes()), "{text}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{text} took {:?}", begun.elapsed());
    }
}

#[test]
fn what_a_pattern_holds_in_memory_is_a_bounded_multiple_of_its_text() {
    for text in
        ["a".repeat(1024), "a*".repeat(512), "[a]*".repeat(256), "?a".repeat(512) + "*", "*[]".repeat(340) + "x"]
    {
        let held = pattern(&text).held_bytes();
        assert!(held > text.len() && held < 32 * text.len(), "{held} for {text}");
    }
    let worst = pattern(&format!("*{}", "?aaaaaaaaaaaaaaaa*".repeat(56)));
    assert!(worst.held_bytes() < 150_000, "{}", worst.held_bytes());
}

#[test]
fn overlap_is_denied_only_where_ends_or_lengths_differ() {
    let apart = [
        ("a*", "b*"),
        ("sess:*", "user:*"),
        ("*:a", "*:b"),
        ("ab", "abc"),
        ("ab", "abc*"),
        ("a*x?", "ab"),
        ("x?", "x"),
    ];
    let together = [
        ("a?c*", "abd*"),
        ("[ab]*", "[c-e]*"),
        ("a*", "ab*"),
        ("*", "x"),
        ("a*b", "ac*"),
        ("a?", "?b"),
        ("[a-c]*", "[c-e]*"),
        ("a*", "*b"),
        ("ab*", "a*b"),
    ];
    for (one, two) in apart {
        assert!(!pattern(one).may_overlap(&pattern(two)), "{one} {two}");
        assert!(!pattern(two).may_overlap(&pattern(one)), "{two} {one}");
    }
    for (one, two) in together {
        assert!(pattern(one).may_overlap(&pattern(two)), "{one} {two}");
        assert!(pattern(two).may_overlap(&pattern(one)), "{two} {one}");
    }
}

#[test]
fn redis_is_given_a_part_of_a_pattern_that_is_cheap_to_match() {
    let wider = |texts: &[&str]| {
        let patterns: Vec<Pattern> = texts.iter().map(|text| pattern(text)).collect();
        Wider::of(&patterns).map(|wider| String::from_utf8(wider.glob().to_vec()).unwrap())
    };
    let table: &[(&[&str], Option<&str>)] = &[
        (&["sess:*"], Some("sess:*")),
        (&["sess"], Some("sess")),
        (&["s\\*s"], Some("s\\*s")),
        (&["s?\\[s"], Some("s*\\[s")),
        (&["a*b*c"], Some("a*c")),
        (&["*:name:of:it"], Some("*me:of:it")),
        (&["*[a]*mid*"], Some("*mid*")),
        (&["*[a]*"], None),
        (&["*"], None),
        (&["user:1*", "user:2*x"], Some("user:*")),
        (&["user", "user:*"], Some("user*")),
        (&["a*", "b*"], None),
        (&[], None),
    ];
    for (texts, expected) in table {
        assert_eq!(wider(texts).as_deref(), *expected, "{texts:?}");
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

    #[test]
    fn segments_find_what_going_back_finds(
        text in "([ab*?]|\\[ab\\]|\\[\\^a\\]|a{5,9}|(\\?a){9,40}){1,8}",
        keys in prop::collection::vec("([ab]|a{5,9}|(ba){9,40}){1,8}", 20),
    ) {
        let compiled = pattern(&text);
        for key in &keys {
            prop_assert_eq!(compiled.matches(key.as_bytes()), going_back(text.as_bytes(), key.as_bytes()), "{} {}", text, key);
        }
    }

    #[test]
    fn what_is_given_to_redis_matches_all_that_the_patterns_match(
        texts in prop::collection::vec(r"([ab*?]|\[ab\]|\\\*){1,7}", 1..3),
        keys in prop::collection::vec("[ab*\\\\]{1,8}", 20),
    ) {
        let patterns: Vec<Pattern> = texts.iter().map(|text| pattern(text)).collect();
        if let Some(wider) = Wider::of(&patterns) {
            let glob = pattern(std::str::from_utf8(wider.glob()).unwrap());
            for key in keys.iter().map(String::as_bytes) {
                let is_matched = patterns.iter().any(|pattern| pattern.matches(key));
                prop_assert!(!is_matched || glob.matches(key) && key.starts_with(wider.prefix()), "{:?} {:?}", glob, key);
            }
        }
    }

    #[test]
    fn an_index_finds_the_patterns_that_match(
        texts in prop::collection::vec("[ab]{0,10}[ab*?]{1,4}", 1..20), keys in prop::collection::vec("[abc]{1,12}", 20),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 5),
    ) {
        let mut index = PatternIndex::default();
        let mut patterns: Vec<Option<Pattern>> = texts.iter().map(|text| Some(pattern(text))).collect();
        for (number, pattern) in patterns.iter().flatten().enumerate() {
            index.insert(number, pattern);
        }
        for number in gone {
            let number = number.index(patterns.len());
            if let Some(pattern) = patterns[number].take() {
                index.remove(number, &[pattern]);
            }
        }
        let mut found = Vec::new();
        for key in keys.iter().map(String::as_bytes) {
            let matches = |pattern: &Option<Pattern>| pattern.as_ref().is_some_and(|pattern| pattern.matches(key));
            let expected: Vec<usize> = (0..patterns.len()).filter(|number| matches(&patterns[*number])).collect();
            index.all(key, &mut found);
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(index.greatest(key), expected.last().copied());
        }
    }
}

/// The plain way: at a star, try all that it could take. For patterns without escapes.
fn going_back(pattern: &[u8], key: &[u8]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => going_back(rest, key) || !key.is_empty() && going_back(pattern, &key[1..]),
        ([b'[', b'^', not, b']', rest @ ..], [byte, key @ ..]) => byte != not && going_back(rest, key),
        ([b'[', class @ ..], [byte, key @ ..]) => {
            let end = class.iter().position(|byte| *byte == b']').unwrap_or_default();
            class[..end].contains(byte) && going_back(&class[end + 1..], key)
        }
        ([b'?', rest @ ..], [_, key @ ..]) => going_back(rest, key),
        ([one, rest @ ..], [two, key @ ..]) => one == two && going_back(rest, key),
        _ => false,
    }
}

#[test]
fn an_escaped_text_matches_itself_alone() {
    for text in ["plain", "a*b", "[x]", "a?", "back\\slash", "é*", "]-^"] {
        let pattern = Pattern::parse(escaped(text), false).unwrap();
        assert!(pattern.matches(text.as_bytes()), "{text}");
        assert!(!pattern.matches(format!("{text}x").as_bytes()) && !pattern.matches(b"axb"), "{text}");
    }
}
