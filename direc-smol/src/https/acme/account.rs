//! What an account is to an ACME authority: a key, and what it signs (RFC 7515; ES256 of RFC 7518).

use std::path::Path;

use data_encoding::BASE64URL_NOPAD as BASE64;
use ring::{
    digest::{Digest, SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::{error::AcmeError, private_key};

/// The account's key.
pub(super) struct AccountKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl AccountKey {
    /// The key in this PEM file.
    pub(super) fn load(path: &Path) -> Result<Self, AcmeError> {
        let private = private_key(path).map_err(AcmeError::File)?;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.secret_der(), &random);
        Ok(Self { pair: pair.map_err(|_| AcmeError::AccountKey { path: path.to_owned() })?, random })
    }

    /// A request (RFC 8555, section 6.2): from the account with this URL, or from one that is not known yet, which shows
    /// its key.
    pub(super) fn sign(
        &self,
        account: Option<&str>,
        nonce: &str,
        url: &str,
        payload: &str,
    ) -> Result<String, AcmeError> {
        let mut head = json!({"alg": "ES256", "nonce": nonce, "url": url});
        match account {
            Some(account) => head["kid"] = account.into(),
            None => head["jwk"] = self.public(),
        }
        let [head, payload] = [head.to_string().as_bytes(), payload.as_bytes()].map(|part| BASE64.encode(part));
        let signature = self.pair.sign(&self.random, format!("{head}.{payload}").as_bytes());
        let signature = BASE64.encode(signature.map_err(|_| AcmeError::Randomness)?.as_ref());
        Ok(json!({"protected": head, "payload": payload, "signature": signature}).to_string())
    }

    /// The hash of what only this account makes of a challenge's token (RFC 8555, section 8.1).
    pub(super) fn authorization(&self, token: &str) -> Digest {
        let (x, y) = self.point();
        // The fields in this order, without spaces (RFC 7638).
        let key = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = BASE64.encode(digest(&SHA256, key.as_bytes()).as_ref());
        digest(&SHA256, format!("{token}.{thumbprint}").as_bytes())
    }

    /// The public key (RFC 7517).
    fn public(&self) -> Value {
        let (x, y) = self.point();
        json!({"crv": "P-256", "kty": "EC", "x": x, "y": y})
    }

    fn point(&self) -> (String, String) {
        // A point that is not compressed: 4, and its two coordinates.
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        (BASE64.encode(x), BASE64.encode(y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::store_ecdsa_key;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    fn key() -> AccountKey {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.pem");
        store_ecdsa_key(&path).unwrap();
        AccountKey::load(&path).unwrap()
    }

    fn decoded(text: &Value) -> Vec<u8> {
        BASE64.decode(text.as_str().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn a_request_is_signed_and_says_by_whom_for_where_and_only_once() {
        let key = key();
        for account in [None, Some("https://authority.example/account/1")] {
            let request: Value =
                serde_json::from_str(&key.sign(account, "nonce", "https://authority.example/new", "{}").unwrap())
                    .unwrap();
            let head: Value = serde_json::from_slice(&decoded(&request["protected"])).unwrap();
            assert_eq!((&head["alg"], &head["nonce"]), (&json!("ES256"), &json!("nonce")));
            assert_eq!(head["url"], "https://authority.example/new");
            assert_eq!((head["kid"].as_str(), head["jwk"].is_object()), (account, account.is_none()));
            assert_eq!(decoded(&request["payload"]), b"{}");
            let signed = format!("{}.{}", request["protected"].as_str().unwrap(), request["payload"].as_str().unwrap());
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref())
                .verify(signed.as_bytes(), &decoded(&request["signature"]))
                .unwrap();
        }
    }

    #[test]
    fn a_file_that_holds_no_such_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.pem");
        std::fs::write(&path, rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem()).unwrap();
        let error = AccountKey::load(&path).err().unwrap().to_string();
        assert!(error.contains("account.pem: no key of the kind"), "{error}");
    }
}
