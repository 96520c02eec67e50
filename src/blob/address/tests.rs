use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

const UNREACHABLE: &str = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 \
    192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 \
    198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32 168.63.129.16/32 100.100.100.200/32 \
    ::/96 ::/128 ::1/128 ::ffff:10.0.0.0/104 ::ffff:0:0:0/96 64:ff9b::7f00:0/104 64:ff9b:1::/48 100::/64 100:0:0:1::/64 \
    2001::/23 2001::/32 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 \
    2002:7f00::/24 2002:c0a8::/32 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fd00:ec2::254/128 fe80::/10 fec0::/10 \
    ff00::/8 4000::/3";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn no_address_of_a_special_range_is_public_from_its_first_to_its_last() {
    for range in UNREACHABLE.split_whitespace() {
        let net: IpNet = range.parse().unwrap();
        assert!(!is_public(net.network()), "first of {net}");
        assert!(!is_public(net.broadcast()), "last of {net}");
    }
}

#[test]
fn the_neighbours_of_special_ranges_are_public() {
    for address in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.15",
        "8.8.8.8",
        "2001:200::",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ] {
        assert!(is_public(ip(address)), "{address}");
    }
}

#[test]
fn metadata_and_link_local_are_known_in_every_wrapping() {
    for address in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.0.0",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::",
        "fd00:ec2::23",
        "fd00:ec2::123",
        "fd00:ec2::253",
        "fd00:ec2::254",
        "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:100::100:200",
        "fd00:a9fe:a9fe::",
        "fd00:a9fe:a9fe::1",
        "fd00:42::42",
        "fe80::1",
        "febf::1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "::ffff:168.63.129.16",
    ] {
        assert!(is_link_local_or_metadata(ip(address)), "{address}");
        assert!(!is_public(ip(address)), "{address}");
    }
    for address in
        ["10.0.0.1", "127.0.0.1", "::1", "0.0.0.0", "::", "fd00::1", "fd00:ec1::254", "fd00:ec3::254", "8.8.8.8"]
    {
        assert!(!is_link_local_or_metadata(ip(address)), "{address}");
    }
}

proptest! {
    #[test]
    fn wrapping_an_ipv4_never_changes_the_verdict(bits: u32, low: u64) {
        let bare = Ipv4Addr::from_bits(bits);
        let nat64 = Ipv6Addr::from_bits((0x64_ff9b_u128 << 96) | u128::from(bits));
        let six_to_four = Ipv6Addr::from_bits((0x2002_u128 << 112) | (u128::from(bits) << 80) | u128::from(low));
        for wrapped in [bare.to_ipv6_mapped(), nat64, six_to_four] {
            prop_assert_eq!(is_public(bare.into()), is_public(wrapped.into()));
            prop_assert_eq!(is_link_local_or_metadata(bare.into()), is_link_local_or_metadata(wrapped.into()));
        }
    }
}
