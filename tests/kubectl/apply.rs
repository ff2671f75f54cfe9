//! apply of both kinds, create, edit, patch, label, replace, diff.

use crate::session::kubectl_edit;
use crate::{kubectl, kubectl_fails, kubectl_input};

fn configmap(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {data}\n")
}

#[test]
fn client_side_apply_merges_three_ways() {
    let name = "client-side";
    let Some(created) = kubectl_input(&["apply", "-f", "-"], &configmap(name, "{a: '1', b: '2'}")) else { return };
    assert_eq!(created.out, "configmap/client-side created\n");
    let again = kubectl_input(&["apply", "-f", "-"], &configmap(name, "{a: '1', b: '2'}")).expect("it is here");
    assert_eq!(again.out, "configmap/client-side unchanged\n");
    kubectl(&["patch", "configmap", name, "--type=merge", "-p", r#"{"data":{"other":"kept"}}"#]);
    let changed = kubectl_input(&["apply", "-f", "-"], &configmap(name, "{a: '3'}")).expect("it is here");
    assert_eq!(changed.out, "configmap/client-side configured\n");
    let data = kubectl(&["get", "configmap", name, "-o", "jsonpath={.data}"]).expect("it is here").json();
    assert_eq!(data, serde_json::json!({"a": "3", "other": "kept"}));
}

#[test]
fn server_side_apply_keeps_owners_apart() {
    let name = "server-side";
    let manifest = configmap(name, "{a: '1', b: '2'}");
    let Some(applied) = kubectl_input(&["apply", "--server-side", "-f", "-"], &manifest) else { return };
    assert_eq!(applied.out, "configmap/server-side serverside-applied\n");
    let other = &["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let conflict = kubectl_fails(other, &configmap(name, "{a: '5'}")).expect("it is here");
    assert!(
        conflict.err.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.a"),
        "{}",
        conflict.err
    );
    let forced = &["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"];
    kubectl_input(forced, &configmap(name, "{a: '5'}"));
    // `a` is the other's now; what the first no longer names goes, what the other owns stays.
    kubectl_input(&["apply", "--server-side", "-f", "-"], &configmap(name, "{c: '3'}"));
    let object =
        kubectl(&["get", "configmap", name, "-o", "json", "--show-managed-fields"]).expect("it is here").json();
    assert_eq!(object["data"], serde_json::json!({"a": "5", "c": "3"}));
    let managers: Vec<_> = object["metadata"]["managedFields"].as_array().expect("managed fields").iter().collect();
    assert_eq!(managers.len(), 2, "{managers:?}");
}

#[test]
fn unknown_fields_are_refused() {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: strict}\ndatta: {a: b}\n";
    let Some(refused) = kubectl_fails(&["apply", "-f", "-"], manifest) else { return };
    assert!(refused.err.contains("unknown field \"datta\""), "{}", refused.err);
    let warned = kubectl_input(&["apply", "--validate=warn", "-f", "-"], manifest).expect("it is here");
    assert!(warned.err.contains("unknown field \"datta\""), "{}", warned.err);
}

#[test]
fn invalid_objects_are_explained_field_by_field() {
    let manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: Bad_Name}\nspec: {ports: [{port: 70000}]}\n";
    let Some(refused) = kubectl_fails(&["create", "-f", "-"], manifest) else { return };
    assert!(refused.err.contains("metadata.name: Invalid value: \"Bad_Name\""), "{}", refused.err);
    assert!(refused.err.contains("spec.ports[0].port: Invalid value: 70000"), "{}", refused.err);
}

#[test]
fn edit_label_annotate_patch_and_replace_change_an_object() {
    let Some(_) = kubectl(&["create", "configmap", "edited", "--from-literal=colour=red"]) else { return };
    let edited = kubectl_edit(&["edit", "configmap", "edited"], "sed -i s/red/green/").expect("it is here");
    assert_eq!(edited.out, "configmap/edited edited\n");
    kubectl(&["label", "configmap", "edited", "size=small"]);
    kubectl(&["annotate", "configmap", "edited", "note=here"]);
    let selected =
        kubectl(&["get", "configmap", "-l", "size in (small, large),!other", "-o", "name"]).expect("it is here");
    assert_eq!(selected.out, "configmap/edited\n");
    kubectl(&[
        "patch",
        "configmap",
        "edited",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/data/shape","value":"round"}]"#,
    ]);
    let object = kubectl(&["get", "configmap", "edited", "-o", "json"]).expect("it is here").json();
    assert_eq!(object["data"], serde_json::json!({"colour": "green", "shape": "round"}));
    assert_eq!(object["metadata"]["annotations"]["note"], "here");
    kubectl_input(&["replace", "-f", "-"], &configmap("edited", "{only: this}"));
    let replaced = kubectl(&["get", "configmap", "edited", "-o", "jsonpath={.data}"]).expect("it is here");
    assert_eq!(replaced.out, r#"{"only":"this"}"#);
    let mut stale = object;
    stale["data"]["late"] = "yes".into();
    let conflict = kubectl_fails(&["replace", "-f", "-"], &stale.to_string()).expect("it is here");
    assert!(conflict.err.contains("the object has been modified"), "{}", conflict.err);
}

#[test]
fn create_makes_every_kind_it_knows() {
    let Some(_) = kubectl(&["create", "namespace", "made"]) else { return };
    for command in [
        &["create", "-n", "made", "configmap", "one", "--from-literal=a=b"][..],
        &["create", "-n", "made", "secret", "generic", "one", "--from-literal=password=hunter2"],
        &["create", "-n", "made", "deployment", "one", "--image=hello"],
        &["create", "-n", "made", "service", "clusterip", "one", "--tcp=80:8080"],
        &["create", "-n", "made", "serviceaccount", "one"],
        &["create", "-n", "made", "job", "one", "--image=sh", "--", "true"],
        &["create", "clusterrole", "made", "--verb=get", "--resource=pods"],
        &["create", "clusterrolebinding", "made", "--clusterrole=made", "--user=somebody"],
    ] {
        kubectl(command);
    }
    let twice = kubectl_fails(&["create", "-n", "made", "configmap", "one"], "").expect("it is here");
    assert!(twice.err.contains("configmaps \"one\" already exists"), "{}", twice.err);
    let secret =
        kubectl(&["get", "-n", "made", "secret", "one", "-o", "jsonpath={.data.password}"]).expect("it is here");
    assert_eq!(secret.out, "aHVudGVyMg==");
    kubectl(&["delete", "namespace", "made", "--timeout=30s"]);
    kubectl(&["delete", "clusterrole,clusterrolebinding", "made"]);
}
