//! API keys: `issue-key` makes one for a user, `revoke-key` takes back the one on standard input, and so do `POST /keys` and
//! `DELETE /keys` over HTTP. Only their digests are kept, beside the jobs, so that all API replicas know them.

use std::io;
use std::path::{Path, PathBuf};

use axum::http::HeaderMap;
use sha2::{Digest as _, Sha256};

/// The keys in one data directory.
#[derive(Clone)]
pub struct Keys(PathBuf);

impl Keys {
    pub fn new(data: &Path) -> Self {
        Self(data.join("keys"))
    }

    /// A new key for a user.
    pub fn issue(&self, user: &str) -> io::Result<String> {
        let key = format!("pk-{}", uuid::Uuid::new_v4().simple());
        std::fs::write(self.file(&key), user)?;
        Ok(key)
    }

    /// `false`: there is no such key.
    pub fn revoke(&self, key: &str) -> io::Result<bool> {
        match std::fs::remove_file(self.file(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whose key a request has, if it has one that is good.
    pub fn user(&self, headers: &HeaderMap) -> Option<String> {
        std::fs::read_to_string(self.file(bearer(headers)?)).ok()
    }

    fn file(&self, key: &str) -> PathBuf {
        let digest: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.join(digest)
    }
}

/// What a request has as `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}
