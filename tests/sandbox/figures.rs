//! What it costs: `cargo test --release --test sandbox -- --ignored --nocapture figures`.

use std::fs;
use std::time::{Duration, Instant};

use envctl::embedded::kubelet::runtime::Runtime;

use crate::rig::{container, finish, is_root, node, pod, read_line, script};

const PODS: usize = 200;

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    format!("p50 {:.2} ms, p95 {:.2} ms", at(50), at(95))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; prints figures"]
async fn figures() {
    println!("as {}", if is_root() { "root" } else { "an ordinary user" });
    let mut starts = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let node = node().await;
        starts.push(begun.elapsed());
        node.stop().await;
    }
    println!("node start: {}", median(starts));
    let node = node().await;
    let (mut pods, mut containers, mut execs, mut removals) = (vec![], vec![], vec![], vec![]);
    for number in 0..50 {
        let uid = format!("pod-{number}");
        let begun = Instant::now();
        pod(&node, &uid).await;
        pods.push(begun.elapsed());
        let mut config = container(&uid, &uid, "");
        config.argv = vec!["sleep".to_owned(), "1000".to_owned()];
        let begun = Instant::now();
        let _running = node.start_container(config).await.expect("a start");
        containers.push(begun.elapsed());
        let begun = Instant::now();
        let mut config = script("");
        config.argv = vec!["true".to_owned()];
        finish(node.exec(&uid, config).await.expect("an exec")).await;
        execs.push(begun.elapsed());
        let begun = Instant::now();
        node.remove_pod_sandbox(&uid).await.expect("removal");
        removals.push(begun.elapsed());
    }
    println!("pod sandbox: {}\ncontainer start: {}", median(pods), median(containers));
    println!("exec to its end: {}\nremoval: {}", median(execs), median(removals));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..PODS)
        .map(|number| {
            let node = node.clone();
            tokio::spawn(async move {
                let uid = format!("many-{number}");
                pod(&node, &uid).await;
                let mut process =
                    node.start_container(container(&uid, &uid, "echo up; exec sleep 1000")).await.expect("a start");
                read_line(&mut process.stdout).await;
                (uid, process)
            })
        })
        .collect();
    let mut running = Vec::new();
    for task in tasks {
        running.push(task.await.expect("a pod"));
    }
    println!("{PODS} pods with a program that has written: {:.2} s", begun.elapsed().as_secs_f64());
    memory();
    let begun = Instant::now();
    let removals: Vec<_> = running
        .iter()
        .map(|(uid, _)| {
            let (node, uid) = (node.clone(), uid.clone());
            tokio::spawn(async move { node.remove_pod_sandbox(&uid).await.expect("removal") })
        })
        .collect();
    for removal in removals {
        removal.await.expect("removal");
    }
    println!("{PODS} pods removed: {:.2} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    node.stop().await;
    println!("stop of an empty node: {:.2} ms", begun.elapsed().as_secs_f64() * 1000.0);
}

/// Of the node, and of its containers' first processes on average: resident, and its own share.
#[expect(clippy::print_stdout, reason = "figures are for people")]
fn memory() {
    let (mut node, mut reapers) = (None, Vec::new());
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let Ok(rollup) = fs::read_to_string(entry.path().join("smaps_rollup")) else { continue };
        let field = |name: &str| -> u64 {
            let line = rollup.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        let sizes = (field("Rss:"), field("Pss:"), field("Private_Dirty:"));
        match name.trim() {
            "envctl-node" => node = Some(sizes),
            "envctl-reaper" => reapers.push(sizes),
            _ => {}
        }
    }
    println!("node: Rss, Pss, private dirty kB: {node:?}");
    if let Some(middle) = reapers.get(reapers.len() / 2) {
        println!("a reaper of {}: {middle:?}", reapers.len());
    }
}
