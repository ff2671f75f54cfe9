//! What a cluster refuses: each named with what would cure it, and nothing left behind.

use serde_json::{Value, json};

use crate::rig::{IMAGE, Ran, Rig};
use crate::user::{User, needed, without};

/// The rules that a hint prints, as they would be pasted.
fn printed(ran: &Ran) -> Vec<Value> {
    let (_, hint) = ran.stderr.split_once("a rule is missing;").unwrap_or_else(|| panic!("no hint: {}", ran.stderr));
    let (_, rule) = hint.split_once("\n\n").expect("a rule");
    let lines: String =
        rule.lines().take_while(|line| line.starts_with("  ")).map(|line| format!("{line}\n")).collect();
    serde_yaml::from_str(&lines).unwrap_or_else(|error| panic!("{error}: {lines}"))
}

fn together(rules: &Value, more: Vec<Value>) -> Value {
    rules.as_array().expect("rules").iter().cloned().chain(more).collect()
}

#[test]
fn what_the_readme_says_is_needed_is_enough() {
    let Some(mut rig) = Rig::new() else { return };
    let other = Rig::new().expect("the same cluster");
    let user = User::new(&other, "enough", &needed());
    rig.kubeconfig = user.kubeconfig(&json!({"token": user.token(None)}));
    rig.add("manifests: [{ path: all.yaml }]\n");
    let objects = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}),
    ];
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    std::fs::write(rig.home.path().join("project/all.yaml"), text.join("\n---\n")).expect("written");
    let ran = rig.expect(0, &["up"]);
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    let address = rig.record()["addresses"]["web.http"].as_str().expect("an address").to_owned();
    assert!(rig.get(&address).ends_with("web\n"));
    assert!(rig.expect(0, &["logs", "web"]).stdout.contains("web listens on 8080"));
    rig.expect(3, &["exec", "web", "--", "/bin/sh", "-c", "exit 3"]);
    rig.expect(0, &["gc", "--dry-run"]);
    let namespace = rig.namespace();
    rig.expect(0, &["down"]);
    assert!(!other.has(&namespace));
}

#[test]
fn a_verb_that_is_missing_is_named_with_the_rule_to_add() {
    let Some(mut rig) = Rig::new() else { return };
    let other = Rig::new().expect("the same cluster");
    let rules = without(&needed(), "deployments", "patch");
    let user = User::new(&other, "patch", &rules);
    rig.kubeconfig = user.kubeconfig(&json!({"token": user.token(None)}));
    let ran = rig.expect(3, &["up"]);
    let account = format!("system:serviceaccount:{}:{}", user.name, user.name);
    assert!(ran.stderr.contains("service web failed: the cluster refused Deployment/web"), "{}", ran.stderr);
    assert!(ran.stderr.contains("[Forbidden]"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("bound to user {account:?}")), "{}", ran.stderr);
    assert!(rig.sessions().is_empty());
    user.may(&together(&rules, printed(&ran)));
    rig.expect(0, &["up"]);
    rig.expect(0, &["down"]);
}

#[test]
fn who_may_not_watch_is_told_instead_of_waiting_for_ever() {
    let Some(mut rig) = Rig::new() else { return };
    let other = Rig::new().expect("the same cluster");
    let rules = without(&without(&needed(), "deployments", "watch"), "deployments", "list");
    let user = User::new(&other, "watch", &rules);
    rig.kubeconfig = user.kubeconfig(&json!({"token": user.token(None)}));
    let ran = rig.expect(3, &["up"]);
    assert!(ran.stderr.contains("the cluster doesn't let Deployment objects be watched"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("[Forbidden]") && ran.stderr.contains("resources: [\"deployments\"]"),
        "{}",
        ran.stderr
    );
    assert!(rig.sessions().is_empty());
}

#[test]
fn who_may_not_make_namespaces_is_told_and_nothing_is_recorded() {
    let Some(mut rig) = Rig::new() else { return };
    let other = Rig::new().expect("the same cluster");
    let user = User::new(&other, "namespace", &without(&needed(), "namespaces", "create"));
    rig.kubeconfig = user.kubeconfig(&json!({"token": user.token(None)}));
    let ran = rig.expect(3, &["up"]);
    assert!(ran.stderr.contains("[Forbidden]"), "{}", ran.stderr);
    assert_eq!(printed(&ran), [json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]})]);
    assert!(rig.sessions().is_empty());
}

#[test]
fn who_may_not_identify_the_cluster_is_told_the_rule() {
    let Some(mut rig) = Rig::new() else { return };
    let other = Rig::new().expect("the same cluster");
    let user = User::new(&other, "identity", &without(&needed(), "namespaces", "get"));
    rig.kubeconfig = user.kubeconfig(&json!({"token": user.token(None)}));
    let ran = rig.expect(4, &["up"]);
    assert!(ran.stderr.contains("cannot be identified"), "{}", ran.stderr);
    assert_eq!(printed(&ran), [json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]})]);
}

#[test]
fn a_right_that_the_user_has_not_cannot_be_granted_to_a_service() {
    let Some(mut rig) = Rig::new() else { return };
    let other = Rig::new().expect("the same cluster");
    let user = User::new(&other, "grant", &needed());
    rig.kubeconfig = user.kubeconfig(&json!({"token": user.token(None)}));
    rig.write(&format!(
        "name: guest\nservices:\n  web: {{ image: {IMAGE}, rbac: [{{ apiGroups: [apps], resources: [daemonsets], verbs: [get] }}] }}\n\
         images: {{ {IMAGE}: {{ process: {{ entrypoint: [hello] }} }} }}\n"
    ));
    let ran = rig.expect(3, &["up"]);
    assert!(ran.stderr.contains("[Forbidden]") && ran.stderr.contains("daemonsets"), "{}", ran.stderr);
    assert!(ran.stderr.contains("nobody may grant rights that they don't have"), "{}", ran.stderr);
}

#[test]
fn a_quota_that_is_used_up_is_named_with_its_figures() {
    let Some(rig) = Rig::new() else { return };
    // The second pod comes when the first is ready: by then the quota's controller has counted.
    rig.write(&format!(
        "name: guest\nmanifests: [{{ path: quota.yaml }}]\nservices:\n  first: {{ image: {IMAGE}, needs: [quota.yaml] }}\n  \
         second: {{ image: {IMAGE}, needs: [first] }}\nimages: {{ {IMAGE}: {{ process: {{ entrypoint: [hello] }} }} }}\n"
    ));
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}});
    std::fs::write(rig.home.path().join("project/quota.yaml"), quota.to_string()).expect("written");
    let ran = rig.expect(3, &["up"]);
    assert!(ran.stderr.contains("service second failed: its pods cannot be created"), "{}", ran.stderr);
    assert!(ran.stderr.contains("[QuotaExceeded]"), "{}", ran.stderr);
    assert!(ran.stderr.contains("have ResourceQuota \"one\" of that namespace raised"), "{}", ran.stderr);
    assert!(ran.stderr.contains("used: pods=1, limited: pods=1"), "{}", ran.stderr);
    assert!(rig.sessions().is_empty());
}

#[test]
fn a_policy_that_refuses_is_named_with_what_it_says() {
    let Some(rig) = Rig::new() else { return };
    let name = format!("envctl-test-{}", std::process::id());
    let (policy, binding) =
        (format!("validatingadmissionpolicy/{name}"), format!("validatingadmissionpolicybinding/{name}"));
    rig.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"],
            }]},
            "validations": [{"expression": "has(object.metadata.labels.team)", "message": "say whose it is: label team"}],
        },
    }));
    // Nobody else's Deployments are to be refused: only this session's namespace is meant.
    rig.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"envctl.dev/session": rig.id()}}},
        },
    }));
    // The API server takes a moment to know a policy: it is asked until it refuses, in a namespace that it is for as well.
    let labels = json!({"envctl.dev/session": rig.id()});
    rig.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
    let dry = ["-n", &name, "create", "deployment", "x", "--image=x", "--dry-run=server"];
    while rig.try_kubectl(&dry).code == Some(0) {}
    rig.kubectl(&["delete", "namespace", &name]);
    let ran = rig.run(&["up"]);
    rig.kubectl(&["delete", &policy, &binding]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("[AdmissionRefused]"), "{}", ran.stderr);
    assert!(ran.stderr.contains("say whose it is: label team"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains(&format!("ValidatingAdmissionPolicy {name} is a rule of that cluster")),
        "{}",
        ran.stderr
    );
}
