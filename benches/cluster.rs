//! What `envctl up` costs on real Kubernetes, beside kubectl: `make bench-cluster`, on `make cluster-up`'s cluster.
//!
//! Medians of ten rounds (`ENVCTL_BENCH_ROUNDS`) of one run. In each round the same five services come up
//! - by `kubectl apply` of what `envctl config -o objects` prints, and `kubectl wait`;
//! - by `envctl up`, whose requests the API server counts: the user of this program has a FlowSchema of their own, and
//!   `apiserver_flowcontrol_dispatched_requests_total` says how many requests it let through;
//! - one after the other, each applied alone and watched until it is available, without a process being started for it: the sum over
//!   the longest chain of `benches/envs/chain.yaml` is that graph's critical path;
//! - by `envctl up` of that graph.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::{Value, json};

#[path = "../tests/common/hello.rs"]
mod hello;

/// The longest way through `chain.yaml`.
const CHAIN: [&str; 4] = ["one", "two", "four", "five"];
const NAME: &str = "envctl-bench";

fn main() {
    // `cargo test --benches` and `cargo bench -- --list` only ask what is here.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bench = Bench::new();
    let (mut by_kubectl, mut up, mut alone, mut chain) = (vec![], vec![], vec![], vec![]);
    let (mut requests, mut kubectls, mut chains) = (vec![], vec![], vec![]);
    let rounds = std::env::var("ENVCTL_BENCH_ROUNDS").map_or(10, |rounds| rounds.parse().expect("a number"));
    for round in 0..=rounds {
        let name = format!("{NAME}-{}-{round}", std::process::id());
        // The first round warms up.
        let keep = |times: &mut Vec<Duration>, took| {
            if round > 0 {
                times.push(took)
            }
        };
        // Neither always has the other's leftovers behind it.
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                let (took, count) = bench.counted(|| bench.by_kubectl(&name));
                keep(&mut by_kubectl, took);
                kubectls.push(count);
                bench.kubectl(&["delete", "namespace", &name], "");
            } else {
                let (took, count) = bench.counted(|| bench.up("five"));
                keep(&mut up, took);
                requests.push(count);
                bench.envctl(&["down"]);
            }
        }
        keep(&mut alone, runtime.block_on(bench.alone(&format!("{name}-alone"))));
        bench.kubectl(&["delete", "namespace", &format!("{name}-alone")], "");
        let (took, count) = bench.counted(|| bench.up("chain"));
        keep(&mut chain, took);
        chains.push(count);
        bench.envctl(&["down"]);
    }
    let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
    let (kubectl, up) = (median(&mut by_kubectl), median(&mut up));
    row("kubectl apply and kubectl wait, five services", kubectl, &spread(&by_kubectl));
    row("envctl up of the same five", up, &format!("{:.2} × (limit 1.05)", ratio(up, kubectl)));
    let (alone, chain) = (median(&mut alone), median(&mut chain));
    row("four of them, each alone, one after the other", alone, "the critical path of the graph");
    row("envctl up with `needs`", chain, &format!("{:.2} × (limit 1.10)", ratio(chain, alone)));
    requests.sort_unstable();
    chains.sort_unstable();
    kubectls.sort_unstable();
    say(&format!(
        "API requests: up {} (most {}), with needs {} (most {}), limit 40; kubectl {}",
        requests[requests.len() / 2],
        requests[requests.len() - 1],
        chains[chains.len() / 2],
        chains[chains.len() - 1],
        kubectls[kubectls.len() / 2],
    ));
}

/// A user of the cluster, with a project.
struct Bench {
    home: tempfile::TempDir,
    /// The administrator's kubeconfig.
    cluster: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let directory = std::env::var_os("ENVCTL_CLUSTER_DIR").unwrap_or_else(|| "/var/lib/envctl-cluster".into());
        let cluster = Path::new(&directory).join("kubeconfig");
        assert!(cluster.exists(), "{} is missing: make cluster-up", cluster.display());
        let home = tempfile::Builder::new().prefix("envctl-bench-").tempdir().expect("a directory");
        let bench = Self { home, cluster };
        hello::build("hello");
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/run");
        let (program, image) = (hello::directory().join("hello"), bench.home.path().join("hello.tar"));
        let mut make = Command::new(&run);
        make.args(["image", "--name", "hello", "--entrypoint", "/usr/bin/hello", "--file"]).arg(program);
        must(make.arg("--output").arg(&image), "");
        must(Command::new(&run).arg("import").arg(&image), "");
        bench.make_user();
        bench
    }

    /// An administrator whose requests are counted apart from everybody else's, and who allows sessions.
    fn make_user(&self) {
        let subject = json!({"kind": "ServiceAccount", "name": "bench", "namespace": NAME});
        let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]);
        let objects = [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bench", "namespace": NAME}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": NAME},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [subject]}),
            json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": NAME},
            "spec": {"priorityLevelConfiguration": {"name": "workload-high"}, "matchingPrecedence": 500,
                "rules": [{
                    "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "bench", "namespace": NAME}}],
                    "resourceRules": all,
                    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                }]}}),
        ];
        for object in &objects {
            self.admin(&["apply", "-f", "-"], &object.to_string());
        }
        let token = self.admin(&["create", "token", "bench", "-n", NAME, "--duration", "4h"], "");
        let config = self.admin(&["config", "view", "--raw", "-o", "json"], "");
        let mut config: Value = serde_json::from_str(&config).expect("a kubeconfig");
        config["users"][0]["user"] = json!({"token": token.trim()});
        std::fs::write(self.home.path().join("kubeconfig"), config.to_string()).expect("written");
        let identity = self.admin(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"], "");
        let own = self.home.path().join(".config/envctl");
        std::fs::create_dir_all(&own).expect("a directory");
        std::fs::write(own.join("config.yaml"), format!("allowed_clusters: [{identity}]\n")).expect("written");
        // Used once, so that the API server knows both.
        self.kubectl(&["get", "namespaces"], "");
    }

    /// The administrator's kubectl.
    fn admin(&self, arguments: &[&str], input: &str) -> String {
        must(Command::new("kubectl").args(arguments).env("KUBECONFIG", &self.cluster), input)
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        must(Command::new("kubectl").args(arguments).env("KUBECONFIG", self.home.path().join("kubeconfig")), input)
    }

    fn envctl(&self, arguments: &[&str]) -> String {
        let context = self.admin(&["config", "current-context"], "");
        let mut command = Command::new(env!("CARGO_BIN_EXE_envctl"));
        command
            .args(arguments)
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("HOME", self.home.path())
            .env("ENVCTL_STATE_DIR", self.home.path().join("state"))
            .env("ENVCTL_CONTEXT", context.trim())
            .current_dir(self.home.path());
        must(&mut command, "")
    }

    /// `up` of one of the files, each of which gives one session.
    fn up(&self, name: &str) -> Duration {
        self.write(name, name);
        let context = self.admin(&["config", "current-context"], "");
        let mut up = Command::new(env!("CARGO_BIN_EXE_envctl"));
        up.arg("up").current_dir(self.home.path()).env("KUBECONFIG", self.home.path().join("kubeconfig"));
        up.env("HOME", self.home.path()).env("ENVCTL_STATE_DIR", self.home.path().join("state"));
        up.env("ENVCTL_CONTEXT", context.trim());
        let began = Instant::now();
        must(&mut up, "");
        began.elapsed()
    }

    /// `envctl.yaml`, made of a file of `benches/envs` and called `name`.
    fn write(&self, file: &str, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/envs/{file}.yaml"));
        let text = std::fs::read_to_string(path).expect("a file");
        let text = text.replacen(&format!("\nname: {file}\n"), &format!("\nname: {name}\n"), 1);
        std::fs::write(self.home.path().join("envctl.yaml"), text).expect("written");
    }

    fn by_kubectl(&self, name: &str) -> Duration {
        self.write("five", name);
        let objects = self.envctl(&["config", "-o", "objects"]);
        let began = Instant::now();
        self.kubectl(&["apply", "-f", "-"], &objects);
        let wait = ["wait", "--for=condition=Available", "deployment", "--all", "--timeout=180s", "-n", name];
        self.kubectl(&wait, "");
        began.elapsed()
    }

    /// What each service of the longest chain takes by itself, summed.
    async fn alone(&self, name: &str) -> Duration {
        self.write("chain", name);
        let documents = self.envctl(&["config", "-o", "objects"]);
        let read = |text: &str| serde_yaml::from_str::<Value>(text).expect("YAML");
        let objects: Vec<Value> = documents.split("---\n").map(read).collect();
        let kubeconfig =
            kube::config::Kubeconfig::read_from(self.home.path().join("kubeconfig")).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("it is whole");
        let client = Client::try_from(config).expect("a client");
        self.kubectl(&["create", "namespace", name], "");
        let services: Api<Service> = Api::namespaced(client.clone(), name);
        let deployments: Api<Deployment> = Api::namespaced(client, name);
        let parameters = PatchParams::apply(NAME).force();
        let mut sum = Duration::ZERO;
        for service in CHAIN {
            let find = |kind: &str| {
                let of = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == service;
                Patch::Apply(objects.iter().find(of).expect("it is rendered"))
            };
            let began = Instant::now();
            services.patch(service, &parameters, &find("Service")).await.expect("applied");
            deployments.patch(service, &parameters, &find("Deployment")).await.expect("applied");
            let done = await_condition(deployments.clone(), service, conditions::is_deployment_completed());
            done.await.expect("it is watched");
            sum += began.elapsed();
        }
        sum
    }

    /// How many requests of this program's user the API server let through meanwhile.
    fn counted(&self, act: impl FnOnce() -> Duration) -> (Duration, u64) {
        let before = self.requests();
        let took = act();
        (took, self.requests() - before)
    }

    fn requests(&self) -> u64 {
        let metrics = self.admin(&["get", "--raw", "/metrics"], "");
        let mine = metrics.lines().filter(|line| {
            line.starts_with("apiserver_flowcontrol_dispatched_requests_total{")
                && line.contains(&format!("\"{NAME}\""))
        });
        mine.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let mut down = Command::new(env!("CARGO_BIN_EXE_envctl"));
        down.args(["down", "--all"]).env("ENVCTL_STATE_DIR", self.home.path().join("state"));
        let _ended = down.env("HOME", self.home.path()).stderr(Stdio::null()).status();
        self.admin(&["delete", "clusterrolebinding,flowschema", NAME], "");
        self.admin(&["delete", "namespace", NAME], "");
    }
}

/// Runs a program to its end, which must be a good one. What it printed.
fn must(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // It may end without reading; its status says so.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn spread(times: &[Duration]) -> String {
    let seconds = |time: Option<&Duration>| time.copied().unwrap_or_default().as_secs_f64();
    format!("{:.2} to {:.2} s", seconds(times.iter().min()), seconds(times.iter().max()))
}

fn row(what: &str, time: Duration, note: &str) {
    say(&format!("{what:<52} {:>8.2} s  {note}", time.as_secs_f64()));
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output takes a line");
}
