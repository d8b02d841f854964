//! Which addresses belong to the public internet.
//!
//! The lists are the IANA special-purpose registries, from the side of "may an agent's host talk to it because a
//! directory said so": for IPv6 only global unicast passes, and an address that carries an IPv4 one is judged by it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// Reachable by everyone: allowed.
    Public,
    /// This host.
    Loopback,
    /// A private network.
    Private,
    /// The local link; cloud metadata services live here.
    LinkLocal,
    /// Behind a carrier's address translation.
    CarrierNat,
    /// Many receivers.
    Multicast,
    /// No address.
    Unspecified,
    /// For documentation and benchmarks.
    Documentation,
    /// Reserved, translated or otherwise not a plain public address.
    Reserved,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::CarrierNat => "carrier-NAT",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Documentation => "documentation",
            Self::Reserved => "reserved",
        })
    }
}

/// The class of `address`.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        [0, 0, 0, 0] => AddressClass::Unspecified,
        [127, ..] => AddressClass::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressClass::Private,
        [169, 254, ..] => AddressClass::LinkLocal,
        [100, 64..=127, ..] => AddressClass::CarrierNat,
        [224..=239, ..] => AddressClass::Multicast,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18..=19, ..] => AddressClass::Documentation,
        [0, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => AddressClass::Reserved,
        _ => AddressClass::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    let s = address.segments();
    let low = Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        // v4-mapped: a socket to it is an IPv4 socket. A name has no reason to say it this way.
        [0, 0, 0, 0, 0, 0xffff, ..] => not_public(low),
        // NAT64: how hosts with IPv6 only reach IPv4 servers.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => classify_v4(low),
        // 6to4 carries its IPv4 address in front; the rest of 2001::/23 are tunnels and protocol assignments.
        [0x2002, ..] | [0x2001, 0x0000..=0x01ff, ..] => AddressClass::Reserved,
        [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => AddressClass::Documentation,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => AddressClass::Private,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        [0xff00..=0xffff, ..] => AddressClass::Multicast,
        _ => AddressClass::Reserved,
    }
}

fn not_public(address: Ipv4Addr) -> AddressClass {
    match classify_v4(address) {
        AddressClass::Public => AddressClass::Reserved,
        other => other,
    }
}
