//! What whoever asks may do: roles and bindings, as upstream's RBAC authorizer decides.
//!
//! Follows `plugin/pkg/auth/authorizer/rbac/rbac.go`, `pkg/registry/rbac/*` for escalation, and
//! `apiserver/pkg/endpoints/handlers/responsewriters/errors.go` for the words of a refusal.

pub mod bootstrap;
mod policy;
mod rule;

use serde_json::Value;

use super::Server;
use super::context::Context;
use super::request::RequestInfo;
use super::status::{GroupResource, Status};
use super::store::Store;
use super::user::{MASTERS, User};

pub use policy::RoleRef;
pub use rule::Rule;

/// Decides by roles and bindings.
#[derive(Debug, Default)]
pub struct Authorizer(policy::PolicyCache);

/// A decision, with why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allowed,
    /// No rule allows it. The reason is empty unless something was broken.
    Denied(String),
}

impl Authorizer {
    /// Whether a user may do something.
    pub fn decide(&self, store: &Store, user: &User, info: &RequestInfo) -> Decision {
        // authorizerfactory.NewPrivilegedGroups
        if user.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allowed;
        }
        let mut allowed = false;
        let mut missing = Vec::new();
        self.0.current(store).visit(user, &info.namespace, |rules| {
            match rules {
                Ok(rules) => allowed = rules.iter().any(|rule| rule.allows(info)),
                Err(role) => missing.push(role.0),
            }
            allowed
        });
        match (allowed, missing.as_slice()) {
            (true, _) => Decision::Allowed,
            (false, []) => Decision::Denied(String::new()),
            (false, [one]) => Decision::Denied(format!("RBAC: {one}")),
            (false, many) => Decision::Denied(format!("RBAC: [{}]", many.join(", "))),
        }
    }

    /// All rules that a user has in a namespace.
    pub fn rules(&self, store: &Store, user: &User, namespace: &str) -> Vec<Rule> {
        let mut all = Vec::new();
        self.0.current(store).visit(user, namespace, |rules| {
            all.extend(rules.unwrap_or_default().iter().cloned());
            false
        });
        all
    }

    /// Refuses roles and bindings that would grant more than their author holds.
    ///
    /// # Errors
    /// 403 in upstream's words; 404 for a binding whose role isn't there.
    pub fn check_escalation(&self, context: &Context<'_>, object: &Value) -> Result<(), Status> {
        let (user, store, row) = (context.user, &context.server.store, context.row);
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let namespace = context.namespace();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let may = |verb: &'static str, resource: &str, name: &str| {
            let info = RequestInfo {
                is_resource: true,
                verb,
                group: row.group.to_owned(),
                namespace: namespace.to_owned(),
                resource: resource.to_owned(),
                name: name.to_owned(),
                ..RequestInfo::default()
            };
            self.decide(store, user, &info) == Decision::Allowed
        };
        let wanted: Vec<Rule> = if row.plural.ends_with("bindings") {
            let role = RoleRef::parse(&object["roleRef"]);
            if may("bind", if role.cluster { "clusterroles" } else { "roles" }, &role.name) {
                return Ok(());
            }
            let rules = self.0.current(store).role_rules(&role, namespace).map_err(|_| {
                let resource = if role.cluster { "clusterroles" } else { "roles" };
                Status::not_found(GroupResource { group: row.group, resource }, &role.name)
            })?;
            rules.iter().flat_map(|rules| rules.iter().cloned()).collect()
        } else {
            if may("escalate", row.plural, &context.info.name) {
                return Ok(());
            }
            serde_json::from_value(object["rules"].clone()).unwrap_or_default()
        };
        let missing = rule::missing(&self.rules(store, user, namespace), &wanted);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Status::forbidden(
            row.resource(),
            name,
            &format!(
                "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
                super::status::quote(&user.name),
                rule::quote_list(&user.groups),
                missing.join("\n")
            ),
        ))
    }
}

/// Lets a request pass or not.
///
/// # Errors
/// 403 in upstream's words.
pub fn authorize(server: &Server, user: &User, info: &RequestInfo) -> Result<(), Status> {
    match server.authorizer.decide(&server.store, user, info) {
        Decision::Allowed => Ok(()),
        Decision::Denied(reason) => {
            let mut message = refusal(user, info);
            if !reason.is_empty() {
                message = format!("{message}: {reason}");
            }
            let resource = GroupResource { group: &info.group, resource: &info.resource };
            Err(Status::forbidden(resource, &info.name, &message))
        }
    }
}

/// `forbiddenMessage`
fn refusal(user: &User, info: &RequestInfo) -> String {
    use super::status::quote;
    let name = quote(&user.name);
    if !info.is_resource {
        return format!("User {name} cannot {} path {}", info.verb, quote(&info.path));
    }
    let (resource, group) = (quote(&info.full_resource()), quote(&info.group));
    let place = if info.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {}", quote(&info.namespace))
    };
    format!("User {name} cannot {} resource {resource} in API group {group} {place}", info.verb)
}
