//! Keys that need nothing from the cluster: generated ones and those taken from the host.
//!
//! A key keeps its value for the session's life: a second `up` must not invalidate what tests hold.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::objects::{self, Context, KEYS_SECRET};
use crate::plan::{Encoding, Key, KeySource, NeedReason, Node, Plan};

use super::failure::Cause;

/// On pod templates: the digest of the keys that the pod uses.
const KEYS_DIGEST: &str = "envctl.dev/keys-digest";

/// Why a key could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Commands and requests that issue keys come later.
    #[error("key {0} is issued by a service (`exec` or `http`), which this version of envctl cannot do yet")]
    NotYet(String),
    /// The host's variable isn't set.
    #[error("key {key} comes from the host's variable {variable}, which is not set")]
    NotSet {
        /// The key.
        key: String,
        /// The variable.
        variable: String,
    },
    /// The operating system's generator failed.
    #[error("key {key} could not be generated: {source}")]
    NoRandomness {
        /// The key.
        key: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl KeyError {
    /// The cause of the failure that it becomes.
    pub fn cause(&self) -> Cause {
        match self {
            Self::NotYet(_) => Cause::NotYet,
            Self::NotSet { .. } | Self::NoRandomness { .. } => Cause::KeyNotIssued,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotYet(_) => "use `generate` or `fromEnv` for now",
            Self::NotSet { .. } => "set it where `envctl up` runs",
            Self::NoRandomness { .. } => "/dev/urandom must be readable",
        }
    }
}

/// The key's value: the one it had, or a new one.
///
/// # Errors
/// [`KeyError`].
pub fn issue(
    name: &str,
    key: &Key,
    issued: Option<&String>,
    host: &dyn Fn(&str) -> Option<String>,
) -> Result<String, KeyError> {
    match &key.source {
        KeySource::Issued(_) => Err(KeyError::NotYet(name.to_owned())),
        KeySource::FromEnv(variable) => {
            host(variable).ok_or_else(|| KeyError::NotSet { key: name.to_owned(), variable: variable.clone() })
        }
        KeySource::Generate { bytes, encoding } => {
            let random = random(*bytes).map_err(|source| KeyError::NoRandomness { key: name.to_owned(), source })?;
            let value = encode(&random, *encoding);
            // Same length and alphabet: as far as the file can tell it is the same key.
            Ok(issued.filter(|old| old.len() == value.len()).cloned().unwrap_or(value))
        }
    }
}

/// The Secret that holds all issued keys.
pub fn secret(plan: &Plan, context: &Context, keys: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": KEYS_SECRET,
            "namespace": context.namespace,
            "labels": objects::session_labels(plan, context),
        },
        "data": keys.iter().map(|(name, value)| (name.clone(), STANDARD.encode(value))).collect::<BTreeMap<_, _>>(),
    })
}

/// Stamps the pod templates of `node` with a digest of the keys it uses: another key is a difference. The digest is cut
/// short and covers all keys at once, so nothing can be learned from it.
pub fn stamp(rendered: &mut [Value], node: &Node, keys: &BTreeMap<String, String>) {
    let mut hash = Sha256::new();
    let mut used = false;
    for need in node.needs.iter().filter(|need| need.reason == NeedReason::Key) {
        used = true;
        hash.update(need.node.name.as_bytes());
        hash.update(keys.get(&need.node.name).map(String::as_bytes).unwrap_or_default());
    }
    if !used {
        return;
    }
    let digest: [u8; 32] = hash.finalize().into();
    let text: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    for object in rendered {
        if let Some(metadata) = object.pointer_mut("/spec/template/metadata") {
            metadata["annotations"][KEYS_DIGEST] = text.clone().into();
        }
    }
}

fn random(bytes: u32) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut random = Vec::new();
    std::fs::File::open("/dev/urandom")?.take(u64::from(bytes)).read_to_end(&mut random)?;
    Ok(random)
}

fn encode(bytes: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Encoding::Base64 => STANDARD.encode(bytes),
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: KeySource) -> Key {
        Key { source, revoke: None, ttl: None }
    }

    #[test]
    fn a_generated_key_keeps_its_value() {
        let key = key(KeySource::Generate { bytes: 32, encoding: Encoding::Hex });
        let first = issue("K", &key, None, &|_| None).expect("generated");
        assert_eq!(first.len(), 64);
        assert_eq!(issue("K", &key, Some(&first), &|_| None).expect("kept"), first);
        assert_ne!(issue("K", &key, None, &|_| None).expect("another"), first);
    }

    #[test]
    fn a_host_variable_that_is_not_set_is_named() {
        let key = key(KeySource::FromEnv("HF_TOKEN".to_owned()));
        assert_eq!(issue("HF", &key, None, &|_| Some("t".to_owned())).expect("set"), "t");
        let error = issue("HF", &key, None, &|_| None).expect_err("not set");
        assert_eq!(error.to_string(), "key HF comes from the host's variable HF_TOKEN, which is not set");
    }

    #[test]
    fn encodings_are_those_of_the_standard() {
        let bytes = [0xfb, 0xff, 0xfe];
        assert_eq!(encode(&bytes, Encoding::Hex), "fbfffe");
        assert_eq!(encode(&bytes, Encoding::Base64), "+//+");
        assert_eq!(encode(&bytes, Encoding::Base64Url), "-__-");
    }
}
