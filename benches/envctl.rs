//! What envctl costs, as medians and ratios of one run: `make bench`.
//!
//! Each figure is taken from outside, as a user would: the program's own command line, and a
//! Kubernetes client with the session's kubeconfig. The baseline starts the same programs directly
//! and polls their ports every 5 ms. Run as root it goes on as an ordinary user (`setpriv`).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::json;

const ROUNDS: usize = 15;
const DEPLOYMENTS: usize = 40;
const PODS: usize = 200;
const SERVICES: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` and `cargo bench -- --list` only ask what is here.
    if arguments.iter().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    if nix::unistd::geteuid().is_root() && std::env::var_os("ENVCTL_BENCH_AS_ROOT").is_none() {
        let error = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(std::env::current_exe().expect("a program has a path"))
            .args(arguments)
            .exec();
        panic!("setpriv: {error}");
    }
    let bench = Bench::new();
    bench.validate();
    bench.up_and_down();
    bench.suites();
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(bench.api());
}

struct Bench {
    root: PathBuf,
    state: tempfile::TempDir,
    home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let hello = root.join("target/release/examples/hello");
        assert!(hello.exists(), "{} is missing: cargo build --release --examples", hello.display());
        say(&format!(
            "uid {}, {} cores",
            nix::unistd::getuid(),
            std::thread::available_parallelism().map_or(0, usize::from)
        ));
        Self { root, state: directory(), home: directory() }
    }

    /// In a home of its own, with nothing said yet.
    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envctl"));
        command
            .current_dir(self.home.path())
            .env("ENVCTL_STATE_DIR", self.state.path())
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn envctl(&self, verb: &str, file: &Path) -> Command {
        let mut command = self.program();
        command.args([verb, "-f"]).arg(file);
        command
    }

    /// With arguments that have to come last; `--report` gets a place of its own.
    fn envctl_of(&self, arguments: &[&str], last: &[&str]) -> Command {
        let mut command = self.program();
        command.args(arguments);
        if arguments.last() == Some(&"--report") {
            command.arg(self.home.path().join("report"));
        }
        command.arg("-f").arg(self.five()).args(last);
        command
    }

    fn run_last(&self, arguments: &[&str], last: &[&str]) -> Duration {
        timed(self.envctl_of(arguments, last))
    }

    fn run(&self, verb: &str) -> Duration {
        timed(self.envctl(verb, &self.five()))
    }

    fn five(&self) -> PathBuf {
        self.root.join("benches/envs/five.yaml")
    }

    /// A long environment file, each service of which refers to the one before.
    fn validate(&self) {
        let mut text = "name: many\nimages: { hello: { process: { entrypoint: [hello] } } }\nservices:\n".to_owned();
        for number in 0..SERVICES {
            text += &format!(
                "  s{number}:\n    image: hello\n    ports: {{ http: 8080 }}\n    ready: {{ http: {{ path: /, port: http }} }}\n"
            );
            if let Some(before) = number.checked_sub(1) {
                text += &format!(
                    "    needs: [s{before}]\n    env: {{ NEXT: \"http://${{services.s{before}.http.address}}/\" }}\n"
                );
            }
        }
        let file = self.home.path().join("many.yaml");
        std::fs::write(&file, text).expect("a file");
        let mut took = vec![];
        for _ in 0..ROUNDS {
            took.push(timed(self.envctl("validate", &file)));
        }
        row(&format!("envctl validate, {SERVICES} services"), median(&mut took), "");
    }

    fn up_and_down(&self) {
        let (mut direct, mut up, mut down, mut api) = (vec![], vec![], vec![], vec![]);
        let mut resident = vec![];
        for round in 0..=ROUNDS {
            let direct_took = self.direct();
            let kubeconfig = kubeconfig_created(self.state.path());
            let start = Instant::now();
            let mut child = self.envctl("up", &self.five()).stderr(Stdio::null()).spawn().expect("envctl runs");
            let api_took = kubeconfig.recv_timeout(Duration::from_secs(10)).ok().map(|at| at.duration_since(start));
            let status = child.wait().expect("envctl ends");
            let up_took = start.elapsed();
            assert!(status.success(), "envctl up: {status}");
            // Used once more since: what it gave back when it was ready has partly come again.
            self.run("ps");
            resident.push(agent_resident(self.state.path()));
            let down_took = self.run("down");
            assert!(find(self.state.path(), "session.json").is_none(), "after `envctl down` there is no session");
            // The first round warms the page cache.
            if round > 0 {
                direct.push(direct_took);
                up.push(up_took);
                down.push(down_took);
                api.extend(api_took);
            }
        }
        resident.sort_unstable();
        let (direct, up) = (median(&mut direct), median(&mut up));
        row("five programs started directly, polled every 5 ms", direct, "");
        row("envctl up of the same five", up, &format!("direct + {} (limit 80 ms)", ms(up.saturating_sub(direct))));
        row("Kubernetes API answers after `up` started", median(&mut api), "limit 60 ms");
        row("envctl down", median(&mut down), "limit 100 ms");
        say(&format!(
            "{:<52} {:>9.1} MB  limit 30 MB",
            "agent resident, five services",
            resident[resident.len() / 2] as f64 / 1024.0
        ));
    }

    /// A suite that does nothing, run by `envctl test` and by hand; and a process that attaches to a running shared session.
    fn suites(&self) {
        let (mut test, mut by_hand, mut attach) = (vec![], vec![], vec![]);
        for round in 0..=ROUNDS {
            let by_hand_took = self.run("up") + self.run_last(&["run"], &["true"]) + self.run("down");
            let test_took = self.run_last(&["test", "--report"], &["--", "true"]);
            if round > 0 {
                by_hand.push(by_hand_took);
                test.push(test_took);
            }
        }
        let shared = ["run", "--shared", "--run-id", "bench"];
        let mut holder = self.envctl_of(&shared, &["--", "cat"]);
        let mut holder = holder.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("envctl runs");
        // Waits until it is up.
        self.run_last(&shared, &["--", "true"]);
        for _ in 0..ROUNDS {
            attach.push(self.run_last(&shared, &["--", "true"]));
        }
        drop(holder.stdin.take());
        holder.wait().expect("cat ends");
        self.run_last(&["down", "--all"], &[]);
        let (test, by_hand) = (median(&mut test), median(&mut by_hand));
        row("up, run true, down, by hand", by_hand, "");
        let more =
            if test > by_hand { format!("+ {}", ms(test - by_hand)) } else { format!("- {}", ms(by_hand - test)) };
        row("envctl test -- true", test, &format!("by hand {more} (limit + 100 ms)"));
        row(
            "attached to a shared session: envctl run --shared",
            median(&mut attach),
            "limit 15 ms, with its own start and that of `true`",
        );
    }

    /// The baseline: the same five programs, each on a port of its own.
    fn direct(&self) -> Duration {
        let ports: Vec<u16> = (0..5)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect::<Vec<_>>()
            .iter()
            .map(|listener| listener.local_addr().expect("it is bound").port())
            .collect();
        let start = Instant::now();
        let mut children: Vec<Child> = ports
            .iter()
            .map(|port| {
                Command::new(self.root.join("target/release/examples/hello"))
                    .env("PORT", port.to_string())
                    .stdout(Stdio::null())
                    .spawn()
                    .expect("hello runs")
            })
            .collect();
        let mut waiting = ports;
        while !waiting.is_empty() {
            waiting.retain(|port| TcpStream::connect(("127.0.0.1", *port)).is_err());
            if !waiting.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let took = start.elapsed();
        for child in &mut children {
            child.kill().and_then(|()| child.wait()).expect("hello ends");
        }
        took
    }

    async fn api(&self) {
        self.run("up");
        let kubeconfig = find(self.state.path(), "kubeconfig").expect("a session has a kubeconfig");
        let config = kube::config::Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.expect("a configuration");
        let client = kube::Client::try_from(config).expect("a client");
        let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
        let pods: Api<Pod> = Api::default_namespaced(client);

        let mut latencies = vec![];
        for round in 0..DEPLOYMENTS {
            let name = format!("latency-{round}");
            let watch = WatchParams::default().labels(&format!("app={name}")).timeout(30);
            let mut events = pods.watch(&watch, "0").await.expect("a watch").boxed();
            let start = Instant::now();
            deployments.create(&PostParams::default(), &deployment(&name, 1)).await.expect("a deployment");
            while !matches!(events.try_next().await.expect("an event"), Some(WatchEvent::Modified(pod)) if ready(&pod))
            {
            }
            latencies.push(start.elapsed());
            deployments.delete(&name, &DeleteParams::default()).await.expect("it is deleted");
            while !matches!(events.try_next().await.expect("an event"), Some(WatchEvent::Deleted(_))) {}
        }
        row("Deployment created → pod Ready, p50", median(&mut latencies), "limit 20 ms");
        row("Deployment created → pod Ready, p95", latencies[latencies.len() * 95 / 100], "");

        let watch = WatchParams::default().labels("app=many").timeout(120);
        let mut events = pods.watch(&watch, "0").await.expect("a watch").boxed();
        let start = Instant::now();
        deployments.create(&PostParams::default(), &deployment("many", PODS)).await.expect("a deployment");
        let mut seen = BTreeMap::new();
        while seen.values().filter(|ready| **ready).count() < PODS {
            let event = events.try_next().await.expect("an event").expect("they get ready before the watch ends");
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
                seen.insert(pod.metadata.name.clone(), ready(&pod));
            }
        }
        row("200 pods Ready", start.elapsed(), "limit 5 s");
        let (rss, start) = (agent_resident(self.state.path()), Instant::now());
        let nothing = Patch::Merge(json!({"spec": {"replicas": 0}}));
        deployments.patch("many", &PatchParams::default(), &nothing).await.expect("it is scaled");
        while !seen.is_empty() {
            let event = events.try_next().await.expect("an event").expect("they are gone before the watch ends");
            if let WatchEvent::Deleted(pod) = event {
                seen.remove(&pod.metadata.name);
            }
        }
        row("200 pods gone", start.elapsed(), "limit 2 s");
        say(&format!("{:<52} {:>9.1} MB", "agent resident, 205 pods", rss as f64 / 1024.0));
        row("envctl down", self.run("down"), "");
    }
}

fn deployment(name: &str, replicas: usize) -> Deployment {
    let labels = json!({"app": name});
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": "hello", "image": "hello", "ports": [{"containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
                }]},
            },
        },
    }))
    .expect("a deployment")
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How long a command takes, which must succeed.
fn timed(mut command: Command) -> Duration {
    let start = Instant::now();
    let output = command.stderr(Stdio::piped()).output().expect("envctl runs");
    let took = start.elapsed();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

/// Sends the moment at which the kubeconfig that appears under `state` leads to an API that answers. It waits for files without
/// looking for them, so that it takes nothing from what it measures.
fn kubeconfig_created(state: &Path) -> std::sync::mpsc::Receiver<Instant> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sessions = state.join("sessions");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&sessions).expect("a directory");
    let changes = Inotify::init(InitFlags::IN_CLOEXEC).expect("inotify");
    // Sessions and their files appear by a rename.
    let top = changes.add_watch(&sessions, AddWatchFlags::IN_MOVED_TO).expect("a watch");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (mut session, mut kubeconfig) = (sessions.clone(), None);
        while kubeconfig.is_none() {
            for change in changes.read_events().expect("changes") {
                let name = change.name.unwrap_or_default();
                if change.wd == top {
                    session = sessions.join(name);
                    changes.add_watch(&session, AddWatchFlags::IN_MOVED_TO).expect("a watch");
                    kubeconfig = Some(session.join("kubeconfig")).filter(|path| path.exists());
                } else if name == "kubeconfig" {
                    kubeconfig = Some(session.join(name));
                }
            }
        }
        let answered = runtime.block_on(async {
            let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig?).ok()?;
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.ok()?;
            kube::Client::try_from(config).ok()?.apiserver_version().await.ok()
        });
        if answered.is_some() {
            // The receiver may have given up.
            let _ = sender.send(Instant::now());
        }
    });
    receiver
}

/// The agent's resident set in KiB: the process that serves the session, found by its command line and state directory.
fn agent_resident(state: &Path) -> u64 {
    let record = find(state, "session.json").expect("a session has a record");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).expect("it is readable")).expect("it is JSON");
    let pid = record["agentPid"].as_u64().expect("the record names the agent");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a resident set");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("it is a number")
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(directory).ok()?.filter_map(Result::ok).find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { (entry.file_name() == name).then_some(path) }
    })
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("envctl-bench-").tempdir().expect("a temporary directory")
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn row(what: &str, time: Duration, note: &str) {
    say(&format!("{what:<52} {:>12}  {note}", ms(time)));
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output takes a line");
}
