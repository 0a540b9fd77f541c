//! Shared tokens: whoever shows one may use a relay that knows its hash.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use ring::digest;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::identity::encoding;

/// Random bytes in a token: 160 bits, which no guessing finds, and 32 characters without a second spelling.
pub const TOKEN_LEN: usize = 20;
/// In front of a token, so that nobody takes it for an ID, and scanners of repositories find it.
const TOKEN_PREFIX: &str = "direc-token-";
/// In front of a hash.
const HASH_PREFIX: &str = "sha256-";
/// Bytes of SHA-256.
const HASH_LEN: usize = 32;

/// A secret that a relay's operator gives to those who may use it.
///
/// Printed by [`AccessToken::reveal`] only, as `direc-token-` and 32 characters of lower-case base32; parsed strictly from
/// the same. It travels inside the control connection, after TLS, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessToken(serde_bytes::ByteArray<TOKEN_LEN>);

impl AccessToken {
    /// The token made of these bytes, which have to be random.
    pub fn from_random(bytes: [u8; TOKEN_LEN]) -> Self {
        Self(bytes.into())
    }

    /// What a relay keeps of it.
    pub fn hash(&self) -> TokenHash {
        let mut hash = [0; HASH_LEN];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &self.0[..]).as_ref());
        TokenHash(hash)
    }

    /// The token itself, for the one who is to have it.
    pub fn reveal(&self) -> String {
        format!("{TOKEN_PREFIX}{}", encoding().encode(&self.0[..]))
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

impl FromStr for AccessToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let word = text.strip_prefix(TOKEN_PREFIX).ok_or(TokenError::Token)?;
        let bytes = encoding().decode(word.as_bytes()).map_err(|_| TokenError::Token)?;
        bytes.try_into().map(Self::from_random).map_err(|_| TokenError::Token)
    }
}

/// What a relay keeps of a token: its SHA-256.
///
/// A fast hash without salt is right for tokens, which are random and not chosen by people: there is no list to try them
/// from, and 2^160 to try otherwise.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; HASH_LEN]);

impl PartialEq for TokenHash {
    /// In the same time wherever they differ: nobody learns a hash by how long its refusal takes.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl FromStr for TokenHash {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(TokenError::Hash)?;
        let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|_| TokenError::Hash)?;
        bytes.try_into().map(Self).map_err(|_| TokenError::Hash)
    }
}

/// What is no token, or no hash of one. It never says what stands there: that may be a secret all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Not `direc-token-` and 32 characters.
    Token,
    /// Not `sha256-` and 64 hexadecimal digits.
    Hash,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => {
                "not a token: `direc-token-` and 32 characters of a-z, 2-7 expected, as `relay token` prints it"
            }
            Self::Hash => {
                "not a token's hash: `sha256-` and 64 digits of 0-9, a-f expected, as `relay token` prints it"
            }
        })
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The examples of `docs/protocol.md`.
    #[test]
    fn the_documented_token_and_its_hash() {
        let document = include_str!("../../docs/protocol.md");
        let token = AccessToken::from_random([0x11; TOKEN_LEN]);
        for text in [token.reveal(), token.hash().to_string()] {
            assert!(document.contains(&text), "{text}");
        }
    }

    #[test]
    fn neither_a_token_nor_a_complaint_about_one_shows_it() {
        let text = AccessToken::from_random([0xab; TOKEN_LEN]).reveal();
        let shown = format!("{:?}", text.parse::<AccessToken>().unwrap());
        assert_eq!(shown, "AccessToken(..)");
        let error = text[1..].parse::<AccessToken>().unwrap_err();
        assert!(!error.to_string().contains(&text[20..]), "{error}");
    }

    proptest! {
        #[test]
        fn tokens_and_hashes_print_as_they_parse_and_have_one_spelling(bytes: [u8; TOKEN_LEN]) {
            let token = AccessToken::from_random(bytes);
            let (text, hash) = (token.reveal(), token.hash().to_string());
            prop_assert!(text.parse::<AccessToken>() == Ok(token));
            prop_assert_eq!(hash.parse::<TokenHash>().unwrap().to_string(), hash.clone());
            for other in [text.to_uppercase(), format!("{text}a"), format!(" {text}"), text[..text.len() - 1].into()] {
                prop_assert_eq!(other.parse::<AccessToken>(), Err(TokenError::Token));
            }
            prop_assert!((hash + "0").parse::<TokenHash>().is_err());
        }
    }
}
