use super::*;

fn refused(text: &str) -> UrlError {
    parse(text).expect_err(text)
}

#[test]
fn http_and_https_are_parsed_as_whatwg_does() {
    for (text, parsed) in [
        ("http://h/a", "http://h/a"),
        ("HTTPS://Example.COM:443/A?q=1", "https://example.com/A?q=1"),
        ("http://127.1:8080", "http://127.0.0.1:8080/"),
        ("http://[::1]/a", "http://[::1]/a"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://h/a@b", "http://h/a@b"),
        ("http://h?u=a@b", "http://h/?u=a@b"),
    ] {
        assert_eq!(parse(text).unwrap().expose().as_str(), parsed);
    }
}

#[test]
fn other_schemes_and_relative_urls_are_refused() {
    for text in
        ["", "a", "/a", "//h/a", "ftp://h/a", "file:///etc/passwd", "httpx://h", "http:h/a", "http:/h", "data:,a"]
    {
        assert_eq!(refused(text), UrlError::NotHttp, "{text}");
    }
}

#[test]
fn urls_without_a_usable_host_are_refused() {
    for text in [
        "http://",
        "http:///a",
        "http://:80/",
        "http://h:65536/",
        "http://h:x/",
        "http://a b/",
        "http://[::1/",
        "http://%00/",
    ] {
        assert_eq!(refused(text), UrlError::Unparsable, "{text}");
    }
}

#[test]
fn userinfo_is_refused_even_if_empty() {
    for text in ["http://u@h/", "http://u:p@h/", "http://@h/", "http://:@h/", "http://:p@h/", "https://a@b@h/"] {
        assert_eq!(refused(text), UrlError::Userinfo, "{text}");
    }
}

#[test]
fn what_the_parser_would_strip_or_turn_is_refused() {
    for text in [
        " http://h/",
        "http://h/ ",
        "http://h/a\r\nX: y",
        "ht\ttp://h/",
        "http://h\\@evil/",
        "http://h/\u{7f}",
        "http:\\\\h",
    ] {
        assert_eq!(refused(text), UrlError::Forgiven, "{text}");
    }
}

#[test]
fn path_and_query_are_sent_as_they_were_written() {
    for (text, target) in [
        ("http://h", "/"),
        ("http://h?a=1", "/?a=1"),
        ("http://h/a?", "/a?"),
        ("http://h//a//b", "//a//b"),
        ("http://h/a%2Fb%2e%C3%A9/%2525", "/a%2Fb%2e%C3%A9/%2525"),
        ("http://h/a%23b.json", "/a%23b.json"),
        ("http://h/A.B/..c/d../...?x=..", "/A.B/..c/d../...?x=.."),
        ("http://h/~!$&'()*+,;=:@-._|[]?~!$&'()*+,;=:@/?[]{}|`^", "/~!$&'()*+,;=:@-._|[]?~!$&'()*+,;=:@/?[]{}|`^"),
        ("https://h:443/a?name='x'&y=%27", "/a?name='x'&y=%27"),
        ("http://h?it's", "/?it's"),
        ("http://h/%", "/%"),
    ] {
        assert_eq!(parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).target(), target, "{text}");
    }
}

#[test]
fn a_fragment_is_refused_even_if_empty() {
    for text in ["http://h/a#b.json", "http://h/a#", "http://h#", "http://h/a?b#c", "http://h/a?'#"] {
        assert_eq!(refused(text), UrlError::Fragment, "{text}");
    }
}

#[test]
fn what_the_parser_would_mend_in_path_and_query_is_refused() {
    for text in [
        "http://h/a b",
        "http://h/é",
        "http://h/a?b=é",
        "http://h/a?b c",
        "http://h/a/../b",
        "http://h/a/./b",
        "http://h/..",
        "http://h/a/.",
        "http://h/a/%2e%2E/b",
        "http://h/a/.%2e/b",
        "http://h/%2e/b",
        "http://h/\"a\"",
        "http://h/<a>",
        "http://h/{a}",
        "http://h/a`b",
        "http://h/a?\"b\"",
        "http://h/a?<b>",
        "http://h/a/..?it's",
        "http://h/a?it's é",
    ] {
        assert_eq!(refused(text), UrlError::Mended, "{text}");
    }
}

#[test]
fn the_length_is_bounded() {
    let of_length = |length: usize| format!("http://h/{}", "a".repeat(length - 9));
    assert!(parse(&of_length(MAX_URL_BYTES)).is_ok());
    assert_eq!(refused(&of_length(MAX_URL_BYTES + 1)), UrlError::TooLong);
}

#[test]
fn the_path_is_decoded_without_its_first_slash() {
    for (text, path) in [
        ("http://h", Some("")),
        ("http://h/a/b.jpg?x=1", Some("a/b.jpg")),
        ("http://h/a%23b.json?it's", Some("a#b.json")),
        ("http://h//a", Some("/a")),
        ("http://h/a%2Fb%20c", Some("a/b c")),
        ("http://h/%C3%A9", Some("é")),
        ("http://h/a%2F..%2Fb", Some("a/../b")),
        ("http://h/%", Some("%")),
        ("http://h/%ff", None),
    ] {
        assert_eq!(decoded_path(&parse(text).unwrap()).as_deref(), path, "{text}");
    }
}

#[test]
fn a_shown_url_has_no_query() {
    let url = parse("https://h:8443/a?sig=secret").unwrap();
    assert_eq!(url.to_string(), "https://h:8443/a");
    assert_eq!(format!("{url:?}"), "https://h:8443/a");
}
