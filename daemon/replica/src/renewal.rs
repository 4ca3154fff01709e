//! Renewals on their way to the leader.
//!
//! Owns their bytes: thousands of them travel together, so that each is as short as can be. Who asks comes last and is left
//! out where it is nobody in particular, as members of before there was access control write it.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tenure_state::{LeaseId, Principal, TokenId};

/// No renewal waits longer than this for company (`design.md`, Time).
const MOST_COMPANY_MS: u64 = 250;

/// A forwarded renewal: the lease, how many milliseconds it may wait for company, and of whom it is, which nobody in
/// particular leaves out: whether there is a token (1 byte), the token (8) and the name of the identity.
pub(crate) fn encode_renewal(lease: LeaseId, company: Duration, principal: &Principal) -> Bytes {
    let mut bytes = BytesMut::with_capacity(19 + principal.name().len());
    bytes.put_u64(lease.number());
    bytes.put_u16(u16::try_from(company.as_millis()).unwrap_or(u16::MAX));
    if let Some(identity) = principal.identity() {
        bytes.put_u8(u8::from(principal.token().is_some()));
        bytes.put_u64(principal.token().map_or(0, |token| token.0));
        bytes.put_slice(identity.as_bytes());
    }
    bytes.freeze()
}

pub(crate) fn decode_renewal(bytes: &[u8]) -> Option<(LeaseId, Duration, Principal)> {
    let (lease, rest) = bytes.split_first_chunk::<8>()?;
    let (company, of_whom) = rest.split_first_chunk::<2>()?;
    let lease = LeaseId::new(u64::from_be_bytes(*lease))?;
    let company_ms = u64::from(u16::from_be_bytes(*company)).min(MOST_COMPANY_MS);
    let principal = decode_principal(of_whom)?;
    Some((lease, Duration::from_millis(company_ms), principal))
}

fn decode_principal(bytes: &[u8]) -> Option<Principal> {
    let Some((has_token, rest)) = bytes.split_first() else {
        return Some(Principal::anonymous());
    };
    let (token, identity) = rest.split_first_chunk::<8>()?;
    let token = match has_token {
        0 => None,
        1 => Some(TokenId(u64::from_be_bytes(*token))),
        _ => return None,
    };
    let identity = std::str::from_utf8(identity).ok()?;
    Some(Principal::of(identity, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> LeaseId {
        LeaseId::new(0x1234).expect("it is positive")
    }

    #[test]
    fn a_renewal_is_read_as_it_is_written_with_who_asks() {
        let token = Some(TokenId(u64::MAX));
        let principals = [
            Principal::anonymous(),
            Principal::of("ci", None),
            Principal::of("ci", token),
            Principal::of("", token),
            Principal::of(&"ü".repeat(64), token),
        ];
        for principal in principals {
            let bytes = encode_renewal(lease(), Duration::from_millis(77), &principal);
            let read = decode_renewal(&bytes);
            assert_eq!(read, Some((lease(), Duration::from_millis(77), principal)));
        }
    }

    #[test]
    fn a_renewal_of_before_is_one_of_nobody_in_particular() {
        let before = b"\0\0\0\0\0\0\x12\x34\0\x4d";
        let company = Duration::from_millis(77);
        let nobody = Principal::anonymous();
        assert_eq!(&encode_renewal(lease(), company, &nobody)[..], before);
        assert_eq!(decode_renewal(before), Some((lease(), company, nobody)));
    }

    #[test]
    fn what_is_cut_off_or_says_nothing_is_no_renewal() {
        let principal = Principal::of("ci", Some(TokenId(7)));
        let whole = encode_renewal(lease(), Duration::ZERO, &principal);
        for length in (0..whole.len() - 2).filter(|length| *length != 10) {
            assert_eq!(decode_renewal(&whole[..length]), None, "{length} bytes");
        }
        let mut other = whole.to_vec();
        other[10] = 2;
        assert_eq!(
            decode_renewal(&other),
            None,
            "neither with a token nor without"
        );
        let text = [&whole[..19], b"\xff"].concat();
        assert_eq!(decode_renewal(&text), None, "no text");
        let late = encode_renewal(lease(), Duration::from_secs(60), &principal);
        let (_, company, _) = decode_renewal(&late).expect("a renewal");
        assert_eq!(company, Duration::from_millis(MOST_COMPANY_MS));
    }
}
