//! Bodies and answers in other forms than JSON objects: protobuf, tables, OpenAPI.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::common;

/// A body that client-go's own serializer made, by the kind in it.
fn protobuf(kind: &str) -> Vec<u8> {
    include_str!("../../src/embedded/apiserver/schema/protobuf/golden/vectors.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, object)| serde_json::from_str::<Value>(object).expect("JSON")["kind"] == kind)
        .map(|(body, _)| base64::engine::general_purpose::STANDARD.decode(body).expect("base64"))
        .expect("a vector of that kind")
}

async fn send(client: &kube::Client, method: &str, path: &str, kind: &str) -> Result<Value, kube::Error> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/vnd.kubernetes.protobuf")
        // client-go prefers protobuf and takes JSON.
        .header("accept", "application/vnd.kubernetes.protobuf,application/json")
        .body(protobuf(kind))
        .expect("a request");
    client.request(request).await
}

#[tokio::test]
async fn what_client_go_sends_as_protobuf_is_stored() {
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    for (path, kind, pointer, expected) in [
        ("/api/v1/namespaces", "Namespace", "/status/phase", json!("Active")),
        ("/api/v1/namespaces/default/configmaps", "ConfigMap", "/binaryData/b", json!("AQ==")),
        ("/api/v1/namespaces/default/secrets", "Secret", "/data/a", json!("AAH/")),
        ("/api/v1/namespaces/default/services", "Service", "/spec/ports/0/targetPort", json!(8080)),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            "Lease",
            "/spec/renewTime",
            json!("2023-11-14T22:13:20.123456Z"),
        ),
        ("/apis/apps/v1/namespaces/default/controllerrevisions", "ControllerRevision", "/data/a", json!([1])),
    ] {
        let created = send(&client, "POST", path, kind).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(created.pointer(pointer), Some(&expected), "{kind}: {created}");
        assert!(created["metadata"]["uid"].is_string(), "{kind}");
    }
    let review = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let review = send(&client, "POST", review, "SubjectAccessReview").await.expect("an answer");
    assert_eq!(review["status"]["allowed"], false);
    // Its pod template never said when to start again.
    let refused = send(&client, "POST", "/apis/batch/v1/namespaces/default/jobs", "Job").await.expect_err("invalid");
    let words = "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"";
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.code == 422 && status.message.contains(words)),
        "{refused}"
    );
    // Options come as protobuf too: foreground deletion waits for the collector, who isn't here.
    let map = "/api/v1/namespaces/default/configmaps/s";
    let going = send(&client, "DELETE", map, "DeleteOptions").await.expect("accepted");
    assert_eq!(going["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let broken = http::Request::post("/api/v1/namespaces/default/configmaps")
        .header("content-type", "application/vnd.kubernetes.protobuf")
        .body(b"k8s\0\x0a\xff".to_vec())
        .expect("a request");
    let broken = client.request::<Value>(broken).await.expect_err("broken");
    assert!(matches!(&broken, kube::Error::Api(status) if status.code == 400), "{broken}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_table_has_the_columns_of_its_kind() {
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    let table = |path: &str| {
        http::Request::get(path)
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
            .body(Vec::new())
            .expect("a request")
    };
    let services: Value = client.request(table("/api/v1/services?limit=500")).await.expect("a table");
    assert_eq!((&services["kind"], &services["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let names: Vec<_> =
        services["columnDefinitions"].as_array().expect("columns").iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"]);
    let row = &services["rows"][0];
    assert_eq!(
        row["cells"].as_array().expect("cells")[..5],
        *json!(["kubernetes", "ClusterIP", "10.96.0.1", "<none>", "443/TCP"]).as_array().expect("a list")
    );
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    let whole: Value =
        client.request(table("/api/v1/services?includeObject=Object")).await.expect("a table with objects");
    assert_eq!(whole["rows"][0]["object"]["spec"]["clusterIP"], "10.96.0.1");
    cluster.stop().await;
}

#[tokio::test]
async fn openapi_says_what_kubectl_looks_for() {
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    let get = |path: &str| http::Request::get(path).body(Vec::new()).expect("a request");
    let index: Value = client.request(get("/openapi/v3")).await.expect("an index");
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a document's address");
    let document: Value = client.request(get(url)).await.expect("a document");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object(), "{patch}");
    let parameters = patch["parameters"].as_array().expect("parameters");
    assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"), "{patch}");
    let missing = client.request::<Value>(get("/openapi/v3/apis/none/v1")).await.expect_err("no such group");
    assert!(matches!(missing, kube::Error::Api(status) if status.code == 404));
    cluster.stop().await;
}
