//! Who is who: a node *is* an Ed25519 key (RFC 8032), presented in TLS as a raw public key (RFC 7250).

use std::{fmt, str::FromStr, sync::Arc};

use data_encoding::{BASE32_NOPAD, Specification};
use ring::digest;
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_eddsa_type,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer},
    sign::{CertifiedKey, SigningKey},
};

use crate::error::IdError;

/// Length of an Ed25519 public key in bytes.
pub const KEY_LEN: usize = 32;

/// DER in front of every Ed25519 public key: SubjectPublicKeyInfo of RFC 8410, section 4.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// DER in front of every Ed25519 secret key: OneAsymmetricKey version 1 of RFC 8410, section 7.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// In front of what is signed to derive secrets: TLS 1.3 signs nothing that begins so (RFC 8446, section 4.4.3).
const DERIVE_LABEL: &[u8] = b"direc derived secret: ";

/// A node's name: its Ed25519 public key.
///
/// Printed as 52 characters of lower-case base32 (RFC 4648, no padding), parsed strictly from the same: there is one
/// spelling for each ID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; KEY_LEN]);

impl NodeId {
    /// The ID whose public key is `key`.
    pub const fn from_bytes(key: [u8; KEY_LEN]) -> Self {
        Self(key)
    }

    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The first eight characters, for people's eyes only: not unique, never to be parsed.
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }

    /// The key inside a DER SubjectPublicKeyInfo, if that holds an Ed25519 key and nothing else.
    pub(crate) fn from_spki(der: &[u8]) -> Option<Self> {
        let key = der.strip_prefix(&SPKI_PREFIX)?;
        Some(Self(key.try_into().ok()?))
    }
}

/// Lower-case base32 without padding: one spelling for each value.
pub(crate) fn encoding() -> data_encoding::Encoding {
    let mut spec: Specification = BASE32_NOPAD.specification();
    spec.symbols.make_ascii_lowercase();
    // The alphabet is a constant, so building it cannot fail; RFC 4648's own is a safe stand-in.
    spec.encoding().unwrap_or(BASE32_NOPAD)
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding().encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = encoding().decode(text.as_bytes()).map_err(|e| match e.kind {
            data_encoding::DecodeKind::Symbol => IdError::Symbol { position: e.position },
            _ => IdError::Length { found: text.len() },
        })?;
        let found = text.len();
        Ok(Self(bytes.try_into().map_err(|_| IdError::Length { found })?))
    }
}

/// A node's own key pair.
///
/// Cloning is cheap. `Debug` shows the public half only.
#[derive(Clone)]
pub struct Identity {
    id: NodeId,
    key: Arc<dyn SigningKey>,
}

impl Identity {
    /// Reads a PKCS#8 document (DER) holding an Ed25519 key, with or without its public half.
    ///
    /// # Errors
    /// [`IdError::NotEd25519`] if it is anything else.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, IdError> {
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(der)).map_err(|_| IdError::NotEd25519)?;
        let spki = key.public_key().ok_or(IdError::NotEd25519)?;
        let id = NodeId::from_spki(&spki).ok_or(IdError::NotEd25519)?;
        Ok(Self { id, key })
    }

    /// The key pair made from 32 secret bytes (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// [`IdError::NotEd25519`] should the crypto library refuse them; none are known that it does.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, IdError> {
        Self::from_pkcs8(&[PKCS8_PREFIX.as_slice(), secret].concat())
    }

    /// The public half.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Secret bytes for a purpose of this node's own, the same in every process: the hash of a signature over the
    /// purpose, which Ed25519 makes the same each time (RFC 8032, section 8.2), and which nobody else is ever shown.
    pub(crate) fn derive(&self, purpose: &str) -> Option<[u8; 32]> {
        let signer = self.key.choose_scheme(&[SignatureScheme::ED25519])?;
        let signature = signer.sign(&[DERIVE_LABEL, purpose.as_bytes()].concat()).ok()?;
        digest::digest(&digest::SHA256, &signature).as_ref().try_into().ok()
    }

    /// What TLS presents: the SubjectPublicKeyInfo in the certificate's place (RFC 7250, section 3).
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        let spki = SubjectPublicKeyInfoDer::from([SPKI_PREFIX.as_slice(), self.id.as_bytes()].concat());
        let certificate = CertificateDer::from(spki.as_ref().to_vec());
        Arc::new(CertifiedKey::new(vec![certificate], self.key.clone()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_parses() {
        let id = Identity::from_secret(&[7; 32]).unwrap().id();
        let text = id.to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text.parse::<NodeId>().unwrap(), id);
    }

    #[test]
    fn a_second_spelling_of_an_id_is_refused() {
        let text = NodeId::from_bytes([0; 32]).to_string();
        assert!(text.to_uppercase().parse::<NodeId>().is_err());
        // 52 characters carry 260 bits: the last four must be zero, or two texts would name one key.
        let twin = format!("{}b", &text[..51]);
        assert!(twin.parse::<NodeId>().is_err());
    }

    #[test]
    fn a_typing_mistake_in_an_id_is_named_by_its_position() {
        let mut text = NodeId::from_bytes([0; 32]).to_string();
        text.replace_range(5..6, "!");
        assert_eq!(text.parse::<NodeId>(), Err(IdError::Symbol { position: 5 }));
        assert_eq!("abc".parse::<NodeId>(), Err(IdError::Length { found: 3 }));
    }

    #[test]
    fn rfc_8032_test_vector_1() {
        let secret: [u8; 32] = data_encoding::HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap()
            .try_into()
            .unwrap();
        let id = Identity::from_secret(&secret).unwrap().id();
        let public = data_encoding::HEXLOWER.encode(id.as_bytes());
        assert_eq!(public, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let text = format!("{:?}", Identity::from_secret(&[0xab; 32]).unwrap());
        assert!(!text.contains("171") && !text.to_lowercase().contains("abab"), "{text}");
    }
}
