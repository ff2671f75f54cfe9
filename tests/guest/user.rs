//! People with few rights: a service account of its own, its rights as a ClusterRole, its token in a kubeconfig.

use serde_json::{Value, json};

use crate::rig::Rig;

/// Exists as long as the value does.
pub struct User<'a> {
    rig: &'a Rig,
    /// The name of the service account's namespace, and of all else that is made for it.
    pub name: String,
}

impl<'a> User<'a> {
    /// Who may do only what `rules` say, anywhere.
    pub fn new(rig: &'a Rig, what: &str, rules: &Value) -> Self {
        let user = Self { rig, name: format!("envctl-test-{what}-{}", std::process::id()) };
        let name = &user.name;
        let metadata = json!({"name": name});
        rig.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        rig.apply(
            &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": name}}),
        );
        user.may(rules);
        rig.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": name}],
        }));
        user
    }

    /// Changes what they may do.
    pub fn may(&self, rules: &Value) {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": self.name}, "rules": rules});
        self.rig.apply(&role);
    }

    /// A token of theirs; bound to a Secret of that name, it is valid until [`User::revoke`].
    pub fn token(&self, secret: Option<&str>) -> String {
        let Some(secret) = secret else { return self.rig.kubectl(&["-n", &self.name, "create", "token", &self.name]) };
        self.rig.apply(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": self.name}}),
        );
        let bound = ["--bound-object-kind=Secret", &format!("--bound-object-name={secret}")].map(str::to_owned);
        self.rig.kubectl(&["-n", &self.name, "create", "token", &self.name, &bound[0], &bound[1]])
    }

    /// A kubeconfig with these credentials, in the user's home.
    pub fn kubeconfig(&self, credentials: &Value) -> std::path::PathBuf {
        let admin = self.rig.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&admin).expect("JSON");
        config["users"][0]["user"] = credentials.clone();
        let path = self.rig.home.path().join(format!("{}.kubeconfig", self.name));
        std::fs::write(&path, config.to_string()).expect("written");
        path
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        let name = &self.name;
        let all = ["clusterrolebinding", "clusterrole", "namespace"];
        for kind in all {
            self.rig.try_kubectl(&["delete", kind, name, "--ignore-not-found"]);
        }
    }
}

/// What README.md says that envctl needs on a cluster.
pub fn needed() -> Value {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("kind: ClusterRole\nmetadata: { name: envctl }\n").expect("the role");
    let (rules, _) = rest.split_once("```").expect("its end");
    let role: Value = serde_yaml::from_str(rules).expect("YAML");
    role["rules"].clone()
}

/// Without one verb.
pub fn without(rules: &Value, resource: &str, verb: &str) -> Value {
    let mut found = false;
    let mut left = Vec::new();
    for rule in rules.as_array().expect("rules") {
        let resources = rule["resources"].as_array().expect("resources");
        if !resources.iter().any(|named| named == resource) {
            left.push(rule.clone());
            continue;
        }
        found = true;
        let mut others = rule.clone();
        others["resources"] = resources.iter().filter(|named| *named != resource).cloned().collect();
        let mut this = rule.clone();
        this["resources"] = json!([resource]);
        this["verbs"] =
            rule["verbs"].as_array().expect("verbs").iter().filter(|named| *named != verb).cloned().collect();
        left.extend([others, this]);
    }
    assert!(found, "{resource} is not in the rules");
    left.retain(|rule| rule["resources"] != json!([]) && rule["verbs"] != json!([]));
    left.into()
}
