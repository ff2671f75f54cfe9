//! A process of this machine in the place of a service on a real cluster of this machine.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::hello;
use crate::port::free_port;
use crate::rig::Rig;

/// `envctl swap web` with a hello that answers `host`.
struct Swap {
    envctl: Child,
    stderr: BufReader<ChildStderr>,
}

impl Swap {
    fn start(rig: &Rig) -> Self {
        let port = free_port();
        let mut command = rig.command(&["swap", "web", "--port", &port.to_string(), "--"]);
        command.arg(hello::directory().join("hello")).arg("host").env("PORT", port.to_string());
        let mut envctl = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("envctl runs");
        let mut swap = Self { stderr: BufReader::new(envctl.stderr.take().expect("it is piped")), envctl };
        swap.until("its pods have stepped aside");
        swap
    }

    fn until(&mut self, words: &str) {
        let mut text = String::new();
        while self.stderr.read_line(&mut text).expect("it speaks") > 0 {
            if text.lines().last().is_some_and(|line| line.contains(words)) {
                return;
            }
        }
        panic!("it never said {words:?}:\n{text}");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.envctl.id().try_into().expect("a pid")), signal).expect("it runs");
    }
}

fn address(rig: &Rig) -> String {
    rig.expect(0, &["port", "web"]).stdout.trim().to_owned()
}

/// What a pod gets from the Service's own address, by kube-proxy. Pods' programs have no shell: a program of this machine goes into
/// the network of one.
fn from_a_pod(rig: &Rig, namespace: &str) -> String {
    let ip = rig.kubectl(&["-n", namespace, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let is_asker = |line: &[u8]| line == b"/usr/bin/hello\0asker\0";
    let pid = std::fs::read_dir("/proc").expect("a directory").flatten().find_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        is_asker(&line).then(|| entry.file_name().to_string_lossy().into_owned())
    });
    let script = format!("exec 3<>/dev/tcp/{ip}/8080; printf 'GET / HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3");
    let output =
        Command::new("nsenter").args(["-t", &pid.expect("the pod runs"), "-n", "bash", "-c", &script]).output();
    let output = output.expect("nsenter runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_cluster_of_this_machine_reaches_the_process_and_gets_its_pods_back() {
    let Some(rig) = Rig::new() else { return };
    hello::build("hello");
    let web = std::fs::read_to_string(rig.home.path().join("project/envctl.yaml")).expect("a file");
    let asker =
        web.split_once("  web:\n").expect("web").1.split_once("images:").expect("images").0.replace("[web]", "[asker]");
    rig.write(&web.replace("images:", &format!("  asker:\n{asker}images:")));
    rig.expect(0, &["up"]);
    let (namespace, address) = (rig.namespace(), address(&rig));
    let answers = |who: &str| {
        assert!(rig.get(&address).ends_with(&format!("{who}\n")), "by the forwarded address");
        // The node's own proxy writes its rules at most once a second, and tells nobody when: asked until it has.
        assert!((0..200).any(|_again| from_a_pod(&rig, &namespace) == who), "never {who} in the cluster");
    };
    answers("web");
    // Its own end.
    let mut swap = Swap::start(&rig);
    answers("host");
    swap.signal(Signal::SIGTERM);
    swap.until("the pods of web are back");
    assert_eq!(swap.envctl.wait().expect("it ends").code(), Some(143));
    answers("web");
    // Killed.
    let mut swap = Swap::start(&rig);
    answers("host");
    swap.signal(Signal::SIGKILL);
    swap.envctl.wait().expect("it ends");
    rig.kubectl(&["-n", &namespace, "wait", "--for=delete", "endpointslice/web-on-host", "--timeout=60s"]);
    answers("web");
    // The agent killed: nobody brings the pods back, the namespace goes.
    let mut swap = Swap::start(&rig);
    rig.kill_agent().expect("it runs");
    swap.until("the session has ended; the command goes on without it");
    swap.signal(Signal::SIGTERM);
    assert_eq!(swap.envctl.wait().expect("it ends").code(), Some(143));
    rig.expect(0, &["gc", "--context", &rig.context()]);
    rig.wait_gone(&namespace);
}
