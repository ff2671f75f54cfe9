//! Who is asking: bearer tokens, minted for the session or signed for service accounts.
//!
//! A signed token is good as long as what it is bound to is there: account, and pod, secret or node.
//! Follows `pkg/serviceaccount/{jwt.go,claims.go}`.

pub mod jwt;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};

use http::{HeaderMap, header};

use super::ApiServerError;
use super::status::Status;
use super::store::{ResourceId, Store};
use super::user::User;

use jwt::{Claims, Reference};

/// Signed tokens that were checked before; the least recent half is forgotten beyond this.
const REMEMBERED: usize = 1024;

const PODS: ResourceId = ResourceId::new("", "pods");
const NODES: ResourceId = ResourceId::new("", "nodes");
const SECRETS: ResourceId = ResourceId::new("", "secrets");
const SERVICE_ACCOUNTS: ResourceId = ResourceId::new("", "serviceaccounts");

/// Knows the tokens that were handed out.
pub struct Authenticator {
    minted: RwLock<HashMap<String, User>>,
    /// Signs and checks the tokens of service accounts.
    pub signer: jwt::Signer,
    checked: Mutex<HashMap<String, Claims>>,
}

impl Authenticator {
    /// With a fresh signing key.
    pub fn new() -> Result<Self, ApiServerError> {
        Ok(Self { minted: RwLock::default(), signer: jwt::Signer::new()?, checked: Mutex::default() })
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
        let Some(token) = bearer(headers)? else { return Ok(User::anonymous()) };
        self.token(store, token, &[jwt::ISSUER.to_owned()]).map(|(user, _)| user).ok_or_else(Status::unauthorized)
    }

    /// The user that a token stands for, and which of the audiences it is for.
    pub fn token(&self, store: &Store, token: &str, audiences: &[String]) -> Option<(User, Vec<String>)> {
        if let Some(user) = self.minted.read().unwrap_or_else(PoisonError::into_inner).get(token) {
            return Some((user.clone(), audiences.to_vec()));
        }
        let claims = self.claims(token)?;
        let now = jiff::Timestamp::now().as_second();
        if claims.exp <= now || claims.nbf > now + 60 || claims.iss != jwt::ISSUER {
            return None;
        }
        let audiences: Vec<String> =
            audiences.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if audiences.is_empty() || !still_there(store, &claims) {
            return None;
        }
        Some((user(&claims), audiences))
    }

    /// A token's claims. The signature is checked the first time only.
    fn claims(&self, token: &str) -> Option<Claims> {
        if let Some(claims) = self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(token) {
            return Some(claims.clone());
        }
        let claims = self.signer.verify(token)?;
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= REMEMBERED {
            checked.clear();
        }
        checked.insert(token.to_owned(), claims.clone());
        Some(claims)
    }
}

/// The token from the `Authorization` header, or from a WebSocket's subprotocols, where browsers put it
/// (`apiserver/pkg/authentication/request/websocket/protocol.go`).
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Status::unauthorized())?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Ok(None);
    }
    Ok(Some(token.trim()))
}

fn still_there(store: &Store, claims: &Claims) -> bool {
    let namespace = &claims.kubernetes.namespace;
    let is_there = |resource: ResourceId, namespace: &str, reference: &Reference| {
        store
            .get(resource, namespace, &reference.name)
            .is_some_and(|stored| reference.uid.is_empty() || *stored.index.uid == *reference.uid)
    };
    let kubernetes = &claims.kubernetes;
    is_there(SERVICE_ACCOUNTS, namespace, &kubernetes.serviceaccount)
        && kubernetes.pod.as_ref().is_none_or(|pod| is_there(PODS, namespace, pod))
        && kubernetes.secret.as_ref().is_none_or(|secret| is_there(SECRETS, namespace, secret))
        // With a pod, the node is only told, not bound to.
        && (kubernetes.pod.is_some() || kubernetes.node.as_ref().is_none_or(|node| is_there(NODES, "", node)))
}

/// `ServiceAccountInfo.UserInfo`
fn user(claims: &Claims) -> User {
    let kubernetes = &claims.kubernetes;
    let mut user = User::service_account(&kubernetes.namespace, &kubernetes.serviceaccount.name);
    user.uid.clone_from(&kubernetes.serviceaccount.uid);
    let mut tell = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    tell("credential-id", &format!("JTI={}", claims.jti));
    if let Some(pod) = &kubernetes.pod {
        tell("pod-name", &pod.name);
        tell("pod-uid", &pod.uid);
    }
    if let Some(node) = &kubernetes.node {
        tell("node-name", &node.name);
        tell("node-uid", &node.uid);
    }
    user.known()
}
