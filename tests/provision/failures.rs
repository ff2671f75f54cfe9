//! Failure screens: real runs on the embedded cluster, what people read as snapshots.

use envctl::plan::NodeKind;
use envctl::provision::{Cause, Event, Failure};
use serde_json::json;

use crate::rig::{Rig, examples, job, service, service_with};

/// The screen, with what differs from run to run masked: pod names' random ends, addresses, this machine's paths, and how far the
/// kubelet had come with its next try.
fn screen(failure: &Failure) -> String {
    let mut failure = failure.clone();
    failure.events.retain(|event| event.reason != "BackOff");
    failure.events.iter_mut().for_each(|event| event.count = 1);
    failure.probes.iter_mut().for_each(|probe| probe.count = 3);
    let mut text = failure.render().replace(&examples().display().to_string(), "EXAMPLES");
    let mut pods: Vec<String> = failure.logs.iter().map(|log| log.pod.clone()).collect();
    pods.extend(failure.events.iter().filter_map(|event| Some(event.object.split_once('/')?.1.to_owned())));
    pods.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for pod in pods {
        if let Some((stem, _)) = pod.split_once('-') {
            text = text.replace(&pod, &format!("{stem}-POD"));
        }
    }
    let mask = |word: &str| match word.find("10.244.") {
        Some(at) => {
            let end = word[at..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(word.len(), |end| at + end);
            format!("{}POD-IP{}", &word[..at], &word[end..])
        }
        None => word.to_owned(),
    };
    // Times are in whole seconds: a short run may cross one.
    text = text.replace(" after 1 s", "");
    text.split_inclusive(char::is_whitespace).map(mask).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_image() {
    let Some(mut rig) = Rig::start().await else { return };
    let api = service_with("api", json!({"image": "no/such:image"}), &[]);
    let failure = rig.failure(vec![api, service("web", &["hello"], &[(NodeKind::Service, "api")])]).await;
    assert_eq!(failure.cause, Cause::ImageNotFound { image: "no/such:image".to_owned() });
    insta::assert_snapshot!(screen(&failure));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_there() {
    let Some(mut rig) = Rig::start().await else { return };
    let failure = rig.failure(vec![service("api", &["no-such-program"], &[])]).await;
    assert!(matches!(failure.cause, Cause::CommandNotFound { .. }), "{failure:?}");
    insta::assert_snapshot!(screen(&failure));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ends_well_at_once() {
    let Some(mut rig) = Rig::start().await else { return };
    let failure = rig.failure(vec![service("api", &["sh", "-c", "echo done"], &[])]).await;
    assert_eq!(failure.cause, Cause::ExitedEarly);
    insta::assert_snapshot!(screen(&failure));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.options.limits.crash_budget = 1;
    let failure =
        rig.failure(vec![service("api", &["sh", "-c", "echo cannot reach the database >&2; exit 3"], &[])]).await;
    assert_eq!(failure.cause, Cause::CrashLoop { restarts: 1, code: 3 });
    insta::assert_snapshot!(screen(&failure));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_never_succeeds() {
    let Some(mut rig) = Rig::start().await else { return };
    let plan = rig.plan(vec![service("api", &["sleep", "60"], &[])]);
    // Told once, it is known; how long that takes on a busy machine isn't what is tested.
    let failed = |event: &Event| matches!(event, Event::Node { detail, .. } if detail.contains("probe failed"));
    let (_, outcome) = rig.up_until(&plan, failed).await;
    let failure = outcome.expect_err("it never answers");
    assert_eq!(failure.cause, Cause::NeverReady);
    insta::assert_snapshot!(screen(&failure));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails() {
    let Some(mut rig) = Rig::start().await else { return };
    let nodes = vec![
        job("migrate", "echo no such table >&2; exit 4", &[]),
        service("api", &["hello"], &[(NodeKind::Job, "migrate")]),
    ];
    let failure = rig.failure(nodes).await;
    assert_eq!(failure.cause, Cause::JobFailed { job_reason: "BackoffLimitExceeded".to_owned(), code: Some(4) });
    insta::assert_snapshot!(screen(&failure));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there() {
    let Some(mut rig) = Rig::start().await else { return };
    let env = json!([{"name": "PASSWORD", "secret": {"name": "db", "key": "password"}}]);
    let failure =
        rig.failure(vec![service_with("api", json!({"image": "host", "command": ["hello"], "env": env}), &[])]).await;
    assert_eq!(failure.cause, Cause::MissingConfig);
    insta::assert_snapshot!(screen(&failure));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails() {
    let Some(mut rig) = Rig::start().await else { return };
    let mut plan = rig.plan(vec![service("api", &["hello"], &[])]);
    if let Some(process) = plan.images.get_mut("host").and_then(|image| image.process.as_mut()) {
        process.build = ["sh", "-c", "echo 'error: expected `;`'; exit 101"].map(str::to_owned).to_vec();
    }
    let (_, outcome) = rig.up(&plan).await;
    let failure = outcome.expect_err("it cannot be built");
    let text = failure.render().replace(&rig.directory.path().display().to_string(), "PROJECT");
    insta::assert_snapshot!(text);
    rig.end().await;
}
