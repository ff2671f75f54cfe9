//! Who is asking: bearer tokens.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use http::{HeaderMap, header};

use super::ApiServerError;
use super::status::Status;
use super::store::Store;
use super::user::User;

/// Knows the tokens that were handed out.
pub struct Authenticator {
    minted: RwLock<HashMap<String, User>>,
}

impl Authenticator {
    /// With a fresh signing key.
    pub fn new() -> Result<Self, ApiServerError> {
        Ok(Self { minted: RwLock::new(HashMap::new()) })
    }

    /// A token that stands for a user until the server ends.
    pub fn mint(&self, user: User) -> String {
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        self.minted.write().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), user);
        token
    }

    /// Whoever sent these headers; anonymous if they show nothing.
    ///
    /// # Errors
    /// 401 for a token that isn't good.
    pub fn authenticate(&self, store: &Store, headers: &HeaderMap) -> Result<User, Status> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(User::anonymous());
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")))
            .map(str::trim)
            .ok_or_else(Status::unauthorized)?;
        self.token(store, token).ok_or_else(Status::unauthorized)
    }

    /// The user that a token stands for.
    pub fn token(&self, store: &Store, token: &str) -> Option<User> {
        let _ = store;
        self.minted.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}
