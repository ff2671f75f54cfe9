//! `kubectl port-forward`, as it is: SPDY, tunnelled in a WebSocket or after an upgrade of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{kubectl, kubectl_command};

/// Reads to the end of what a client says, then says it all again.
const PARROT: &str = "import socket, threading
def serve(c):
    said = b''.join(iter(lambda: c.recv(65536), b''))
    c.sendall(said)
    c.close()
s = socket.create_server(('', 7000))
while True: threading.Thread(target=serve, args=(s.accept()[0],)).start()";

/// A kubectl that forwards a port of loopback to `target`'s `port`.
struct Forward {
    kubectl: Child,
    _stdout: BufReader<ChildStdout>,
    address: String,
}

impl Forward {
    fn start(target: &str, port: &str, websockets: bool) -> Option<Self> {
        let mut command = kubectl_command(&["port-forward", target, &format!(":{port}")])?;
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets.to_string());
        let mut kubectl = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs");
        let mut stdout = BufReader::new(kubectl.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it speaks");
        let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Some(Self { kubectl, _stdout: stdout, address })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("kubectl listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        stream
    }

    fn get(&self) -> String {
        let mut stream = self.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
    }

    /// Ctrl-C; what it had to say.
    fn end(mut self) -> String {
        kill(Pid::from_raw(self.kubectl.id().try_into().expect("a pid")), Signal::SIGINT).expect("it runs");
        self.said()
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        self.kubectl.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it speaks");
        self.kubectl.wait().expect("it ends");
        said
    }
}

#[test]
fn pods_services_and_deployments_by_several_connections_at_once() {
    let Some(pods) = kubectl(&["get", "pods", "-l", "envctl.dev/node=web", "-o", "name"]) else { return };
    let pod = pods.out.lines().next().expect("a pod").to_owned();
    for (target, websockets) in
        [(pod.as_str(), true), ("service/web", true), ("deployment/web", true), (pod.as_str(), false)]
    {
        let forward = Forward::start(target, "8080", websockets).expect("it is here");
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| assert_eq!(forward.get(), "web\n", "{target}"));
            }
        });
        // One after the other as well: the connection goes on.
        assert_eq!(forward.get(), "web\n", "{target}");
        assert_eq!(forward.end(), "", "{target}");
    }
}

#[test]
fn much_at_once_and_the_end_of_what_a_client_says() {
    let script = format!("exec python3 -c \"{PARROT}\"");
    let Some(_) = kubectl(&["run", "parrot", "--image=sh", "--restart=Never", "--", &script]) else { return };
    kubectl(&["wait", "--for=condition=Ready", "pod/parrot", "--timeout=30s"]);
    // It runs before it listens.
    let listens = "until grep -q ':1B58 .* 0A ' /proc/net/tcp; do sleep 0.05; done";
    kubectl(&["exec", "parrot", "--", "/bin/sh", "-c", listens]);
    let forward = Forward::start("pod/parrot", "7000", true).expect("it is here");
    let said: Vec<u8> = (0_u32..4 << 20).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::thread::scope(|scope| {
        for part in [&said[..], &said[..1000], &[]] {
            let forward = &forward;
            scope.spawn(move || {
                let mut stream = forward.connect();
                stream.write_all(part).expect("sent");
                stream.shutdown(Shutdown::Write).expect("its end is sent");
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).expect("heard");
                assert_eq!(heard.len(), part.len());
                assert!(heard == part, "{} bytes came back as they were", part.len());
            });
        }
    });
    assert_eq!(forward.end(), "");
    kubectl(&["delete", "pod", "parrot", "--now"]);
}

#[test]
fn a_port_that_nobody_listens_on_is_told_as_such() {
    let Some(pods) = kubectl(&["get", "pods", "-l", "envctl.dev/node=web", "-o", "name"]) else { return };
    let pod = pods.out.lines().next().expect("a pod").to_owned();
    let mut forward = Forward::start(&pod, "9", true).expect("it is here");
    let mut nothing = Vec::new();
    let _reset = forward.connect().read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    // kubectl gives up by itself then.
    let said = forward.said();
    let name = pod.trim_start_matches("pod/");
    assert!(said.contains(&format!("error forwarding port 9 to pod {name}, uid ")), "{said}");
    assert!(said.contains("Connection refused") && said.contains("lost connection to pod"), "{said}");
}
