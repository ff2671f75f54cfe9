//! What files a configMap, secret, downwardAPI or projected volume has. Pure.
//!
//! Follows upstream's `pkg/volume/configmap/configmap.go` and `secret/secret.go` (`MakePayload`),
//! `downwardapi/downwardapi.go` (`CollectData`) and `projected/projected.go` (`collectData`).

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume};

use super::super::downward::{self, DownwardError, Facts};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Files by their path in the volume.
pub type Payload = BTreeMap<String, File>;

/// A token that a volume asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenWish {
    /// Empty: the API server's own.
    pub audience: Option<String>,
    /// How long it should live.
    pub expiration_seconds: i64,
}

/// One thing that a volume's files come from. The four kinds of volumes are lists of these.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A ConfigMap's keys.
    ConfigMap {
        /// In the pod's namespace.
        name: String,
        /// Which keys, and where to; all if empty.
        items: Vec<KeyToPath>,
        /// Whether the object and its keys may be missing.
        optional: bool,
    },
    /// A Secret's keys.
    Secret {
        /// In the pod's namespace.
        name: String,
        /// Which keys, and where to; all if empty.
        items: Vec<KeyToPath>,
        /// Whether the object and its keys may be missing.
        optional: bool,
    },
    /// Fields of the pod.
    Downward(Vec<DownwardAPIVolumeFile>),
    /// A service account token.
    Token {
        /// What is asked for.
        wish: TokenWish,
        /// Where it goes.
        path: String,
    },
    /// A kind of projection this node doesn't have.
    Unsupported(&'static str),
}

/// A volume whose content the kubelet writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// In order; later ones win.
    pub sources: Vec<Source>,
    /// Where an item names no mode.
    pub default_mode: u32,
}

fn mode(given: Option<i32>) -> Option<u32> {
    given.and_then(|mode| u32::try_from(mode).ok())
}

/// Reads a volume; `None` if its content isn't the kubelet's to write.
pub fn content(volume: &Volume) -> Option<Content> {
    if let Some(map) = &volume.config_map {
        let source = Source::ConfigMap {
            name: map.name.clone(),
            items: map.items.clone().unwrap_or_default(),
            optional: map.optional.unwrap_or(false),
        };
        return Some(Content { sources: vec![source], default_mode: mode(map.default_mode).unwrap_or(0o644) });
    }
    if let Some(secret) = &volume.secret {
        let source = Source::Secret {
            name: secret.secret_name.clone().unwrap_or_default(),
            items: secret.items.clone().unwrap_or_default(),
            optional: secret.optional.unwrap_or(false),
        };
        return Some(Content { sources: vec![source], default_mode: mode(secret.default_mode).unwrap_or(0o644) });
    }
    if let Some(api) = &volume.downward_api {
        let sources = vec![Source::Downward(api.items.clone().unwrap_or_default())];
        return Some(Content { sources, default_mode: mode(api.default_mode).unwrap_or(0o644) });
    }
    let projected = volume.projected.as_ref()?;
    let sources = projected.sources.iter().flatten().map(|source| {
        if let Some(map) = &source.config_map {
            Source::ConfigMap {
                name: map.name.clone(),
                items: map.items.clone().unwrap_or_default(),
                optional: map.optional.unwrap_or(false),
            }
        } else if let Some(secret) = &source.secret {
            Source::Secret {
                name: secret.name.clone(),
                items: secret.items.clone().unwrap_or_default(),
                optional: secret.optional.unwrap_or(false),
            }
        } else if let Some(api) = &source.downward_api {
            Source::Downward(api.items.clone().unwrap_or_default())
        } else if let Some(token) = &source.service_account_token {
            let wish = TokenWish {
                audience: token.audience.clone().filter(|audience| !audience.is_empty()),
                expiration_seconds: token.expiration_seconds.unwrap_or(3600),
            };
            Source::Token { wish, path: token.path.clone() }
        } else if source.cluster_trust_bundle.is_some() {
            Source::Unsupported("clusterTrustBundle")
        } else {
            Source::Unsupported("podCertificate")
        }
    });
    Some(Content { sources: sources.collect(), default_mode: mode(projected.default_mode).unwrap_or(0o644) })
}

/// What is there to project.
#[derive(Debug, Clone, Default)]
pub struct Available {
    /// Those that exist.
    pub config_maps: HashMap<String, Arc<ConfigMap>>,
    /// Those that exist.
    pub secrets: HashMap<String, Arc<Secret>>,
    /// Those that were issued.
    pub tokens: HashMap<TokenWish, String>,
}

/// Why a volume's content cannot be made (yet), in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The object doesn't exist.
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    /// The object doesn't exist.
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    /// The object has no such key.
    #[error("configmap references non-existent config key: {0}")]
    NoConfigKey(String),
    /// The object has no such key.
    #[error("references non-existent secret key: {0}")]
    NoSecretKey(String),
    /// The API server has not issued it yet.
    #[error("failed to fetch token: not issued yet")]
    NoToken,
    /// A field that cannot be answered.
    #[error(transparent)]
    Downward(#[from] DownwardError),
    /// A path that leaves the volume.
    #[error("invalid path: must be relative and without '..': {0}")]
    BadPath(String),
    /// A kind of projection this node doesn't have.
    #[error("projected volume source {0} is not supported on this node")]
    Unsupported(&'static str),
}

/// The volume's files.
pub fn project(content: &Content, pod: &Pod, facts: &Facts, available: &Available) -> Result<Payload, PayloadError> {
    let mut payload = Payload::new();
    let mut put = |path: &str, data: Vec<u8>, given: Option<u32>| {
        // `AtomicWriter` refuses the same (`validatePath`).
        let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside || path.is_empty() || path.starts_with("..") {
            return Err(PayloadError::BadPath(path.to_owned()));
        }
        payload.insert(path.to_owned(), File { data, mode: given.unwrap_or(content.default_mode) });
        Ok(())
    };
    for source in &content.sources {
        match source {
            Source::ConfigMap { name, items, optional } => {
                let Some(map) = available.config_maps.get(name) else {
                    if *optional {
                        continue;
                    }
                    return Err(PayloadError::NoConfigMap(name.clone()));
                };
                let get = |key: &str| {
                    let text = map.data.as_ref().and_then(|data| data.get(key)).map(|text| text.clone().into_bytes());
                    text.or_else(|| {
                        map.binary_data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone())
                    })
                };
                if items.is_empty() {
                    for key in map
                        .data
                        .iter()
                        .flatten()
                        .map(|(key, _)| key)
                        .chain(map.binary_data.iter().flatten().map(|(key, _)| key))
                    {
                        put(key, get(key).unwrap_or_default(), None)?;
                    }
                }
                for item in items {
                    match get(&item.key) {
                        Some(data) => put(&item.path, data, mode(item.mode))?,
                        None if *optional => {}
                        None => return Err(PayloadError::NoConfigKey(item.key.clone())),
                    }
                }
            }
            Source::Secret { name, items, optional } => {
                let Some(secret) = available.secrets.get(name) else {
                    if *optional {
                        continue;
                    }
                    return Err(PayloadError::NoSecret(name.clone()));
                };
                let get = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
                if items.is_empty() {
                    for (key, value) in secret.data.iter().flatten() {
                        put(key, value.0.clone(), None)?;
                    }
                }
                for item in items {
                    match get(&item.key) {
                        Some(data) => put(&item.path, data, mode(item.mode))?,
                        None if *optional => {}
                        None => return Err(PayloadError::NoSecretKey(item.key.clone())),
                    }
                }
            }
            Source::Downward(files) => {
                for file in files {
                    let value = if let Some(field) = &file.field_ref {
                        downward::field(pod, &field.field_path, facts)?
                    } else if let Some(resource) = &file.resource_field_ref {
                        downward::resource(pod, None, resource, facts.allocatable)?
                    } else {
                        String::new()
                    };
                    put(&file.path, value.into_bytes(), mode(file.mode))?;
                }
            }
            Source::Token { wish, path } => {
                let token = available.tokens.get(wish).ok_or(PayloadError::NoToken)?;
                put(path, token.clone().into_bytes(), None)?;
            }
            Source::Unsupported(kind) => return Err(PayloadError::Unsupported(kind)),
        }
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::super::super::downward::Allocatable;
    use super::*;
    use serde_json::{Value, json};
    use std::net::Ipv4Addr;

    fn files(volume: Value) -> Result<Vec<(String, String, u32)>, PayloadError> {
        let facts = Facts {
            pod_ip: Ipv4Addr::LOCALHOST,
            host_ip: Ipv4Addr::LOCALHOST,
            allocatable: Allocatable { cpus: 1, memory: 1 },
        };
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"a": "b"}}})).unwrap();
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"k1": "v1", "k2": "v2"}, "binaryData": {"b": "AP8="}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({"data": {"s": "c2VjcmV0"}})).unwrap();
        let available = Available {
            config_maps: HashMap::from([("map".to_owned(), Arc::new(map))]),
            secrets: HashMap::from([("secret".to_owned(), Arc::new(secret))]),
            tokens: HashMap::from([(TokenWish { audience: None, expiration_seconds: 3607 }, "jwt".to_owned())]),
        };
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let payload = project(&content(&volume).unwrap(), &pod, &facts, &available)?;
        Ok(payload
            .into_iter()
            .map(|(path, file)| (path, String::from_utf8_lossy(&file.data).into_owned(), file.mode))
            .collect())
    }

    #[test]
    fn whole_objects_items_and_modes() {
        let got = files(json!({"name": "v", "configMap": {"name": "map"}})).unwrap();
        assert_eq!(got.iter().map(|file| file.0.as_str()).collect::<Vec<_>>(), ["b", "k1", "k2"]);
        let got = files(json!({"name": "v", "configMap": {"name": "map", "defaultMode": 0o400, "items": [
            {"key": "k1", "path": "etc/one"}, {"key": "k2", "path": "two", "mode": 0o755}]}}));
        assert_eq!(got.unwrap(), [("etc/one".into(), "v1".into(), 0o400), ("two".into(), "v2".into(), 0o755)]);
        let got = files(json!({"name": "v", "secret": {"secretName": "secret"}})).unwrap();
        assert_eq!(got, [("s".into(), "secret".into(), 0o644)]);
    }

    #[test]
    fn projected_joins_all_kinds() {
        let got = files(json!({"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "map", "items": [{"key": "k1", "path": "ca.crt"}]}},
            {"secret": {"name": "gone", "optional": true}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}))
        .unwrap();
        assert_eq!(
            got,
            [
                ("ca.crt".into(), "v1".into(), 0o644),
                ("labels".into(), "a=\"b\"".into(), 0o644),
                ("token".into(), "jwt".into(), 0o644)
            ]
        );
    }

    #[test]
    fn what_is_missing_in_upstreams_words() {
        for (volume, words) in [
            (json!({"name": "v", "configMap": {"name": "gone"}}), Some("configmap \"gone\" not found")),
            (json!({"name": "v", "configMap": {"name": "gone", "optional": true}}), None),
            (json!({"name": "v", "secret": {"secretName": "gone"}}), Some("secret \"gone\" not found")),
            (
                json!({"name": "v", "configMap": {"name": "map", "items": [{"key": "no", "path": "p"}]}}),
                Some("configmap references non-existent config key: no"),
            ),
            (
                json!({"name": "v", "configMap": {"name": "map", "optional": true, "items": [{"key": "no", "path": "p"}]}}),
                None,
            ),
            (
                json!({"name": "v", "configMap": {"name": "map", "items": [{"key": "k1", "path": "../p"}]}}),
                Some("invalid path: must be relative and without '..': ../p"),
            ),
        ] {
            assert_eq!(files(volume).err().map(|error| error.to_string()).as_deref(), words);
        }
    }
}
