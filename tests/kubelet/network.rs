//! Services between pods, by name and by address. Slices are made here, as the controller would.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::rig::{Rig, shell};

fn ip(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).expect("an address")
}

async fn slice(rig: &Rig, service: &str, port: u16, pods: &[&Pod]) {
    let endpoints: Vec<Value> =
        pods.iter().map(|pod| json!({"addresses": [ip(pod)], "conditions": {"ready": true}})).collect();
    let slice = json!({"metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": port, "protocol": "TCP"}], "endpoints": endpoints});
    rig.create("discovery.k8s.io/v1", "EndpointSlice", slice).await;
}

/// What `host` answers on port 80.
fn ask(host: &str) -> String {
    format!("bash -c 'exec 3<>/dev/tcp/{host}/80 && printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3 && tail -n 1 <&3'")
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_reached_by_name_and_address() {
    let Some(rig) = Rig::start().await else { return };
    let serving = |name: &str| json!({"containers": [{"name": "main", "command": ["hello", name], "readinessProbe": {"httpGet": {"port": 8080}}}]});
    rig.pod("one", serving("one")).await;
    rig.pod("two", serving("two")).await;
    let (one, two) = (rig.until_ready("one").await, rig.until_ready("two").await);
    let port = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let service = rig.create("v1", "Service", json!({"metadata": {"name": "web"}, "spec": {"ports": port}})).await;
    let address = service.data["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    slice(&rig, "web", 8080, &[&one]).await;
    let none = json!({"metadata": {"name": "peers"}, "spec": {"clusterIP": "None", "ports": port}});
    rig.create("v1", "Service", none).await;
    slice(&rig, "peers", 8080, &[&one, &two]).await;

    // The proxy follows its watch: what it serves is awaited from the outside first, by the dialer, which waits on the same table.
    rig.reach("web", 80).await;
    rig.reach("peers", 80).await;
    rig.pod("client", json!({"containers": [shell("exec sleep 1000")]})).await;
    rig.until_ready("client").await;
    for host in ["web", "web.default", "web.default.svc.cluster.local", address.as_str()] {
        assert_eq!(rig.exec("client", &ask(host)).await, ("one\n".to_owned(), 0), "{host}");
    }
    let (found, _) = rig.exec("client", "getent ahostsv4 peers | cut -d ' ' -f 1 | sort -u").await;
    let mut expected = [ip(&one), ip(&two)];
    expected.sort();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "headless: the pods themselves");
    let (_, code) = rig.exec("client", "getent hosts nobody.default.svc.cluster.local").await;
    assert_eq!(code, 2, "no such name");
    // Variables of the services that were there before the pod.
    assert_eq!(rig.exec("client", "echo $WEB_SERVICE_HOST:$WEB_SERVICE_PORT").await.0, format!("{address}:80\n"));

    // Without a ready endpoint nobody listens: refused, not lost.
    let silent = rig.create("v1", "Service", json!({"metadata": {"name": "nobody"}, "spec": {"ports": port}})).await;
    let (said, code) = rig
        .exec("client", &format!("{} 2>&1", ask(silent.data["spec"]["clusterIP"].as_str().expect("an address"))))
        .await;
    assert!(code != 0 && said.contains("refused"), "{code}: {said}");
    rig.end().await;
}
