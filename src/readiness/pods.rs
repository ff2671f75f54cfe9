//! What one pod says about why it isn't ready: from its status alone, as the kubelet words it.
//!
//! The reasons are the kubelet's: upstream `pkg/kubelet/kuberuntime/kuberuntime_manager.go`,
//! `kuberuntime_container.go` (`CreateContainerConfigError`, `RunContainerError`), `pkg/kubelet/images/types.go`
//! (`ErrImagePull`, `ImagePullBackOff`, `InvalidImageName`, `ErrImageNeverPull`), and the scheduler's
//! `Unschedulable`; `StartError` and `ContainerCannotRun` are containerd's and Docker's for a program that
//! cannot be run.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};

use super::{Finding, Limits, Patience, Role, words};
use crate::provision::failure::Cause;

const IMAGE_REASONS: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
];
const START_REASONS: [&str; 2] = ["StartError", "ContainerCannotRun"];

/// Whether a container was ended by the kubelet because of a probe: then its exit code says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or by a signal of its own doing.
    ByItself,
    /// By the kubelet, after a liveness or startup probe failed.
    ByProbe,
}

/// Whether the pod's `Ready` condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _, _)| status == "True")
}

/// Whether all its containers have been started, ready or not.
pub fn is_started(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let ran = |state: &Option<ContainerState>| {
        state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    !main.is_empty() && main.iter().all(|status| ran(&status.state) || ran(&status.last_state))
}

/// How often its containers were restarted.
pub fn restarts(pod: &Pod) -> i32 {
    containers(pod).map(|(status, _)| status.restart_count).sum()
}

/// What keeps this pod from being what `role` asks for, if it shows it.
pub fn finding(pod: &Pod, role: Role, limits: &Limits, ended: Ended) -> Option<Finding> {
    if is_ready(pod) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let found = unschedulable(pod, limits).or_else(|| {
        containers(pod).find_map(|(status, kind)| {
            let role = match kind {
                Kind::Init => Role::Complete,
                Kind::Main => role,
            };
            waiting(pod, status).or_else(|| ending(status, kind, role, limits, ended))
        })
    })?;
    Some(Finding { pod: pod.metadata.name.clone(), ..found })
}

/// What the pod is doing, in a few words; empty when it is ready.
pub fn progress(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "ending".to_owned();
    }
    if is_ready(pod) {
        return String::new();
    }
    for (status, kind) in containers(pod) {
        let restarts = match status.restart_count {
            0 => String::new(),
            count => format!(", restarted {count}×"),
        };
        let Some(state) = &status.state else { continue };
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let last = last.map(|ended| format!(", {}", describe(ended))).unwrap_or_default();
        if let Some(waiting) = &state.waiting {
            match waiting.reason.as_deref() {
                None | Some("ContainerCreating" | "PodInitializing") if restarts.is_empty() => continue,
                None => continue,
                Some(reason) => return format!("{reason}{restarts}{last}"),
            }
        }
        if let Some(ended) = &state.terminated
            && !(kind == Kind::Init && ended.exit_code == 0)
        {
            return format!("{}{restarts}", describe(ended));
        }
        if state.running.is_some() && kind == Kind::Init && status.started != Some(true) {
            return format!("init container {} runs{restarts}", status.name);
        }
        if state.running.is_some() && !status.ready {
            return format!("running, not ready{restarts}{last}");
        }
    }
    match condition(pod, "PodScheduled") {
        Some(("False", _, message)) => words::plain(message).into_owned(),
        Some(_) => "starting".to_owned(),
        None => "being scheduled".to_owned(),
    }
}

/// How a container ended, for people: `exited with code 3 after 12 ms`.
pub fn describe(ended: &ContainerStateTerminated) -> String {
    let how = match (ended.signal, ended.exit_code) {
        (Some(signal), _) if signal > 0 => format!("was ended by signal {signal}"),
        (_, 137) if ended.reason.as_deref() == Some("OOMKilled") => "was killed: out of memory".to_owned(),
        (_, code @ 129..=159) => format!("exited with code {code} (signal {})", code - 128),
        (_, code) => format!("exited with code {code}"),
    };
    match (&ended.started_at, &ended.finished_at) {
        // Kubernetes' times are in whole seconds: below that, saying a duration would be invented precision.
        // What was never started has 1970 there (containerd).
        (Some(from), Some(to)) if from.0.as_second() > 0 && to.0.duration_since(from.0).as_secs() > 0 => {
            format!("{how} after {} s", to.0.duration_since(from.0).as_secs())
        }
        _ => how,
    }
}

/// The container most worth reading the log of, and whether its previous run exists.
pub fn loudest_container(pod: &Pod) -> Option<&ContainerStatus> {
    let failed = |status: &&ContainerStatus| {
        let ended = |state: &Option<ContainerState>| {
            state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|ended| ended.exit_code != 0)
        };
        ended(&status.state) || ended(&status.last_state)
    };
    containers(pod)
        .map(|(status, _)| status)
        .find(failed)
        .or_else(|| {
            containers(pod).map(|(status, _)| status).find(|status| !status.ready && status.container_id.is_some())
        })
        .or_else(|| containers(pod).map(|(status, _)| status).find(|status| status.container_id.is_some()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Main,
}

fn containers(pod: &Pod) -> impl Iterator<Item = (&ContainerStatus, Kind)> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    init.iter().map(|status| (status, Kind::Init)).chain(main.iter().map(|status| (status, Kind::Main)))
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&found.status, found.reason.as_deref().unwrap_or_default(), found.message.as_deref().unwrap_or_default()))
}

fn unschedulable(pod: &Pod, limits: &Limits) -> Option<Finding> {
    let ("False", "Unschedulable", message) = condition(pod, "PodScheduled")? else { return None };
    Some(Finding {
        cause: Cause::Unschedulable,
        message: format!("no node can take it: {}", words::plain(message)),
        hint: Some("lower `resources`, or make room on the cluster".to_owned()),
        patience: Patience::For(limits.unschedulable),
        pod: None,
    })
}

fn image<'a>(pod: &'a Pod, container: &str) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.into_iter().find(|entry| entry.name == container)?.image.as_deref()
}

fn waiting(pod: &Pod, status: &ContainerStatus) -> Option<Finding> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or(reason);
    if IMAGE_REASONS.contains(&reason) {
        let image = image(pod, &status.name).unwrap_or(&status.image).to_owned();
        return Some(Finding {
            message: format!("image {image:?} cannot be run: {message}"),
            hint: Some(format!("say how this cluster runs it: an entry for {image:?} under `images:`")),
            cause: Cause::ImageNotFound { image },
            patience: Patience::None,
            pod: None,
        });
    }
    match reason {
        "CreateContainerConfigError" => Some(Finding {
            cause: Cause::MissingConfig,
            message: format!("something its spec refers to is missing: {message}"),
            hint: Some("Secrets and ConfigMaps come from `manifests:`, credentials also from `keys:`".to_owned()),
            patience: Patience::UntilGraphSettles { backs_off: false },
            pod: None,
        }),
        "RunContainerError" | "CreateContainerError" => Some(not_runnable(message)),
        _ => None,
    }
}

fn not_runnable(message: &str) -> Finding {
    let message = words::plain(message);
    Finding {
        cause: Cause::CommandNotFound { detail: message.clone().into_owned() },
        message: format!("its command could not be started: {message}"),
        hint: Some("check `command`, and the image's `entrypoint` and `path`".to_owned()),
        patience: Patience::None,
        pod: None,
    }
}

/// What the end of a container's current or last run says.
fn ending(status: &ContainerStatus, kind: Kind, role: Role, limits: &Limits, ended_by: Ended) -> Option<Finding> {
    let terminated = |state: &'_ Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    let ended = terminated(&status.state).or_else(|| terminated(&status.last_state))?;
    if running {
        return None;
    }
    if START_REASONS.contains(&ended.reason.as_deref().unwrap_or_default()) {
        return Some(not_runnable(ended.message.as_deref().unwrap_or("the runtime could not start it")));
    }
    let finding = |cause, message: String, hint: Option<&str>| Finding {
        cause,
        message,
        hint: hint.map(str::to_owned),
        patience: Patience::None,
        pod: None,
    };
    if ended.exit_code == 0 && ended_by == Ended::ByItself {
        return (role == Role::Serve).then(|| {
            finding(
                Cause::ExitedEarly,
                format!("container {} ended by itself ({}) while it should serve", status.name, describe(&ended)),
                Some("a service must keep running in the foreground; what runs to completion belongs under `jobs:`"),
            )
        });
    }
    // A job's own controller counts its failures; init containers of a service are counted like its other containers.
    let counts = role == Role::Serve || kind == Kind::Init;
    if !counts || status.restart_count < limits.crash_budget {
        return None;
    }
    Some(crash_loop(status, &ended, ended_by))
}

/// Of a pod that looks fine for the moment: how a container of it ended before it was restarted.
pub fn crashed(pod: &Pod, ended_by: Ended) -> Option<Finding> {
    let mut main = containers(pod).filter(|(status, kind)| *kind == Kind::Main && status.restart_count > 0);
    let found = main.find_map(|(status, _)| {
        let ended = |state: &'_ Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
        let ended = ended(&status.state).or_else(|| ended(&status.last_state))?;
        Some(crash_loop(status, &ended, ended_by))
    })?;
    Some(Finding { pod: pod.metadata.name.clone(), ..found })
}

fn crash_loop(status: &ContainerStatus, ended: &ContainerStateTerminated, ended_by: Ended) -> Finding {
    let restarts = times(status.restart_count);
    let message = match ended_by {
        Ended::ByItself => format!("container {} {}, after {restarts}", status.name, describe(ended)),
        Ended::ByProbe => format!("container {} failed its probe, after {restarts}", status.name),
    };
    Finding {
        cause: Cause::CrashLoop { restarts: status.restart_count, code: ended.exit_code },
        message,
        hint: None,
        patience: Patience::None,
        pod: None,
    }
}

fn times(restarts: i32) -> String {
    if restarts == 1 { "1 restart".to_owned() } else { format!("{restarts} restarts") }
}

/// Whether the program was never run: then there is no log either.
pub fn never_ran(status: &ContainerStatus) -> bool {
    let reason = |state: &Option<ContainerState>| {
        state.as_ref()?.terminated.as_ref()?.reason.clone().filter(|reason| START_REASONS.contains(&reason.as_str()))
    };
    reason(&status.state).or_else(|| reason(&status.last_state)).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "api-1"},
            "spec": {"containers": [{"name": "api", "image": "demo/api"}]},
            "status": status,
        }))
        .expect("a pod")
    }

    fn container(state: Value, last: Value, restarts: i32) -> Pod {
        pod(json!({"containerStatuses": [{"name": "api", "image": "", "imageID": "", "ready": false,
            "restartCount": restarts, "state": state, "lastState": last}]}))
    }

    fn ended(code: i32, reason: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason, "message": "exec: \"x\": executable file not found in $PATH"}})
    }

    fn found(pod: &Pod, role: Role) -> Option<Cause> {
        finding(pod, role, &Limits::default(), Ended::ByItself).map(|finding| finding.cause)
    }

    #[test]
    fn a_missing_image_and_a_missing_command_fail_at_once() {
        let waiting = |reason: &str| container(json!({"waiting": {"reason": reason, "message": "m"}}), json!({}), 0);
        for reason in IMAGE_REASONS {
            assert_eq!(
                found(&waiting(reason), Role::Serve),
                Some(Cause::ImageNotFound { image: "demo/api".to_owned() })
            );
        }
        assert_eq!(
            found(&waiting("RunContainerError"), Role::Serve),
            Some(Cause::CommandNotFound { detail: "m".to_owned() })
        );
        assert!(matches!(
            found(&container(ended(128, "StartError"), json!({}), 0), Role::Complete),
            Some(Cause::CommandNotFound { .. })
        ));
        assert_eq!(found(&waiting("ContainerCreating"), Role::Serve), None);
    }

    #[test]
    fn missing_config_waits_for_the_rest_of_the_graph() {
        let pod = container(
            json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"s\" not found"}}),
            json!({}),
            0,
        );
        let finding = finding(&pod, Role::Serve, &Limits::default(), Ended::ByItself).expect("a finding");
        assert_eq!(
            (finding.cause, finding.patience),
            (Cause::MissingConfig, Patience::UntilGraphSettles { backs_off: false })
        );
    }

    #[test]
    fn a_crash_is_borne_until_the_budget_is_used_up() {
        let backoff = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(found(&container(backoff.clone(), ended(1, "Error"), 4), Role::Serve), None);
        assert_eq!(
            found(&container(backoff.clone(), ended(1, "Error"), 5), Role::Serve),
            Some(Cause::CrashLoop { restarts: 5, code: 1 })
        );
        // While it runs again it may still make it.
        assert_eq!(found(&container(json!({"running": {}}), ended(1, "Error"), 5), Role::Serve), None);
        // A job's own controller counts.
        assert_eq!(found(&container(backoff, ended(1, "Error"), 9), Role::Complete), None);
    }

    #[test]
    fn ending_well_is_a_failure_only_for_what_should_serve() {
        let done = container(ended(0, "Completed"), json!({}), 0);
        assert_eq!(found(&done, Role::Serve), Some(Cause::ExitedEarly));
        assert_eq!(found(&done, Role::Complete), None);
        // The kubelet ended it after a failed probe, and it handled SIGTERM well: that is a restart like any other.
        assert_eq!(finding(&done, Role::Serve, &Limits::default(), Ended::ByProbe), None);
    }

    #[test]
    fn unschedulable_has_its_own_clock() {
        let pod = pod(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
        );
        let finding = finding(&pod, Role::Serve, &Limits::default(), Ended::ByItself).expect("a finding");
        assert_eq!(finding.patience, Patience::For(Limits::default().unschedulable));
        assert_eq!(progress(&pod), "0/1 nodes");
    }

    #[test]
    fn progress_says_what_it_is_doing() {
        assert_eq!(progress(&pod(json!({}))), "being scheduled");
        assert_eq!(progress(&container(json!({"running": {}}), json!({}), 0)), "running, not ready");
        assert_eq!(
            progress(&container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended(3, "Error"), 2)),
            "CrashLoopBackOff, restarted 2×, exited with code 3"
        );
        assert_eq!(
            progress(&container(json!({"running": {}}), ended(3, "Error"), 2)),
            "running, not ready, restarted 2×, exited with code 3"
        );
    }

    #[test]
    fn a_crash_is_known_while_the_next_run_looks_fine() {
        let running = json!({"running": {}});
        let found = crashed(&container(running.clone(), ended(3, "Error"), 2), Ended::ByItself).expect("it crashed");
        assert_eq!(found.cause, Cause::CrashLoop { restarts: 2, code: 3 });
        assert_eq!(found.message, "container api exited with code 3, after 2 restarts");
        assert_eq!(found.pod.as_deref(), Some("api-1"));
        // Its end may be seen in the pod before the Deployment tells of it.
        let found = crashed(&container(ended(4, "Error"), json!({}), 2), Ended::ByItself).expect("it crashed");
        assert_eq!(found.cause, Cause::CrashLoop { restarts: 2, code: 4 });
        assert_eq!(crashed(&container(running, json!({}), 0), Ended::ByItself), None);
    }
}
