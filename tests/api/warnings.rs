//! What nothing acts on says so: kinds by their registry row, fields by what the nodes ignore.

use envctl::embedded::apiserver::schema::{RESOURCES, Resource};
use envctl::embedded::apiserver::{ApiServer, Config, Unenforced, User};
use serde_json::{Value, json};

/// What something in this cluster acts on. Every other kind warns.
const ENFORCED: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "namespaces",
            "pods",
            "services",
            "configmaps",
            "secrets",
            "serviceaccounts",
            "events",
            "nodes",
            "persistentvolumes",
            "persistentvolumeclaims",
            "bindings",
        ],
    ),
    ("apps", &["deployments", "replicasets"]),
    ("batch", &["jobs"]),
    ("events.k8s.io", &["events"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("coordination.k8s.io", &["leases"]),
    ("rbac.authorization.k8s.io", &["roles", "rolebindings", "clusterroles", "clusterrolebindings"]),
];

/// The least that makes an object of the kind valid here, besides its name.
fn body(row: &Resource) -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let workload = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let run = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let rest = match row.plural {
        "pods" => json!({"spec": template["spec"]}),
        "services" => json!({"spec": {"ports": [{"port": 80}]}}),
        "deployments" | "replicasets" | "daemonsets" => json!({"spec": workload}),
        "statefulsets" => {
            let mut workload = workload;
            workload["serviceName"] = "s".into();
            json!({"spec": workload})
        }
        "jobs" => json!({"spec": {"template": run}}),
        "cronjobs" => json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": run}}}}),
        "replicationcontrollers" => json!({"spec": {"selector": {"a": "b"}, "template": template}}),
        "podtemplates" => json!({"template": template}),
        _ => json!({}),
    };
    let mut object = rest;
    object["apiVersion"] = row.api_version().into();
    object["kind"] = row.kind.into();
    object["metadata"] = json!({"name": "a"});
    object
}

/// The warnings of a dry-run create, and the answer.
async fn create(client: &kube::Client, row: &Resource, object: &Value) -> (Vec<String>, Value) {
    let prefix = if row.group.is_empty() { "/api" } else { "/apis" };
    let namespace = if row.namespaced { "/namespaces/default" } else { "" };
    let uri = format!("{prefix}/{}{namespace}/{}?dryRun=All", row.api_version(), row.plural);
    let request = http::Request::post(uri).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(object).expect("JSON").into()).expect("a request");
    let response = client.send(request).await.expect("an answer");
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|warning| warning.to_str().expect("text").to_owned()).collect();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
    (warnings, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn every_kind_that_nothing_acts_on_says_so() {
    let api = ApiServer::new(Config::default()).expect("an API server");
    let client = api.client(User::admin());
    let (mut wrong, mut told) = (Vec::new(), 0);
    for row in RESOURCES.iter().filter(|row| row.verbs.contains(&"create") && row.verbs.contains(&"get")) {
        let (warnings, answer) = create(&client, row, &body(row)).await;
        let words =
            format!("{} {}: accepted and stored, but nothing in this cluster enforces it", row.api_version(), row.kind);
        let says = warnings.iter().any(|warning| warning.contains(&words));
        let acts = ENFORCED.iter().any(|(group, plurals)| *group == row.group && plurals.contains(&row.plural));
        told += usize::from(says);
        if answer["kind"] == "Status" || says == acts {
            wrong.push(format!("{}/{}: {warnings:?} {}", row.api_version(), row.plural, answer["message"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(told > 20, "{told}");
}

#[tokio::test]
async fn fields_that_nodes_ignore_are_told_to_people_only() {
    let fields = |spec: &Value| if spec["hostPID"] == true { vec!["hostPID"] } else { vec![] };
    let unenforced_by_nodes = Unenforced::new(fields);
    let api = ApiServer::new(Config { unenforced_by_nodes, ..Config::default() }).expect("an API server");
    for (plural, path) in [("pods", "/spec"), ("deployments", "/spec/template/spec"), ("jobs", "/spec/template/spec")] {
        let row = RESOURCES.iter().find(|row| row.plural == plural).expect("a row");
        let mut object = body(row);
        let plain = create(&api.client(User::admin()), row, &object).await;
        assert_eq!(plain.0, Vec::<String>::new(), "{plural}: {}", plain.1);
        object.pointer_mut(path).expect("a spec")["hostPID"] = true.into();
        let warned = create(&api.client(User::admin()), row, &object).await;
        let words = format!("{}: accepted, but not enforced by this cluster: hostPID", path[1..].replace('/', "."));
        assert!(warned.0.iter().any(|warning| warning.contains(&words)), "{plural}: {warned:?}");
        let repeated = create(&api.client(User::controller("replicaset-controller")), row, &object).await;
        assert!(!repeated.0.iter().any(|warning| warning.contains(&words)), "{plural}: {repeated:?}");
    }
}
