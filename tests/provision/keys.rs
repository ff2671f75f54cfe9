//! Keys issued by services: what a good one gives, and the one screen of each that is not.

use envctl::plan::{NodeId, NodeKind, Plan};
use envctl::provision::{Cause, Revoke, Scope};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use serde_json::{Value, json};

use crate::rig::{Rig, ready, service, service_with};

/// A key that `api` issues by a shell script.
fn key(name: &str, script: &str, more: Value) -> Value {
    let mut spec = json!({"issued": {"exec": {"service": "api", "command": ["sh", "-c", script]}}});
    for (field, value) in more.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    let needs = json!([{"node": NodeId::new(NodeKind::Service, "api"), "condition": "ready", "reason": "issuer"}]);
    json!({"id": NodeId::new(NodeKind::Key, name), "needs": needs, "spec": {"key": spec}})
}

fn with(rig: &Rig, keys: &[Value]) -> Plan {
    let mut plan = rig.plan(vec![service("api", &["hello"], &[])]);
    plan.nodes.extend(keys.iter().map(|key| serde_json::from_value(key.clone()).expect("a node")));
    plan
}

/// What pods would read.
async fn stored(rig: &Rig, name: &str) -> Option<String> {
    let secrets: Api<Secret> = Api::default_namespaced(rig.provisioner.client());
    let secret = secrets.get("envctl-keys").await.expect("the keys' Secret");
    Some(String::from_utf8(secret.data?.get(name)?.0.clone()).expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_issues_a_key_that_stays_until_it_is_rotated_and_is_then_revoked() {
    let Some(mut rig) = Rig::start().await else { return };
    let issue = r"printf 'sk-%s\n' $(cat /proc/sys/kernel/random/uuid)";
    let revoke = json!({"exec": {"service": "api", "command": ["sh", "-c", "read -r key && test -n \"$$key\""]}});
    let mut plan = with(&rig, &[key("API_KEY", issue, json!({ "revoke": revoke }))]);
    let needs: &[(NodeKind, &str)] = &[(NodeKind::Key, "API_KEY")];
    let env = json!({"image": "host", "command": ["hello"], "env": [{"name": "K", "key": "API_KEY"}],
        "ready": {"check": {"http": {"path": "/", "port": "http", "scheme": "HTTP"}}, "interval": "1s", "timeout": "1s", "failures": 3}});
    plan.nodes.push(service_with("user", env, needs));
    let (events, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    assert!(ready(&events, "API_KEY") > ready(&events, "api"));
    assert!(ready(&events, "user") > ready(&events, "API_KEY"));
    let first = rig.provisioner.keys().get("API_KEY").expect("issued").value.clone();
    assert!(first.starts_with("sk-") && !first.contains('\n'), "{first:?}");
    assert_eq!(stored(&rig, "API_KEY").await.as_deref(), Some(first.as_str()));

    // Again: what tests hold stays good, and nothing is restarted.
    let (events, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    assert_eq!(rig.provisioner.keys().get("API_KEY").expect("kept").value, first);
    assert!(ready(&events, "user").is_some_and(|(_, unchanged)| unchanged));

    rig.options.scope = Scope::Keys(["API_KEY".to_owned()].into());
    let (events, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    let second = rig.provisioner.keys().get("API_KEY").expect("issued anew").value.clone();
    assert_ne!(second, first);
    assert_eq!(stored(&rig, "API_KEY").await, Some(second));
    assert!(ready(&events, "user").is_some_and(|(_, unchanged)| !unchanged), "what uses it is restarted");
    assert_eq!(ready(&events, "api"), None, "what doesn't is left alone");
    assert!(!format!("{events:?}").contains("not revoked"), "{events:?}");

    assert!(rig.provisioner.revoke(&plan, Revoke::All).await.is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_screen_of_each_bad_command() {
    let Some(mut rig) = Rig::start().await else { return };
    let cases = [
        ("that_fails", "printf sk%s -half; echo 'no such user: demo' >&2; exit 3", json!({})),
        ("that_hangs", "exec sleep 600", json!({"timeout": "300ms"})),
        ("that_prints_nothing", "echo 'nobody is logged in' >&2", json!({})),
        ("that_prints_two_lines", "printf 'sk%s\\n' -one -two", json!({})),
        ("that_prints_no_text", r"printf '\377\376'", json!({})),
    ];
    for (name, script, more) in cases {
        let plan = with(&rig, &[key("API_KEY", script, more)]);
        let (_, outcome) = rig.up(&plan).await;
        let failure = outcome.expect_err(name);
        assert!(matches!(failure.cause, Cause::KeyNotIssued { .. }), "{failure:?}");
        assert_eq!(failure.cause.exit_code(), 5);
        let text = failure.render();
        assert!(!text.contains("sk-"), "{text}");
        let pod = text.find("log of api-").map(|at| text[at + 7..].split('/').next().unwrap_or_default().to_owned());
        insta::assert_snapshot!(name, text.replace(&pod.unwrap_or_default(), "POD"));
    }
    // None of them stands in the way of the next, nor was any left behind.
    let (_, outcome) = rig.up(&with(&rig, &[key("API_KEY", "echo sk-good", json!({}))])).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    assert_eq!(stored(&rig, "API_KEY").await.as_deref(), Some("sk-good"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_fails_is_told_and_stops_nothing() {
    let Some(mut rig) = Rig::start().await else { return };
    let revoke = json!({"exec": {"service": "api", "command": ["sh", "-c", "read -r key; echo \"cannot revoke $$key\" >&2; exit 1"]}});
    let plan = with(&rig, &[key("API_KEY", "echo sk-1234", json!({ "revoke": revoke }))]);
    let (_, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    let told = rig.provisioner.revoke(&plan, Revoke::All).await;
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("key API_KEY was not revoked: the command `sh -c"), "{told:?}");
    assert!(told[0].ends_with("exited with code 1 (cannot revoke [redacted API_KEY])"), "{told:?}");
    rig.end().await;
}
