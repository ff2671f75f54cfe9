//! Pods reach each other, the node, and service addresses; the agent reaches pods.

use std::net::{Ipv4Addr, SocketAddrV4};

use envctl::embedded::kubelet::runtime::{NodeNetwork, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::program::program;
use crate::require::require;
use crate::rig::{container, finish, node, pod, read_line, sandbox};

/// Serves its own name on a port, for ever, once it has said that it listens.
fn server(port: u16) -> String {
    format!(
        "exec python3 -c 'import socket,os
s=socket.create_server((\"0.0.0.0\",{port}))
print(\"up\",flush=True)
while True:
    c,_=s.accept(); c.sendall(socket.gethostname().encode()); c.close()'"
    )
}

fn client(ip: Ipv4Addr, port: u16) -> String {
    format!("exec python3 -c 'import socket;print(socket.create_connection((\"{ip}\",{port}),5).recv(99).decode())'")
}

fn python() -> bool {
    require(program("python3", "--version"), "python3")
}

#[tokio::test]
async fn two_pods_have_the_same_port_and_reach_each_other() {
    if !python() {
        return;
    }
    let node = node().await;
    let mut pods = Vec::new();
    for name in ["alpha", "beta"] {
        let ip = pod(&node, name).await.ip;
        // A port below 1024 needs no privilege in a pod.
        let mut process = node.start_container(container(name, name, &server(80))).await.unwrap();
        assert_eq!(read_line(&mut process.stdout).await, "up");
        pods.push((name, ip, process));
    }
    for (name, ip, _process) in &pods {
        let other = if *name == "alpha" { "beta" } else { "alpha" };
        let asked = container(other, &format!("ask-{name}"), &client(*ip, 80));
        assert_eq!(finish(node.start_container(asked).await.unwrap()).await.out, *name);
        let mut answer = String::new();
        node.connect(SocketAddrV4::new(*ip, 80)).await.unwrap().read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, *name);
    }
    let refused = node.connect(SocketAddrV4::new(pods[0].1, 81)).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    node.stop().await;
}

#[tokio::test]
async fn a_pod_that_is_gone_is_no_longer_there_at_once() {
    if !python() {
        return;
    }
    let node = node().await;
    let gone = pod(&node, "gone").await.ip;
    let _stays = pod(&node, "stays").await;
    let mut process = node.start_container(container("gone", "gone", &server(80))).await.unwrap();
    assert_eq!(read_line(&mut process.stdout).await, "up");
    // Whoever has just talked to it knows its hardware address still.
    let mut answer = String::new();
    node.connect(SocketAddrV4::new(gone, 80)).await.unwrap().read_to_string(&mut answer).await.unwrap();
    let asked = container("stays", "ask", &client(gone, 80));
    assert_eq!(finish(node.start_container(asked).await.unwrap()).await.out, "gone");
    node.remove_pod_sandbox("gone").await.unwrap();
    // The kernel takes the network apart in its own time: until then nobody listens there, and then there is nobody.
    let answers = [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::HostUnreachable];
    let refused = node.connect(SocketAddrV4::new(gone, 80)).await.expect_err("it is gone");
    assert!(answers.contains(&refused.kind()), "{refused}");
    let asked = container("stays", "ask-again", &client(gone, 80));
    let said = finish(node.start_container(asked).await.unwrap()).await.err;
    assert!(["Connection refused", "No route to host"].iter().any(|answer| said.contains(answer)), "{said}");
    node.stop().await;
}

#[tokio::test]
async fn a_service_address_is_where_the_agent_listens() {
    if !python() {
        return;
    }
    let node = node().await;
    let ip = pod(&node, "p").await.ip;
    for service in [Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 96, 200, 7), node.node_ip()] {
        let listener = node.listen(SocketAddrV4::new(service, 443)).await.unwrap();
        let id = format!("ask-{service}");
        let process = node.start_container(container("p", &id, &client(service, 443))).await.unwrap();
        let (mut stream, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip(), ip);
        stream.write_all(b"hello").await.unwrap();
        drop(stream);
        assert_eq!(finish(process).await.out, "hello");
    }
    node.stop().await;
}

#[tokio::test]
async fn datagrams_reach_a_service_address() {
    if !python() {
        return;
    }
    let node = node().await;
    pod(&node, "p").await;
    let socket = node.bind_udp("10.96.0.10:53".parse().unwrap()).await.unwrap();
    let text = "exec python3 -c 'import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.connect((\"10.96.0.10\",53)); s.send(b\"ask\"); print(s.recv(99).decode())'";
    let process = node.start_container(container("p", "c", text)).await.unwrap();
    let mut question = [0; 16];
    let (length, from) = socket.recv_from(&mut question).await.unwrap();
    assert_eq!(&question[..length], b"ask");
    socket.send_to(b"answer", from).await.unwrap();
    assert_eq!(finish(process).await.out, "answer");
    node.stop().await;
}

#[tokio::test]
async fn a_pod_can_be_in_the_nodes_network() {
    if !python() {
        return;
    }
    let node = node().await;
    let mut config = sandbox("agent-pod");
    config.host_network = true;
    let ip = node.run_pod_sandbox(config).await.unwrap().ip;
    assert_eq!(ip, node.node_ip());
    let mut process = node.start_container(container("agent-pod", "c", &server(9100))).await.unwrap();
    read_line(&mut process.stdout).await;
    pod(&node, "p").await;
    let asked = node.start_container(container("p", "ask", &client(ip, 9100))).await.unwrap();
    assert_eq!(finish(asked).await.out, "agent-pod");
    node.stop().await;
}

#[tokio::test]
async fn two_nodes_do_not_see_each_other() {
    let (one, other) = (node().await, node().await);
    let address = "10.96.0.1:443".parse().unwrap();
    let listeners = (one.listen(address).await.unwrap(), other.listen(address).await.unwrap());
    let (connected, accepted) = tokio::join!(one.connect(address), listeners.0.accept());
    assert_eq!(connected.unwrap().local_addr().unwrap(), accepted.unwrap().1);
    let (connected, accepted) = tokio::join!(other.connect(address), listeners.1.accept());
    assert_eq!(connected.unwrap().local_addr().unwrap(), accepted.unwrap().1);
    one.stop().await;
    other.stop().await;
}
