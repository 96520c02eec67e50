//! Which IP addresses are public. Owns the tables; what an operator may allow beside them is [`super::guard`]'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The IANA special-purpose registry for IPv4, multicast, and a cloud's metadata address inside a public range.
const SPECIAL_V4: [Ipv4Net; 20] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([168, 63, 129, 16], 32),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 31, 196, 0], 24),
    v4([192, 52, 193, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([192, 175, 48, 0], 24),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
    v4([255, 255, 255, 255], 32),
];

/// All of IPv6 that is handed out for general use: what lies outside is special, multicast or not assigned.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// The special-purpose ranges inside [`GLOBAL_V6`]. 6to4 is not among them: it is judged as its IPv4.
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const COMPATIBLE: Ipv6Net = v6([0, 0, 0, 0, 0, 0, 0, 0], 96);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const LOCAL_NAT64: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

const LINK_LOCAL_V4: Ipv4Net = v4([169, 254, 0, 0], 16);
const LINK_LOCAL_V6: Ipv6Net = v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10);

/// Where clouds serve credentials outside the link-local ranges: Azure, Alibaba, Oracle.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

/// The same over IPv6. AWS serves instances, pods, DNS and time in one range. The others are single addresses: Google,
/// Oracle, Alibaba, Akamai (Linode), Scaleway. Azure has none of its own: its address is in [`METADATA_V4`].
const METADATA_V6: [Ipv6Net; 6] = [
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
    v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128),
    v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0], 48),
    v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
];

/// Whether the address lies in no special-purpose range. Mapped, 6to4 and NAT64 addresses are judged as the IPv4
/// inside; IPv4-compatible ones are never public, since nothing on the internet has one.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) if MAPPED.contains(&ip) || NAT64.contains(&ip) => is_public_v4(last_32_bits(ip)),
        IpAddr::V6(ip) if SIX_TO_FOUR.contains(&ip) => is_public_v4(after_16_bits(ip)),
        IpAddr::V6(ip) => GLOBAL_V6.contains(&ip) && !SPECIAL_V6.iter().any(|net| net.contains(&ip)),
    }
}

/// Whether the address is link-local or one where a cloud serves its metadata, however it is wrapped in IPv6.
pub fn is_link_local_or_metadata(ip: IpAddr) -> bool {
    let carried = match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(ip) => carried_v4(ip),
    };
    if carried.is_some_and(|v4| LINK_LOCAL_V4.contains(&v4) || METADATA_V4.contains(&v4)) {
        return true;
    }
    matches!(ip, IpAddr::V6(ip) if LINK_LOCAL_V6.contains(&ip) || METADATA_V6.iter().any(|net| net.contains(&ip)))
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|net| net.contains(&ip))
}

/// The IPv4 address that a packet to this one may end up at.
fn carried_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    if [MAPPED, COMPATIBLE, NAT64, LOCAL_NAT64].iter().any(|net| net.contains(&ip)) {
        return Some(last_32_bits(ip));
    }
    SIX_TO_FOUR.contains(&ip).then(|| after_16_bits(ip))
}

fn last_32_bits(ip: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, b, c, d)
}

fn after_16_bits(ip: Ipv6Addr) -> Ipv4Addr {
    let [_, _, a, b, c, d, ..] = ip.octets();
    Ipv4Addr::new(a, b, c, d)
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

#[cfg(test)]
mod tests;
