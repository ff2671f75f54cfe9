//! A process of the developer's stands in for a service: nobody notices, and it is undone whatever ends it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::context::{Context, Started};
use super::port::free_port;
use super::program::program;
use super::require::require;
use super::{hello, traces};

/// `back`, which answers with its name, and `ask`, which a suite stands for: it has `back`'s address as pods see it.
pub fn context() -> Context {
    hello::build("hello");
    let context = Context::new();
    let directory = hello::directory();
    context.write(
        "envctl.yaml",
        &format!(
            "name: demo
images:
  hello: {{ entrypoint: [hello], process: {{ path: [{}] }} }}
services:
  back:
    image: hello
    args: [pod]
    grace: 1s
    ports: {{ http: 8080 }}
    env: {{ SIGNING: {{ key: SIGNING }}, FRONT: \"${{services.front.http.url}}/x\", TWICE: \"$$(WHERE)-$$(WHERE)\", WHERE: \"in ${{services.back.http.host}}\" }}
    ready: {{ http: {{ path: /, port: http }} }}
    replicas: 2
    rbac: [{{ apiGroups: [\"\"], resources: [pods], verbs: [list] }}]
  front:
    image: hello
    args: [front]
    grace: 1s
    ports: {{ http: 8080 }}
    ready: {{ http: {{ path: /, port: http }} }}
keys:
  SIGNING: {{ generate: {{ bytes: 8 }} }}
",
            directory.display()
        ),
    );
    context
}

pub fn up(context: &Context, arguments: &[&str]) {
    let ran = context.run(&[&["up"], arguments].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// What an address answers to GET /; nothing when it ended before it had answered all.
pub fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: back\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_head, body)| body);
    Ok(body.strip_suffix('\n').unwrap_or_default().to_owned())
}

pub fn address(context: &Context, service: &str) -> String {
    let output = context.command(&["port", service]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a pod gets from `back` by its name.
fn from_a_pod(context: &Context) -> String {
    let script = "exec 3<>/dev/tcp/back/8080; printf 'GET / HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3";
    let ran = context.run(&["exec", "front", "--", "bash", "-c", script]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout.lines().last().unwrap_or_default().to_owned()
}

/// `envctl swap back` with a hello of that name, listening elsewhere than on the service's own port.
fn swap(context: &Context, name: &str, port: u16) -> Started {
    let hello = hello::directory().join("hello");
    let mut command = context.command(&["swap", "back", "--port", &port.to_string(), "--"]);
    command.arg(hello).arg(name).env("PORT", port.to_string());
    let mut swap = Context::started(&mut command);
    swap.until("its pods have stepped aside");
    swap
}

/// The hello on the host that was told to listen there.
fn hello_on(port: u16) -> Pid {
    let wanted = format!("PORT={port}");
    let is_it = |directory: &std::path::Path| {
        let environment = std::fs::read(directory.join("environ")).unwrap_or_default();
        let program = std::fs::read_link(directory.join("exe")).unwrap_or_default();
        program.ends_with("examples/hello")
            && environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    };
    let found =
        std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()).find(|directory| is_it(directory));
    let pid = found.and_then(|directory| directory.file_name()?.to_str()?.parse().ok());
    Pid::from_raw(pid.expect("it runs"))
}

/// What kubectl prints, as the session's owner; it must succeed.
fn kubectl(context: &Context, arguments: &[&str]) -> String {
    let exports = context.command(&["env", "--format", "json"]).output().unwrap();
    let exports: serde_json::Value = serde_json::from_slice(&exports.stdout).unwrap();
    let output =
        Command::new("kubectl").args(arguments).env("KUBECONFIG", exports["KUBECONFIG"].as_str().unwrap()).output();
    let output = output.expect("kubectl runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn has_kubectl() -> bool {
    require(program("kubectl", "version"), "kubectl")
}

/// Asks an address all the time, one request after the other.
struct Asking {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(Vec<String>, usize)>,
}

impl Asking {
    fn start(address: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut answers, mut cut): (Vec<String>, usize) = (Vec::new(), 0);
            while !stopped.load(Ordering::Relaxed) {
                match get(&address) {
                    Ok(answer) if answer.is_empty() => cut += 1,
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => cut += 1,
                    answer => {
                        let answer = answer.unwrap_or_else(|error| format!("error: {error}"));
                        if answers.last() != Some(&answer) {
                            answers.push(answer);
                        }
                    }
                }
            }
            (answers, cut)
        });
        Self { stop, thread }
    }

    /// No request failed, but for the one that a process had begun to answer when it was ended: hello does not wait for those.
    fn end(self, ended: usize) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answers, cut) = self.thread.join().unwrap();
        answers.sort();
        answers.dedup();
        assert!(answers.iter().all(|answer| ["host", "pod"].contains(&answer.as_str())), "{answers:?}");
        assert!(cut <= ended, "{cut} requests were cut, of {ended} processes that ended");
    }
}

#[test]
fn its_name_and_address_lead_to_the_process_and_back_and_nobody_notices() {
    let context = context();
    up(&context, &[]);
    let back = address(&context, "back:http");
    assert_eq!((get(&back).unwrap(), from_a_pod(&context)), ("pod".to_owned(), "pod".to_owned()));
    let asking = Asking::start(back.clone());
    let port = free_port();
    let swap = swap(&context, "host", port);
    assert_eq!((get(&back).unwrap(), from_a_pod(&context)), ("host".to_owned(), "host".to_owned()));
    let ps = context.run(&["ps"]);
    assert!(!ps.stdout.contains("2/2") && ps.stdout.contains("swapped"), "the pods are gone: {ps:?}");
    // What is done with pods says that there are none.
    for arguments in [&["exec", "back", "--", "true"][..], &["logs", "back"], &["restart", "back"]] {
        let ran = context.run(arguments);
        assert!(ran.code != Some(0) && ran.stderr.contains("back is swapped: it runs on this machine"), "{ran:?}");
    }
    let ran = context.run(&["swap", "back", "--", "sh", "-c", "echo started"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "nothing is started: {ran:?}");
    assert!(ran.stderr.contains("back is swapped already"), "{ran:?}");
    let ran = context.run(&["keys", "rotate", "SIGNING"]);
    assert!(
        ran.code == Some(0) && ran.stderr.contains("back runs on this machine: if it uses that, start it again"),
        "{ran:?}"
    );
    // An `up` meanwhile leaves it where it is.
    up(&context, &[]);
    assert_eq!(get(&back).unwrap(), "host");
    // Its own end, by a signal: the code is a shell's.
    kill(hello_on(port), Signal::SIGTERM).unwrap();
    let ran = swap.end(&context);
    assert_eq!(ran.code, Some(143), "{ran:?}");
    assert!(ran.stderr.ends_with("the pods of back are back\n"), "{ran:?}");
    assert_eq!((get(&back).unwrap(), from_a_pod(&context)), ("pod".to_owned(), "pod".to_owned()));
    // Two pods and the process.
    asking.end(3);
    if has_kubectl() {
        let slices = kubectl(&context, &["get", "endpointslices", "-o", "name"]);
        assert!(!slices.contains("on-host"), "{slices}");
    }
}

#[test]
fn the_process_has_the_services_environment_as_this_machine_sees_it() {
    let context = context();
    up(&context, &[]);
    let front = address(&context, "front");
    let script = "printf '%s\\n' \"$FRONT\" \"$TWICE\" \"$WHERE\" \"$#\" \"$MINE\"; command -v hello; test ${#SIGNING} = 16 && echo key
        kubectl get pods -o name | wc -l; kubectl get services 2>&1 | head -c 60; echo; grep SigBlk /proc/self/status; exit 7";
    let mut command = context.command(&["swap", "back", "--port", &free_port().to_string(), "--", "sh", "-c", script]);
    let output = command.env("MINE", "kept").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], format!("http://{front}/x"));
    assert_eq!(lines[1], "$(WHERE)-$(WHERE)", "as Kubernetes has it: what comes later is not seen");
    assert_eq!(lines[2..5], ["in 127.0.0.1", "0", "kept"]);
    assert!(lines[5].ends_with("/examples/hello"), "{lines:?}");
    assert_eq!(lines[6], "key");
    if has_kubectl() {
        assert_eq!(lines[7].trim(), "3", "its account may list pods");
        assert!(lines[8].contains("Forbidden"), "and no more: {lines:?}");
    }
    assert_eq!(lines[9], "SigBlk:\t0000000000000000", "a debugger needs its signals");
    assert!(stderr.contains("the command ended before it listened; the pods of back go on"), "{stderr}");
    assert_eq!(get(&address(&context, "back")).unwrap(), "pod");
}

#[test]
fn kill_minus_nine_of_the_command_ends_the_process_and_brings_the_pods_back() {
    let context = context();
    up(&context, &[]);
    let back = address(&context, "back");
    let asking = Asking::start(back.clone());
    let port = free_port();
    let mut swap = swap(&context, "host", port);
    let process = hello_on(port);
    assert_eq!(get(&back).unwrap(), "host");
    swap.signal(Signal::SIGKILL);
    swap.child.wait().unwrap();
    assert!(traces::ended_within(process, 10_000), "it ends with it");
    if has_kubectl() {
        // The slice goes when the pods are ready.
        kubectl(&context, &["wait", "--for=delete", "endpointslice/back-on-host", "--timeout=60s"]);
    }
    assert_eq!(get(&back).unwrap(), "pod");
    // Two pods and the process.
    asking.end(3);
}

#[test]
fn kill_minus_nine_of_the_agent_leaves_nothing() {
    let context = context();
    up(&context, &[]);
    let port = free_port();
    let swap = swap(&context, "host", port);
    let agent = context.agent().unwrap();
    kill(agent, Signal::SIGKILL).unwrap();
    let process = hello_on(port);
    let mut swap = swap;
    swap.until("the session has ended; the command goes on without it");
    // The kernel closes its connections before it lets go of its lock.
    assert!(traces::ended_within(agent, 10_000));
    kill(process, Signal::SIGKILL).unwrap();
    assert_eq!(swap.end(&context).code, Some(137));
    let ran = context.run(&["ls", "-o", "name"]);
    assert_eq!(ran.stdout, "", "{ran:?}");
    traces::wait_for_none(context.home());
}

#[test]
fn without_a_command_it_waits_for_a_process_and_ctrl_c_ends_it() {
    let context = context();
    up(&context, &[]);
    let back = address(&context, "back");
    let port = free_port();
    let mut swap = context.start(&["swap", "back", "--port", &port.to_string()]);
    let said = swap.until("back is expected on");
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("hello pod"), "{said}");
    let file = said.split('\'').nth(1).expect("a file").to_owned();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777, 0o600);
    // What it says, as it says it, but for the name and the port.
    let script = format!(". '{file}' && test ${{#SIGNING}} = 16 && PORT={port} exec hello mine");
    let mut mine = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).spawn().unwrap();
    swap.until("its pods have stepped aside");
    assert_eq!(get(&back).unwrap(), "mine");
    swap.signal(Signal::SIGINT);
    let ran = swap.end(&context);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert_eq!(get(&back).unwrap(), "pod");
    assert!(mine.try_wait().unwrap().is_none(), "it is the user's");
    mine.kill().unwrap();
    mine.wait().unwrap();
}

#[test]
fn up_goes_on_when_the_service_listens_on_this_machine() {
    let context = context();
    let port = free_port();
    let mut up_swap = context.start(&["up", "--swap", &format!("back={port}")]);
    let said = up_swap.until("service back: expected on");
    let file = said.lines().last().unwrap().split('\'').nth(1).expect("a file").to_owned();
    let script = format!(". '{file}' && PORT={port} exec hello mine");
    let mut mine = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).spawn().unwrap();
    let ran = up_swap.end(&context);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let back = address(&context, "back");
    assert_eq!((get(&back).unwrap(), from_a_pod(&context)), ("mine".to_owned(), "mine".to_owned()));
    if has_kubectl() {
        let pods = kubectl(&context, &["get", "pods", "-o", "name"]);
        assert!(!pods.contains("back-"), "{pods}");
    }
    let ran = context.run(&["swap", "back", "--port", &port.to_string()]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("back is swapped already"), "{ran:?}");
    // The next `up` without it is a difference like any other.
    up(&context, &[]);
    assert_eq!(get(&back).unwrap(), "pod");
    mine.kill().unwrap();
    mine.wait().unwrap();
}

#[test]
fn a_key_that_is_issued_in_the_services_pods_says_that_there_are_none() {
    let context = context();
    let file = std::fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    context.write(
        "envctl.yaml",
        &format!("{file}  TOKEN: {{ exec: {{ service: back, command: [echo, secret-token] }} }}\n"),
    );
    let mine = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let ran = context.run(&["up", "--swap", &format!("back={}", mine.local_addr().unwrap().port())]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr.contains("it is issued by a command in back, which runs on this machine and so has no pods"),
        "{ran:?}"
    );
}

#[test]
fn a_port_is_held_where_one_likes_and_outlives_the_pods() {
    let context = context();
    up(&context, &[]);
    let mut port =
        context.command(&["port", "back:8080", "0"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(port.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let held = line.trim().to_owned();
    assert_eq!(get(&held).unwrap(), "pod");
    assert_eq!(context.run(&["restart", "back"]).code, Some(0));
    assert_eq!(get(&held).unwrap(), "pod");
    kill(Pid::from_raw(port.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(port.wait().unwrap().code(), Some(130));
}

#[test]
fn pods_that_could_not_reach_this_machine_are_not_swapped() {
    let context = context();
    up(&context, &[]);
    // Another session's cluster, as a context of a kubeconfig: its node has this kernel, but no way from here leads to it.
    if !has_kubectl() {
        return;
    }
    let kube_system = kubectl(&context, &["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
    let name = kubectl(&context, &["config", "current-context"]);
    let kubeconfig = context.session_directories()[0].join("kubeconfig");
    let configuration = context.home().join(".config/envctl");
    std::fs::create_dir_all(&configuration).unwrap();
    std::fs::write(configuration.join("config.yaml"), format!("allowed_clusters: [{kube_system}]\n")).unwrap();
    let guest = |arguments: &[&str]| {
        let mut command = context.command(arguments);
        context.ran(command.args(["--session", "guest", "--context", name.trim()]).env("KUBECONFIG", &kubeconfig))
    };
    let ran = guest(&["up"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let port = free_port().to_string();
    let words = "this machine has no direct route to its node envctl";
    let ran = context.run(&["swap", "--session", "guest", "back", "--port", &port, "--", "sh", "-c", "echo started"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "nothing is started: {ran:?}");
    assert!(ran.stderr.contains(words) && ran.stderr.contains("hint: "), "{ran:?}");
    let ran = guest(&["up", "--swap", &format!("back={port}")]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains(words) && !ran.stderr.contains("expected on"), "{ran:?}");
    assert_eq!(guest(&["up"]).code, Some(0));
    assert_eq!(context.run(&["down", "--session", "guest"]).code, Some(0));
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let context = context();
    let ran = context.run(&["swap", "back", "--", "true"]);
    assert_eq!(ran.code, Some(125), "no session: {ran:?}");
    up(&context, &[]);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = listener.local_addr().unwrap().port().to_string();
    for (arguments, code, words) in [
        (&["swap", "nobody", "--", "true"][..], 125, "no service \"nobody\" in this environment"),
        (&["swap", "back", "--port", "grpc=9", "--", "true"], 125, "no TCP port for \"grpc=9\""),
        (&["swap", "back", "--port", "many", "--", "true"], 125, "\"many\" is not a port"),
        (&["swap", "back", "--port", "1", "--", "/no/such"], 127, "cannot run /no/such"),
        (&["up", "--swap", "back:http"], 2, "names a port but no number"),
        (&["port", "back:grpc"], 2, "has no port \"grpc\""),
        (&["port", "back", &taken], 125, "cannot listen on ADDRESS: Address already in use"),
        (
            &["swap", "back", "--port", &taken, "--", "true"],
            125,
            "is taken: another process of this machine listens there",
        ),
    ] {
        let ran = context.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
    }
    assert_eq!(get(&address(&context, "back")).unwrap(), "pod");
}
