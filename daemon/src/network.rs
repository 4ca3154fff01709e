//! From where a connection comes, as far as anybody can tell: what is shared out is shared by this.

use std::net::IpAddr;

/// An IPv4 address, or the 64 bits of an IPv6 address by which its network is known: who has one address of it has all of
/// them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Network {
    V4(u32),
    V6(u64),
}

impl Network {
    /// That of an address. One of IPv4 that is written as IPv6 is the former.
    pub(crate) fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network::V4(address.to_bits()),
            IpAddr::V6(address) => Network::V6((address.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_one_address_of_ipv6_has_many_and_of_ipv4_one() {
        let of = |address: &str| Network::of(address.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
    }
}
