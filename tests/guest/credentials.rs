//! Credentials that are over, or never were any.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::user::{User, needed};

/// A credential plugin that gives what is in `token`, and says no more about it.
fn plugin(rig: &Rig, token: &Path) -> Value {
    let path = rig.home.path().join("plugin");
    let credential =
        r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}"#;
    let script = format!(
        "#!/bin/sh\n[ -s {0} ] || {{ echo please log in >&2; exit 1; }}\nprintf '{credential}' \"$(cat {0})\"\n",
        token.display()
    );
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("set");
    json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": path, "interactiveMode": "IfAvailable"}})
}

/// Returns when the API server has forgotten the token, too: it knows one for some seconds after it is revoked.
fn revoke(rig: &Rig, user: &User<'_>, secret: &str, token: &str) {
    rig.kubectl(&["-n", &user.name, "delete", "secret", secret]);
    let nobody: PathBuf = user.kubeconfig(&json!({"token": token}));
    let nobody = nobody.display().to_string();
    while rig.try_kubectl(&["--kubeconfig", &nobody, "get", "namespaces"]).code == Some(0) {}
}

fn change(rig: &Rig, name: &str) {
    let path = rig.home.path().join("project/envctl.yaml");
    let text = std::fs::read_to_string(path).expect("a file");
    let (before, rest) = text.split_once("args: [").expect("arguments");
    let (_, after) = rest.split_once(']').expect("their end");
    rig.write(&format!("{before}args: [{name}]{after}"));
}

#[test]
fn a_token_that_is_over_is_told_with_whose_it_is_and_what_to_do() {
    let Some(mut rig) = Rig::new() else { return };
    let other = Rig::new().expect("the same cluster");
    let user = User::new(&other, "over", &needed());
    let token = user.token(Some("login"));
    other.kubectl(&["-n", &user.name, "delete", "secret", "login"]);
    rig.kubeconfig = user.kubeconfig(&json!({"token": token}));
    let ran = rig.expect(4, &["up"]);
    assert!(ran.stderr.contains("[CredentialsRefused]"), "{}", ran.stderr);
    let context = rig.context();
    assert!(ran.stderr.contains(&format!("does not accept the credentials of context {context:?}")), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: log in again: its token has expired or was revoked"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(&token) && rig.sessions().is_empty());
}

#[test]
fn a_credential_plugin_that_fails_is_told_in_its_own_words() {
    let Some(mut rig) = Rig::new() else { return };
    let other = Rig::new().expect("the same cluster");
    let user = User::new(&other, "plugin", &json!([]));
    let token = rig.home.path().join("token");
    rig.kubeconfig = user.kubeconfig(&plugin(&rig, &token));
    let ran = rig.expect(4, &["up"]);
    assert!(ran.stderr.contains("[CredentialsRefused]") && ran.stderr.contains("please log in"), "{}", ran.stderr);
    assert!(ran.stderr.contains("they come from the credential plugin"), "{}", ran.stderr);
    assert!(rig.sessions().is_empty());
}

#[test]
fn a_session_takes_the_credentials_of_the_next_login() {
    let (Some(mut by_plugin), Some(mut by_token), Some(mut by_file)) = (Rig::new(), Rig::new(), Rig::new()) else {
        return;
    };
    let admin = Rig::new().expect("the same cluster");
    let user = User::new(&admin, "again", &needed());
    let old = user.token(Some("login"));
    let file = by_plugin.home.path().join("token");
    std::fs::write(&file, &old).expect("written");
    by_plugin.kubeconfig = by_plugin.home.path().join("kubeconfig");
    std::fs::copy(user.kubeconfig(&plugin(&by_plugin, &file)), &by_plugin.kubeconfig).expect("copied");
    by_token.kubeconfig = by_token.home.path().join("kubeconfig");
    std::fs::copy(user.kubeconfig(&json!({"token": old})), &by_token.kubeconfig).expect("copied");
    by_file.kubeconfig = by_file.home.path().join("kubeconfig");
    std::fs::copy(user.kubeconfig(&json!({"tokenFile": file})), &by_file.kubeconfig).expect("copied");
    for rig in [&by_plugin, &by_token, &by_file] {
        rig.expect(0, &["up"]);
    }
    revoke(&admin, &user, "login", &old);
    // Nobody has logged in yet.
    change(&by_token, "early");
    let ran = by_token.expect(4, &["up"]);
    assert!(ran.stderr.contains("[CredentialsRefused]") && ran.stderr.contains("log in again"), "{}", ran.stderr);
    let ran = by_token.expect(4, &["logs", "web"]);
    assert!(ran.stderr.contains("log in again"), "{}", ran.stderr);
    change(&by_file, "early");
    let ran = by_file.expect(4, &["up"]);
    let told = ran.stderr.contains("[CredentialsRefused]") && ran.stderr.contains("the session takes what is new");
    assert!(told, "{}", ran.stderr);
    let new = user.token(Some("again"));
    std::fs::write(&file, &new).expect("written");
    std::fs::copy(user.kubeconfig(&json!({"token": new})), &by_token.kubeconfig).expect("copied");
    for rig in [&by_plugin, &by_token, &by_file] {
        change(rig, "later");
        rig.expect(0, &["up"]);
        let address = rig.record()["addresses"]["web.http"].as_str().expect("an address").to_owned();
        assert!(rig.get(&address).ends_with("later\n"));
        rig.expect(0, &["logs", "web"]);
        rig.expect(0, &["down"]);
        assert!(rig.sessions().is_empty());
    }
}

#[test]
fn what_is_left_for_lack_of_credentials_is_removed_after_the_next_login() {
    let Some(mut rig) = Rig::new() else { return };
    let admin = Rig::new().expect("the same cluster");
    let user = User::new(&admin, "left", &needed());
    let old = user.token(Some("login"));
    rig.kubeconfig = rig.home.path().join("kubeconfig");
    std::fs::copy(user.kubeconfig(&json!({"token": old})), &rig.kubeconfig).expect("copied");
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    revoke(&admin, &user, "login", &old);
    let ran = rig.expect(6, &["down"]);
    assert!(ran.stderr.contains("log in again") && ran.stderr.contains("`envctl gc` tries again"), "{}", ran.stderr);
    let ran = rig.expect(4, &["gc", "--timeout", "5s"]);
    assert!(ran.stderr.contains(&format!("still there: namespace {namespace}")), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: log in again"), "{}", ran.stderr);
    std::fs::copy(user.kubeconfig(&json!({"token": user.token(Some("again"))})), &rig.kubeconfig).expect("copied");
    rig.expect(0, &["gc"]);
    assert!(!admin.has(&namespace) && rig.sessions().is_empty());
}
