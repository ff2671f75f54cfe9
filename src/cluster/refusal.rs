//! Why the API refused something, by its own words: what kind of refusal it is, and what would cure it. Pure.
//!
//! A `Status` says little by its code: 403 is RBAC, a quota, a policy or a namespace that ends, and a policy may answer 422 as well. Its
//! message says it all, worded by upstream: `apiserver/pkg/endpoints/handlers/responsewriters/errors.go` (`forbiddenMessage`),
//! `pkg/registry/rbac/escalation_check.go`, `apiserver/pkg/admission/plugin/resourcequota/controller.go`,
//! `…/plugin/policy/validating/dispatcher.go`, `…/plugin/webhook/errors/statuserror.go`, `…/plugin/namespace/lifecycle/admission.go`.
//! The same words come by events about pods that a controller could not create.
//!
//! Neighbours: `provision` and `readiness` make failures of it, the command line hints.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of refusal it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody allows this user this verb.
    Denied(Denied),
    /// The user may not grant what they don't have themselves; the rules that they lack, as the API lists them.
    Escalation {
        /// Who.
        user: String,
        /// `{APIGroups:[""], …}`, one each.
        rules: Vec<String>,
    },
    /// A quota is used up; what was asked, used and allowed in its words.
    QuotaExceeded {
        /// The ResourceQuota.
        quota: String,
        /// `requested: …, used: …, limited: …`.
        figures: String,
    },
    /// A quota of this resource wants it to be said how much of it is asked for.
    QuotaUnspecified {
        /// The ResourceQuota.
        quota: String,
        /// `limits.memory for: web`.
        what: String,
    },
    /// A policy of the cluster forbids it.
    Policy {
        /// `ValidatingAdmissionPolicy no-x`, `admission webhook x.example.com`, `PodSecurity restricted:latest`.
        by: String,
    },
    /// The namespace is being deleted, or is gone.
    NamespaceLost {
        /// Which.
        namespace: String,
    },
    /// The cluster doesn't know who asks: credentials that have expired, or never were right.
    NotAuthenticated,
    /// What pods are made with is not there yet: their service account.
    NotYet,
    /// Anything else.
    Other,
}

/// A request that RBAC doesn't allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// Who.
    pub user: String,
    /// What they asked to do.
    pub verb: String,
    /// To what: the plural, with its subresource.
    pub resource: String,
    /// Of which API group; empty for the core.
    pub group: String,
    /// Where; `None` for what is in no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl Refusal {
    /// By a `Status`' code and message.
    pub fn of(code: u16, message: &str) -> Self {
        if code == 401 {
            return Self::NotAuthenticated;
        }
        if let Some(name) = quoted_after(message, "namespaces ").filter(|_| code == 404) {
            return Self::NamespaceLost { namespace: name.to_owned() };
        }
        Self::by_words(message)
    }

    /// By its message alone: an event about something that a controller was refused has no code.
    pub fn by_words(message: &str) -> Self {
        if let Some(denied) = Denied::of(message) {
            return Self::Denied(denied);
        }
        if let Some((before, rules)) = message.split_once("is attempting to grant RBAC permissions not currently held:")
        {
            let user = before.rsplit_once("user ").and_then(|(_, user)| quoted(user)).unwrap_or_default();
            let rules = rules.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
            return Self::Escalation { user: user.to_owned(), rules };
        }
        if let Some((_, rest)) = message.split_once("exceeded quota: ") {
            let (quota, figures) = rest.split_once(", ").unwrap_or((rest, ""));
            return Self::QuotaExceeded { quota: quota.to_owned(), figures: figures.to_owned() };
        }
        if let Some((quota, what)) =
            after(message, "failed quota: ").and_then(|rest| rest.split_once(": must specify "))
        {
            return Self::QuotaUnspecified { quota: quota.to_owned(), what: what.to_owned() };
        }
        if let Some(rest) = after(message, "unable to create new content in namespace ") {
            return Self::NamespaceLost { namespace: rest.split(' ').next().unwrap_or_default().to_owned() };
        }
        if message.contains("error looking up service account") {
            return Self::NotYet;
        }
        if let Some(by) = policy(message) {
            return Self::Policy { by };
        }
        Self::Other
    }

    /// What the user, or who administers the cluster, can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Denied(denied) => denied.hint(),
            Self::Escalation { user, .. } => format!(
                "nobody may grant rights that they don't have: who administers the cluster gives {user} those rules, or the verb `escalate` \
                 on roles; or ask for less under `rbac:`"
            ),
            Self::QuotaExceeded { quota, figures } => {
                let figures = if figures.is_empty() { String::new() } else { format!(" ({figures})") };
                format!(
                    "ask for less (`replicas`, `resources`), or have ResourceQuota {quota:?} of that namespace raised{figures}"
                )
            }
            Self::QuotaUnspecified { quota, what } => format!(
                "ResourceQuota {quota:?} counts what pods ask for, so each must say it: {what}; in the file: `resources: {{ cpu: 500m, \
                 memory: 256Mi }}`"
            ),
            Self::Policy { by } => {
                format!("{by} is a rule of that cluster: change what it objects to, or ask who administers it")
            }
            Self::NamespaceLost { .. } => {
                "it was not envctl that deleted it: `envctl down`, then `envctl up` makes another".to_owned()
            }
            Self::NotAuthenticated => {
                "its credentials have expired or were revoked: log in again, as for kubectl; the session takes what is new".to_owned()
            }
            Self::NotYet | Self::Other => return None,
        })
    }
}

impl Denied {
    fn of(message: &str) -> Option<Self> {
        let rest = &message[message.find("User \"")? + "User ".len()..];
        let user = quoted(rest)?;
        let (verb, rest) = rest[user.len() + 2..].strip_prefix(" cannot ")?.split_once(" resource ")?;
        let (resource, group) = (quoted(rest)?, quoted_after(rest, "in API group ")?);
        let namespace = quoted_after(rest, "in the namespace ").filter(|_| resource != "namespaces");
        Some(Self {
            user: user.to_owned(),
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            group: group.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    }

    /// The RBAC rule that would allow it, as it stands in a role. What is applied is first made: that needs two verbs.
    pub fn rule(&self) -> String {
        let verbs = if self.verb == "patch" { r#""create", "patch""#.to_owned() } else { format!("{:?}", self.verb) };
        format!("- apiGroups: [{:?}]\n  resources: [{:?}]\n  verbs: [{verbs}]", self.group, self.resource)
    }

    fn hint(&self) -> String {
        let rule = self.rule().replace('\n', "\n  ");
        format!(
            "a rule is missing; who administers the cluster adds it to a ClusterRole that is bound to user {:?} (a ClusterRole, since each \
             session has a namespace of its own):\n\n  {rule}",
            self.user
        )
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, verb, resource, group, namespace } = self;
        let group = if group.is_empty() { "the core group" } else { group };
        write!(formatter, "user {user:?} may not {verb} {resource} of {group}")?;
        match namespace {
            Some(namespace) => write!(formatter, " in namespace {namespace}"),
            None => write!(formatter, " in the cluster"),
        }
    }
}

/// What a client's error says, without the debugging form that kube-rs adds to the API's words, and with all that caused it.
pub fn in_words(error: &kube::Error) -> Cow<'_, str> {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => Cow::Borrowed(&status.message),
        kube::Error::Api(status) => Cow::Owned(format!("{} ({})", status.reason, status.code)),
        // What kind of error it is for kube-rs says nothing to people.
        kube::Error::Service(cause) => Cow::Owned(chain(&**cause)),
        kube::Error::HyperError(cause) => Cow::Owned(chain(cause)),
        other => Cow::Owned(chain(other)),
    }
}

/// An error with what caused it: client errors say little by themselves.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

/// The policy that a refusal names. Whatever else an admission plugin of the API server forbids is named by its own words.
fn policy(message: &str) -> Option<String> {
    for kind in ["ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"] {
        if let Some(name) = after(message, &format!("{kind} '")).and_then(|rest| rest.split('\'').next()) {
            return Some(format!("{kind} {name}"));
        }
    }
    for before in ["admission webhook ", "failed calling webhook "] {
        if let Some(name) = quoted_after(message, before) {
            return Some(format!("admission webhook {name}"));
        }
    }
    if let Some(level) = quoted_after(message, "violates PodSecurity ") {
        return Some(format!("PodSecurity {level}"));
    }
    message.contains(" is forbidden: ").then(|| "an admission plugin".to_owned())
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// The content of the quotes that `text` begins with. Names have no quotes in them.
fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.split('"').next()
}

fn quoted_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    after(text, mark).and_then(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kubernetes 1.36.3 answered.
    const DENIED: &str = r#"deployments.apps is forbidden: User "system:serviceaccount:probe:poor" cannot list resource "deployments" in API group "apps" in the namespace "probe""#;
    const NAMESPACE: &str = r#"namespaces "kube-system" is forbidden: User "poor" cannot get resource "namespaces" in API group "" in the namespace "kube-system""#;

    #[test]
    fn a_denied_request_names_the_rule_that_is_missing() {
        let Refusal::Denied(denied) = Refusal::of(403, DENIED) else { panic!("{DENIED}") };
        assert_eq!(
            denied.to_string(),
            r#"user "system:serviceaccount:probe:poor" may not list deployments of apps in namespace probe"#
        );
        assert_eq!(denied.rule(), "- apiGroups: [\"apps\"]\n  resources: [\"deployments\"]\n  verbs: [\"list\"]");
        let Refusal::Denied(denied) = Refusal::of(403, NAMESPACE) else { panic!("{NAMESPACE}") };
        assert_eq!(denied.to_string(), r#"user "poor" may not get namespaces of the core group in the cluster"#);
        let patch = DENIED.replace("list", "patch");
        let Refusal::Denied(denied) = Refusal::by_words(&patch) else { panic!("{patch}") };
        assert!(denied.rule().ends_with(r#"verbs: ["create", "patch"]"#), "applying makes what isn't there");
    }

    #[test]
    fn each_kind_of_refusal_is_known_by_its_words() {
        let of = |code, message: &str| Refusal::of(code, message);
        assert_eq!(
            of(
                403,
                r#"configmaps "z" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"#
            ),
            Refusal::QuotaExceeded {
                quota: "q".to_owned(),
                figures: "requested: pods=1, used: pods=1, limited: pods=1".to_owned()
            }
        );
        assert_eq!(
            of(403, r#"pods "p" is forbidden: failed quota: q2: must specify limits.memory for: p"#),
            Refusal::QuotaUnspecified { quota: "q2".to_owned(), what: "limits.memory for: p".to_owned() }
        );
        let by = |message: &str| match of(422, message) {
            Refusal::Policy { by } => by,
            other => panic!("{message}: {other:?}"),
        };
        assert_eq!(
            by(
                r#"deployments.apps "x" is forbidden: ValidatingAdmissionPolicy 'no-x' with binding 'b' denied request: x is no name"#
            ),
            "ValidatingAdmissionPolicy no-x"
        );
        assert_eq!(
            by(r#"admission webhook "x.example.com" denied the request: no"#),
            "admission webhook x.example.com"
        );
        assert_eq!(
            by(r#"pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true"#),
            "PodSecurity restricted:latest"
        );
        assert_eq!(by(r#"pods "p" is forbidden: maximum memory usage per Pod is 1Gi"#), "an admission plugin");
        let lost = Refusal::NamespaceLost { namespace: "gone".to_owned() };
        assert_eq!(
            of(
                403,
                r#"configmaps "d" is forbidden: unable to create new content in namespace gone because it is being terminated"#
            ),
            lost
        );
        assert_eq!(of(404, r#"namespaces "gone" not found"#), lost);
        assert_eq!(
            of(
                403,
                r#"pods "a" is forbidden: error looking up service account a/default: serviceaccount "default" not found"#
            ),
            Refusal::NotYet
        );
        assert_eq!(of(401, "Unauthorized"), Refusal::NotAuthenticated);
        assert_eq!(of(422, r#"Service "x" is invalid: spec.ports: Required value"#), Refusal::Other);
    }

    #[test]
    fn granting_more_than_one_has_lists_what_is_lacking() {
        let message = "roles.rbac.authorization.k8s.io \"all\" is forbidden: user \"poor\" (groups=[\"a\"]) is attempting to grant RBAC \
                       permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"*\"]}";
        let rules = vec![r#"{APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#.to_owned()];
        assert_eq!(Refusal::of(403, message), Refusal::Escalation { user: "poor".to_owned(), rules });
    }
}
