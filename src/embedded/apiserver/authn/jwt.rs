//! Signed tokens of service accounts: ES256 JSON web tokens.
//!
//! The claims are upstream's (`pkg/serviceaccount/claims.go`). The key is made anew for each server.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::ApiServerError;

/// Who issues tokens, and for whom unless a request says otherwise.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom it is.
    pub aud: Vec<String>,
    /// Not from then on, in seconds since 1970.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// The issuer.
    pub iss: String,
    /// The token's own id.
    pub jti: String,
    /// Kubernetes' part.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
    /// Not before then.
    pub nbf: i64,
    /// The user's name.
    pub sub: String,
}

/// What Kubernetes adds to a token's claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    /// The account's namespace.
    pub namespace: String,
    /// The node of the pod, or the node that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The pod that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The account.
    pub serviceaccount: Reference,
}

/// An object by name and identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its identity; empty if it isn't known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The key that signs tokens.
pub struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    header: String,
    id: String,
}

impl Signer {
    /// A fresh key.
    pub fn new() -> Result<Self, ApiServerError> {
        let random = SystemRandom::new();
        let failed = |_| ApiServerError::TokenKey;
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
            .map_err(|_| ApiServerError::TokenKey)?;
        let id = BASE64.encode(ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref()));
        let header = BASE64.encode(json!({"alg": "ES256", "kid": id}).to_string());
        Ok(Self { key, random, header, id })
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let payload = BASE64.encode(serde_json::to_vec(claims).ok()?);
        let signed = format!("{}.{payload}", self.header);
        let signature = self.key.sign(&self.random, signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// A token's claims, if this key signed it.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if header != self.header {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()
    }

    /// The public key, for whoever checks tokens by itself (`/openid/v1/jwks`).
    pub fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let coordinate = |range| point.get(range).map(|bytes| BASE64.encode(bytes)).unwrap_or_default();
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": coordinate(1..33), "y": coordinate(33..65),
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_is_believed() {
        let signer = Signer::new().expect("a key");
        let claims = Claims {
            aud: vec![ISSUER.to_owned()],
            exp: 2,
            iat: 1,
            iss: ISSUER.to_owned(),
            jti: "id".to_owned(),
            kubernetes: Kubernetes::default(),
            nbf: 1,
            sub: "system:serviceaccount:default:default".to_owned(),
        };
        let token = signer.sign(&claims).expect("signed");
        assert_eq!(signer.verify(&token), Some(claims));
        let (head, tail) = token.rsplit_once('.').expect("three parts");
        let forged = Claims { sub: "admin".to_owned(), ..signer.verify(&token).expect("good") };
        let payload = BASE64.encode(serde_json::to_vec(&forged).expect("JSON"));
        let header = head.split_once('.').expect("two parts").0;
        assert_eq!(signer.verify(&format!("{header}.{payload}.{tail}")), None);
        assert_eq!(Signer::new().expect("a key").verify(&token), None);
    }
}
