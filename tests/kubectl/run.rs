//! run, logs, exec, and jobs: what happens inside containers.

use crate::{Output, kubectl, kubectl_fails, kubectl_input};

/// A pod that runs one shell script; waits for what `condition` says.
fn script(name: &str, script: &str, condition: &str) -> Option<Output> {
    kubectl(&["run", name, "--image=sh", "--restart=Never", "--", script])?;
    kubectl(&["wait", condition, &format!("pod/{name}"), "--timeout=30s"])
}

#[test]
fn logs_are_what_the_container_printed() {
    let Some(_) = script("talks", "echo one; echo two >&2; echo three", "--for=jsonpath={.status.phase}=Succeeded")
    else {
        return;
    };
    let logs = kubectl(&["logs", "talks"]).expect("it is here").out;
    let mut lines: Vec<_> = logs.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "three", "two"]);
    assert_eq!(kubectl(&["logs", "talks", "--tail=1"]).expect("it is here").out.lines().count(), 1);
    assert_eq!(kubectl(&["logs", "-f", "talks"]).expect("it is here").out.lines().count(), 3);
    let stamped = kubectl(&["logs", "talks", "--timestamps"]).expect("it is here").out;
    assert!(stamped.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{stamped}");
    kubectl(&["delete", "pod", "talks"]);
}

#[test]
fn logs_of_the_previous_container_are_kept() {
    let manifest = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"again"},"spec":{
        "containers":[{"name":"c","image":"sh","args":["[ -e /keep/second ] && { echo second; exec sleep 1000; }; touch /keep/second; echo first; exit 3"],
        "volumeMounts":[{"name":"keep","mountPath":"/keep"}]}],"volumes":[{"name":"keep","emptyDir":{}}]}}"#;
    let Some(_) = kubectl_input(&["create", "-f", "-"], manifest) else { return };
    kubectl(&["wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/again", "--timeout=40s"]);
    assert_eq!(kubectl(&["logs", "again", "--previous"]).expect("it is here").out, "first\n");
    let code = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}";
    assert_eq!(kubectl(&["get", "pod", "again", "-o", code]).expect("it is here").out, "3");
    kubectl(&["delete", "pod", "again", "--timeout=30s"]);
}

#[test]
fn exec_runs_a_command_in_the_container() {
    let Some(_) = script("inside", "exec sleep 1000", "--for=condition=Ready") else { return };
    assert_eq!(kubectl(&["exec", "inside", "--", "hostname"]).expect("it is here").out, "inside\n");
    let echoed = kubectl_input(&["exec", "-i", "inside", "--", "cat"], "to and fro").expect("it is here");
    assert_eq!(echoed.out, "to and fro");
    let failed = kubectl_fails(&["exec", "inside", "--", "/bin/sh", "-c", "echo broken >&2; exit 7"], "");
    let failed = failed.expect("it is here");
    assert_eq!((failed.code, failed.err.contains("broken")), (Some(7), true), "{}", failed.err);
    let missing = kubectl_fails(&["exec", "inside", "--", "no-such-program"], "").expect("it is here");
    assert!(missing.err.contains("executable file not found"), "{}", missing.err);
    kubectl(&["delete", "pod", "inside", "--timeout=30s"]);
}

#[test]
fn a_job_runs_to_its_end() {
    let Some(_) = kubectl(&["create", "job", "sum", "--image=sh", "--", "/bin/sh", "-c", "echo $((20 + 22))"]) else {
        return;
    };
    kubectl(&["wait", "--for=condition=Complete", "job/sum", "--timeout=30s"]);
    assert_eq!(kubectl(&["logs", "job/sum"]).expect("it is here").out, "42\n");
    let table = kubectl(&["get", "job", "sum"]).expect("it is here").out;
    assert!(table.contains("Complete") && table.contains("1/1"), "{table}");
    kubectl(&["delete", "job", "sum"]);
}

#[test]
fn an_unknown_image_says_how_to_map_it() {
    let Some(_) = kubectl(&["run", "unknown", "--image=nobody/knows:1"]) else { return };
    let waiting = "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull";
    kubectl(&["wait", waiting, "pod/unknown", "--timeout=30s"]);
    let pod = kubectl(&["get", "pod", "unknown", "-o", "json"]).expect("it is here").json();
    let state = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&state["reason"].as_str().unwrap_or_default()), "{state}");
    let described = kubectl(&["describe", "pod", "unknown"]).expect("it is here").out;
    assert!(described.contains("images:") && described.contains("nobody/knows:1"), "{described}");
    kubectl(&["delete", "pod", "unknown"]);
}

#[test]
fn attach_and_cp_reach_into_the_container() {
    let listen = "while read word; do echo got $word; done";
    let manifest = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"attached"}},"spec":{{"restartPolicy":"Never","containers":[
        {{"name":"c","image":"sh","args":["{listen}"],"stdin":true,"stdinOnce":true}}]}}}}"#
    );
    let Some(_) = kubectl_input(&["create", "-f", "-"], &manifest) else { return };
    kubectl(&["wait", "--for=condition=Ready", "pod/attached", "--timeout=30s"]);
    kubectl(&["exec", "attached", "--", "/bin/sh", "-c", "echo inside > /tmp/file"]);
    kubectl(&["cp", "attached:/tmp/file", "copied"]);
    kubectl(&["cp", "copied", "attached:/tmp/back"]);
    assert_eq!(kubectl(&["exec", "attached", "--", "cat", "/tmp/back"]).expect("it is here").out, "inside\n");
    let unknown = kubectl_fails(&["logs", "attached", "-c", "nobody"], "").expect("it is here");
    assert!(unknown.err.contains("container nobody is not valid for pod attached"), "{}", unknown.err);
    let none = kubectl_fails(&["logs", "attached", "--previous"], "").expect("it is here");
    assert!(none.err.contains("previous terminated container \"c\" in pod \"attached\" not found"), "{}", none.err);
    // Its end of input is the program's, and the program's end is the attachment's.
    let said = kubectl_input(&["attach", "-i", "attached"], "hello\nagain\n").expect("it is here");
    assert_eq!(said.out, "got hello\ngot again\n", "{}", said.err);
    kubectl(&["delete", "pod", "attached", "--now"]);
}
