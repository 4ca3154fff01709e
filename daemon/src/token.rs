//! Tokens: what a client sends to prove who it is.
//!
//! Owns their form, `<id>.<secret>`, and that a secret is never shown by accident. The id is 16 and the secret 64
//! lower-case hex digits; the cluster keeps the SHA-256 of the secret, which needs no slow hash, since it has 256 random
//! bits. Whose a token is, the state knows.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tenure_state::TokenId;

const ID_DIGITS: usize = 16;
const SECRET_BYTES: usize = 32;
/// What a token looks like, for sentences that say what is accepted.
pub const TOKEN_FORM: &str =
    "a token: 16 lower-case hex digits, a dot and 64 lower-case hex digits";

/// The secret half of a token.
#[derive(Clone)]
struct Secret([u8; SECRET_BYTES]);

/// A token with its secret. It is shown in one way only, by [`Token::reveal`].
#[derive(Clone)]
pub struct Token {
    id: TokenId,
    secret: Secret,
}

/// Not a token. What was given instead may be one with a slip, so it is not kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is not {TOKEN_FORM}")]
pub struct NoToken;

impl Token {
    /// A new one.
    ///
    /// # Errors
    ///
    /// Where the system has no random numbers.
    pub fn draw() -> Result<Token, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Token {
            id: TokenId(getrandom::u64()?),
            secret: Secret(secret),
        })
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn parse(text: &[u8]) -> Result<Token, NoToken> {
        let (id, rest) = text.split_at_checked(ID_DIGITS).ok_or(NoToken)?;
        let secret = rest.strip_prefix(b".").ok_or(NoToken)?;
        let mut bytes = [0; SECRET_BYTES];
        let id = u64::from_be_bytes(hex(id).ok_or(NoToken)?);
        bytes.copy_from_slice(&hex::<SECRET_BYTES>(secret).ok_or(NoToken)?);
        Ok(Token {
            id: TokenId(id),
            secret: Secret(bytes),
        })
    }

    /// Its id, which is no secret.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What is kept of its secret.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.0).into()
    }

    /// Whether this is the hash of its secret. It takes the same time whichever bytes differ.
    pub fn has_hash(&self, hash: &[u8; 32]) -> bool {
        self.hash().ct_eq(hash).into()
    }

    /// All of it, for the one who is to have it.
    pub fn reveal(&self) -> String {
        let mut text = format!("{}.", self.id);
        for byte in self.secret.0 {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

impl fmt::Debug for Token {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

/// So many bytes in lower-case hex digits, and nothing else.
pub(crate) fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "00000000000000a1.000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

    #[test]
    fn a_token_is_read_as_it_is_written_and_its_debug_has_no_secret() {
        let token = Token::parse(TEXT.as_bytes()).expect("a token");
        assert_eq!((token.id(), token.reveal()), (TokenId(0xa1), TEXT.into()));
        assert_eq!(format!("{token:?}"), "Token(00000000000000a1)");
        let drawn = Token::draw().expect("there are random numbers");
        let read = Token::parse(drawn.reveal().as_bytes()).expect("a token");
        assert_eq!((read.id(), read.hash()), (drawn.id(), drawn.hash()));
    }

    #[test]
    fn only_the_hash_of_its_own_secret_is_its_hash() {
        let token = Token::parse(TEXT.as_bytes()).expect("a token");
        assert!(token.has_hash(&token.hash()));
        for byte in 0..32 {
            let mut other = token.hash();
            other[byte] ^= 1;
            assert!(!token.has_hash(&other), "{byte}");
        }
        assert!(!token.has_hash(&[0; 32]));
    }

    #[test]
    fn what_is_nearly_a_token_is_none() {
        let nearly = [
            "",
            ".",
            "00000000000000a1",
            "00000000000000a1.",
            &TEXT[..TEXT.len() - 1],
            &format!("{TEXT}0"),
            &format!("{TEXT}\n"),
            &TEXT.replace('.', ":"),
            &TEXT.to_uppercase(),
            &TEXT.replace("ff", "fg"),
            &format!("0{TEXT}"),
        ];
        for text in nearly {
            assert_eq!(Token::parse(text.as_bytes()).err(), Some(NoToken), "{text}");
        }
        assert!(!NoToken.to_string().contains("a1"));
    }
}
