//! Environments that come up.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use envctl::plan::{NodeKind, PortId};
use envctl::provision::{Event, NodeState};
use serde_json::json;

use crate::rig::{Rig, job, manifest, ready, service};

fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("the port is forwarded");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_from_nothing_to_ready_to_gone() {
    let Some(mut rig) = Rig::start().await else { return };
    let plan = rig.plan(vec![service("hello", &["hello", "it's me"], &[])]);
    let (events, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    assert_eq!(ready(&events, "hello").map(|(_, unchanged)| unchanged), Some(false));
    assert!(matches!(events.last(), Some(Event::Ready { .. })));
    let port = PortId { service: "hello".to_owned(), port: "http".to_owned() };
    let address = rig.provisioner.addresses()[&port];
    let answer = tokio::task::spawn_blocking(move || ask(address)).await.expect("asked");
    assert!(answer.ends_with("it's me\n"), "{answer}");
    let removal = rig.end().await;
    assert_eq!((removal.killed, removal.left), (Vec::<String>::new(), Vec::<String>::new()));
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_start_when_their_needs_are_met_and_independent_ones_together() {
    let Some(mut rig) = Rig::start().await else { return };
    let plan = rig.plan(vec![
        service("db", &["hello"], &[]),
        service("cache", &["hello"], &[]),
        job("migrate", "exit 0", &[(NodeKind::Service, "db")]),
        service("api", &["hello"], &[(NodeKind::Service, "db"), (NodeKind::Job, "migrate")]),
        service("web", &["hello"], &[(NodeKind::Service, "api"), (NodeKind::Service, "cache")]),
    ]);
    let (events, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    let applying = |name: &str| {
        let is =
            |event: &Event| matches!(event, Event::Node { node, state: NodeState::Applying, .. } if node.name == name);
        events.iter().position(is).expect("it was applied")
    };
    let ready_at = |name: &str| ready(&events, name).expect("it became ready").0;
    assert!(applying("cache") < ready_at("db"), "independent nodes start together");
    for (needed, node) in [("db", "migrate"), ("migrate", "api"), ("db", "api"), ("api", "web"), ("cache", "web")] {
        assert!(ready_at(needed) < applying(node), "{node} needs {needed}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_touches_only_what_differs() {
    let Some(mut rig) = Rig::start().await else { return };
    let settings = |value: &str| json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": value}}]);
    let nodes = |greeting: &str, setting: &str| {
        vec![
            service("same", &["hello"], &[]),
            service("changed", &["hello", greeting], &[]),
            job("once", "exit 0", &[]),
            manifest("settings", settings(setting), &[]),
        ]
    };
    let mut first = nodes("one", "1");
    first.push(service("removed", &["hello"], &[]));
    let plan = rig.plan(first);
    let (_, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));

    let plan = rig.plan(nodes("two", "1"));
    let (events, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    let unchanged = |name: &str| ready(&events, name).map(|(_, unchanged)| unchanged);
    assert_eq!(
        ["same", "changed", "once", "settings"].map(unchanged),
        [Some(true), Some(false), Some(true), Some(true)]
    );
    let removed =
        |event: &Event| matches!(event, Event::Node { node, state: NodeState::Removed, .. } if node.name == "removed");
    assert!(events.iter().any(removed), "{events:?}");
    let port = PortId { service: "changed".to_owned(), port: "http".to_owned() };
    let address = rig.provisioner.addresses()[&port];
    let answer = tokio::task::spawn_blocking(move || ask(address)).await.expect("asked");
    assert!(answer.ends_with("two\n"), "{answer}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_changed_is_as_the_plan_says_again_and_told() {
    let Some(mut rig) = Rig::start().await else { return };
    let settings = |value: &str| {
        let objects =
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": value}}]);
        vec![manifest("settings", objects, &[])]
    };
    let plan = rig.plan(settings("1"));
    rig.up(&plan).await.1.unwrap_or_else(|failure| panic!("{}", failure.render()));
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
        kube::Api::default_namespaced(rig.provisioner.client());
    let parameters = kube::api::PatchParams { field_manager: Some("somebody".to_owned()), ..Default::default() };
    let theirs = kube::api::Patch::Merge(json!({"data": {"a": "theirs"}}));
    maps.patch("settings", &parameters, &theirs).await.expect("patched");
    let plan = rig.plan(settings("2"));
    let (events, outcome) = rig.up(&plan).await;
    outcome.unwrap_or_else(|failure| panic!("{}", failure.render()));
    let told = "ConfigMap/settings had been changed by others and is as the file says again: .data.a by \"somebody\"";
    let is_told = |event: &Event| matches!(event, Event::Warning { message, .. } if message == told);
    assert!(events.iter().any(is_told), "{events:?}");
    let map = maps.get("settings").await.expect("it is there");
    assert_eq!(map.data.expect("data")["a"], "2");
    rig.end().await;
}
