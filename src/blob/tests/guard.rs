//! Which URLs the guard lets through.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use url::Host;

use super::*;
use crate::event::BlobUrl;

fn hosts(text: &str) -> AllowedHosts {
    text.parse().unwrap()
}

/// What becomes of a URL whose host resolves to `resolved`, or is an address itself.
fn may_call(allowed: &AllowedHosts, url: &str, resolved: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host().unwrap();
    let ip = match host {
        Host::Domain(_) => resolved.parse().unwrap(),
        Host::Ipv4(ip) => ip.into(),
        Host::Ipv6(ip) => ip.into(),
    };
    allowed.judge(&url).is_ok_and(|judged| AllowedHosts::judge_address(judged, &host, ip).is_ok())
}

/// The table is written by hand from the ranges and rules, not from the code.
#[test]
fn every_url_of_the_table_gets_its_verdict() {
    let table = include_str!("urls.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in table {
        let mut columns = line.split_whitespace();
        let mut next = || columns.next().unwrap_or_else(|| panic!("{line}"));
        let (verdict, list, url, resolved) = (next(), next(), next(), next());
        let allowed = match list {
            "-" => AllowedHosts::default(),
            "L1" => hosts("blobs.example, *.cdn.example, minio:9000, 10.0.0.5"),
            "L2" => hosts("169.254.169.254, [fe80::1]"),
            _ => panic!("{line}"),
        };
        // As an event brings it: what the URL shows by itself is judged by validation, the rest here.
        let called = BlobUrl::parse(url).is_some_and(|url| may_call(&allowed, url.expose().as_str(), resolved));
        if called != (verdict == "yes") {
            wrong.push(line);
        }
        rows += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows >= 300, "{rows} rows");
}

#[test]
fn without_a_list_only_public_addresses_on_the_usual_ports_may_be_called() {
    let any = AllowedHosts::default();
    for url in ["http://a.example/", "https://a.example/", "http://a.example:443/", "https://a.example:80/x"] {
        assert!(may_call(&any, url, "93.184.216.34"), "{url}");
        assert!(!may_call(&any, url, "10.0.0.1"), "{url}");
    }
    for url in ["http://a.example:8080/", "https://a.example:6379/", "http://8.8.8.8:22/", "http://a.example:0/"] {
        assert!(!may_call(&any, url, "93.184.216.34"), "{url}");
    }
    assert!(may_call(&any, "http://8.8.8.8/", ""));
    assert!(may_call(&any, "http://[2606:4700::1111]/", ""));
}

#[test]
fn odd_spellings_of_a_private_address_are_seen_through() {
    let any = AllowedHosts::default();
    for url in [
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://0/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::10.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://１２７.０.０.１/",
        "http://127。0。0。1/",
        "http://%31%32%37.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "http://169.254.169.254/",
        "http://[fd00:ec2::254]/",
        "http://168.63.129.16/",
        "http://100.100.100.200/",
        "http://0xa9fea9fe/",
        "http://①②⑦.0.0.1/",
        "http://user@8.8.8.8/",
        "http://u:p@8.8.8.8/",
        "ftp://8.8.8.8/",
    ] {
        assert!(!may_call(&any, url, "127.0.0.1"), "{url}");
    }
}

#[test]
fn a_listed_host_may_be_called_on_its_ports_and_no_other_may() {
    let list = hosts("files.example, data.example:9000, *.cdn.example, 10.0.0.5, [::1]:9000");
    for url in [
        "http://files.example/",
        "http://files.example:1234/",
        "http://FILES.Example./",
        "http://data.example:9000/",
        "http://a.cdn.example/",
        "http://b.a.cdn.example:81/",
        "http://10.0.0.5:8000/",
        "http://0xa.5/",
        "http://[0:0::1]:9000/",
    ] {
        assert!(may_call(&list, url, "10.0.0.9"), "{url}");
    }
    for url in [
        "http://other.example/",
        "http://data.example/",
        "http://cdn.example/",
        "http://.cdn.example/",
        "http://evilcdn.example/",
        "http://files.example.evil/",
        "http://xfiles.example/",
        "http://[::1]/",
        "http://10.0.0.6/",
        "http://[::ffff:10.0.0.5]/",
        "http://8.8.8.8/",
    ] {
        assert!(!may_call(&list, url, "93.184.216.34"), "{url}");
    }
}

#[test]
fn entries_are_compared_as_urls_are_parsed() {
    for (entry, url) in [
        ("MÜNCHEN.example", "http://xn--mnchen-3ya.example/"),
        ("xn--mnchen-3ya.example.", "http://münchen.EXAMPLE/"),
        ("0x7f.1", "http://127.0.0.1/"),
        ("127.0.0.1:80", "http://2130706433/"),
        ("[0:0:0:0:0:0:0:1]", "http://[::1]:5/"),
        ("*.S3.example.", "http://bucket.s3.example./"),
    ] {
        assert!(may_call(&hosts(entry), url, "10.0.0.1"), "{entry} {url}");
    }
}

#[test]
fn metadata_and_link_local_need_the_very_literal() {
    let named = hosts("files.example, *.cdn.example");
    for address in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "168.63.129.16", "100.100.100.200"] {
        assert!(!may_call(&named, "http://files.example/", address), "{address}");
        assert!(!may_call(&named, "http://a.cdn.example/", address), "{address}");
    }
    for address in ["10.0.0.1", "127.0.0.1", "0.0.0.0", "::", "8.8.8.8", "fd00::1"] {
        assert!(may_call(&named, "http://files.example/", address), "{address}");
    }
    let literal = hosts("169.254.169.254, [fe80::1], files.example");
    assert!(may_call(&literal, "http://169.254.169.254/", ""));
    assert!(may_call(&literal, "http://[fe80::1]/", ""));
    assert!(!may_call(&literal, "http://files.example/", "169.254.169.254"));
    assert!(!may_call(&literal, "http://[::ffff:169.254.169.254]/", ""));
}

#[test]
fn a_bad_element_is_named() {
    for bad in [
        "http://a.example",
        "a.example/",
        "a.example:",
        "a.example:0",
        "a.example:65536",
        "a.example:+80",
        "::1",
        "[::1",
        "[::1]x",
        "[::1]:x",
        "*",
        "*.",
        "*.*.example",
        "a.example..",
        "0..",
        "a.*.example",
        "*.10.0.0.1",
        "user@a.example",
        "a b.example",
        ".",
        "a.example:80:81",
        "a%2eexample",
        "1.2.3.4.5",
        "*.[::1]",
    ] {
        let error = format!("ok.example,{bad}").parse::<AllowedHosts>().unwrap_err();
        assert!(error.contains(&format!("`{bad}`")), "{bad}: {error}");
    }
    assert!("a.example,,b.example".parse::<AllowedHosts>().is_err());
    assert!(",".parse::<AllowedHosts>().is_err());
    assert_eq!(hosts("  "), AllowedHosts::default());
}

#[test]
fn what_is_displayed_parses_to_the_same() {
    let list = hosts("A.example:80, *.b.example:81 ,*.C.example,[::1]:9000,[fe80::1],0x7f.1,10.0.0.1:5");
    assert_eq!(list.to_string(), "a.example:80,*.b.example:81,*.c.example,[::1]:9000,[fe80::1],127.0.0.1,10.0.0.1:5");
    assert_eq!(hosts(&list.to_string()), list);
}

fn spelt(part: u32, form: u8) -> String {
    match form % 4 {
        0 => format!("{part}"),
        1 => format!("0{part:o}"),
        2 => format!("0x{part:x}"),
        _ => format!("0X{part:X}"),
    }
}

proptest! {
    #[test]
    fn no_spelling_of_a_loopback_or_private_address_gets_through(
        net in prop::sample::select(vec![(0x7f00_0000_u32, 24), (0x0a00_0000, 24), (0xc0a8_0000, 16), (0xa9fe_0000, 16)]),
        low: u32, parts in 1_u32..=4, forms: [u8; 4], dot: bool,
    ) {
        let bits = net.0 | (low & ((1 << net.1) - 1));
        let mut text = String::new();
        for index in 0..parts - 1 {
            text += &spelt((bits >> (24 - 8 * index)) & 0xff, forms[index as usize]);
            text.push('.');
        }
        let rest = if parts == 1 { bits } else { bits & (u32::MAX >> (8 * (parts - 1))) };
        text += &spelt(rest, forms[3]);
        if dot { text.push('.'); }

        let url = Url::parse(&format!("http://{text}/")).unwrap();
        prop_assert_eq!(url.host(), Some(Host::Ipv4(Ipv4Addr::from_bits(bits))));
        prop_assert!(!may_call(&AllowedHosts::default(), url.as_str(), ""));
    }

    #[test]
    fn nothing_panics_and_what_parses_round_trips(text in "[a-z0-9*.:,\\[\\]@%/ -]{0,40}") {
        if let Ok(list) = text.parse::<AllowedHosts>() {
            prop_assert_eq!(&hosts(&list.to_string()), &list);
        }
    }
}
