//! A pod's status from its spec and its containers' statuses: phase and conditions. Pure.
//!
//! Follows upstream's `pkg/kubelet/status/generate.go` and `pkg/kubelet/kubelet_pods.go`
//! (`getPhase`, `generateAPIPodStatus`).

use k8s_openapi::api::core::v1::{Container, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::restart::should_restart;

/// What the actor knows besides the pod object.
#[derive(Debug, Clone)]
pub struct Observed {
    /// In the spec's order.
    pub init: Vec<ContainerStatus>,
    /// In the spec's order.
    pub regular: Vec<ContainerStatus>,
    /// Whether the sandbox stands.
    pub sandbox: bool,
    /// The pod's address, once it has had one.
    pub pod_ip: Option<String>,
    /// The node's address.
    pub host_ip: String,
    /// When the kubelet saw the pod.
    pub start_time: Time,
    /// Nothing in this pod runs or will run again.
    pub terminal: bool,
    /// Whether some regular container has ever started.
    pub has_initialized: bool,
    /// A reason and message that make the pod Failed whatever its containers say (`DeadlineExceeded`).
    pub failed: Option<(&'static str, &'static str)>,
}

/// Whether an init container is a sidecar: it starts in order and keeps running.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The pod's whole status. `old` is the last one: transition times of unchanged conditions are
/// kept, and conditions of other writers are read from the pod object.
pub fn generate(pod: &Pod, old: &PodStatus, observed: &Observed, now: Time) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let all: Vec<&ContainerStatus> = observed.init.iter().chain(&observed.regular).collect();
    let mut phase = phase(spec, &all, observed.terminal, observed.has_initialized);
    let (mut reason, mut message) = (None, None);
    if let Some((why, words)) = observed.failed {
        phase = "Failed";
        (reason, message) = (Some(why.to_owned()), Some(words.to_owned()));
    }
    // A pod never leaves a terminal phase.
    let was = [old.phase.as_deref(), pod.status.as_ref().and_then(|status| status.phase.as_deref())];
    for terminal in ["Failed", "Succeeded"] {
        if was.contains(&Some(terminal)) {
            phase = terminal;
        }
    }
    let generation = pod.metadata.generation;
    let gates = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let mut conditions = Vec::new();
    let mut push = |kind: &str, judged: Judged| {
        let status = if judged.0.is_ok() { "True" } else { "False" };
        let kept =
            old.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == status);
        let (reason, message) = match judged.0 {
            Ok(reason) => (reason, None),
            Err((reason, message)) => (reason, message),
        };
        conditions.push(PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: Some(
                kept.and_then(|kept| kept.last_transition_time.clone()).unwrap_or_else(|| now.clone()),
            ),
            observed_generation: generation,
            last_probe_time: None,
        });
    };
    push("PodReadyToStartContainers", Judged(if observed.sandbox { Ok(None) } else { Err((None, None)) }));
    push("Initialized", initialized(spec, &all, phase, old));
    let containers_ready = containers_ready(spec, &all, phase);
    push("Ready", ready(spec, gates, containers_ready.clone()));
    push("ContainersReady", containers_ready);
    push("PodScheduled", Judged(Ok(None)));
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        reason,
        message,
        host_ip: Some(observed.host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: observed.host_ip.clone() }]),
        pod_ip: observed.pod_ip.clone(),
        pod_ips: observed.pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        start_time: Some(observed.start_time.clone()),
        observed_generation: generation,
        init_container_statuses: Some(observed.init.clone()).filter(|list| !list.is_empty()),
        container_statuses: Some(observed.regular.clone()).filter(|list| !list.is_empty()),
        ..PodStatus::default()
    }
}

/// A condition's outcome: true with a reason, or false with reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judged(Result<Option<&'static str>, (Option<&'static str>, Option<String>)>);

fn find<'a>(statuses: &[&'a ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == name).copied()
}

fn go_list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn containers_ready(spec: &PodSpec, statuses: &[&ContainerStatus], phase: &str) -> Judged {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    for container in sidecars.chain(&spec.containers) {
        match find(statuses, &container.name) {
            Some(status) if status.ready => {}
            Some(_) => unready.push(container.name.as_str()),
            None => unknown.push(container.name.as_str()),
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Judged(Err((Some("PodCompleted"), None)));
    }
    if phase == "Failed" {
        return Judged(Err((Some("PodFailed"), None)));
    }
    let mut words = Vec::new();
    if !unknown.is_empty() {
        words.push(format!("containers with unknown status: {}", go_list(&unknown)));
    }
    if !unready.is_empty() {
        words.push(format!("containers with unready status: {}", go_list(&unready)));
    }
    if words.is_empty() { Judged(Ok(None)) } else { Judged(Err((Some("ContainersNotReady"), Some(words.join(", "))))) }
}

fn ready(spec: &PodSpec, conditions: &[PodCondition], containers_ready: Judged) -> Judged {
    if containers_ready.0.is_err() {
        return containers_ready;
    }
    let mut words = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match conditions.iter().find(|condition| &condition.type_ == kind) {
            None => words.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(condition) if condition.status != "True" => words
                .push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", condition.status)),
            Some(_) => {}
        }
    }
    if words.is_empty() {
        Judged(Ok(None))
    } else {
        Judged(Err((Some("ReadinessGatesNotReady"), Some(words.join(", ")))))
    }
}

fn initialized(spec: &PodSpec, statuses: &[&ContainerStatus], phase: &str, old: &PodStatus) -> Judged {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in spec.init_containers.iter().flatten() {
        match find(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if is_sidecar(container) && status.started == Some(true) => {}
            Some(status) if !is_sidecar(container) && status.ready => {}
            Some(_) => incomplete.push(container.name.as_str()),
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Judged(Ok(Some("PodCompleted")));
    }
    let regular_started =
        spec.containers.iter().filter_map(|container| find(statuses, &container.name)).any(has_started);
    let was =
        old.conditions.iter().flatten().any(|condition| condition.type_ == "Initialized" && condition.status == "True");
    if regular_started || was {
        return Judged(Ok(None));
    }
    let mut words = Vec::new();
    if !unknown.is_empty() {
        words.push(format!("containers with unknown status: {}", go_list(&unknown)));
    }
    if !incomplete.is_empty() {
        words.push(format!("containers with incomplete status: {}", go_list(&incomplete)));
    }
    if words.is_empty() {
        Judged(Ok(None))
    } else {
        Judged(Err((Some("ContainersNotInitialized"), Some(words.join(", ")))))
    }
}

/// `HasAnyRegularContainerStarted`: it runs or has run.
fn has_started(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
}

/// Upstream's `getPhase`.
pub fn phase(spec: &PodSpec, statuses: &[&ContainerStatus], terminal: bool, has_initialized: bool) -> &'static str {
    let (mut pending_sidecars, mut pending_init, mut failed_init) = (0, 0, 0);
    let (mut unknown, mut running, mut waiting, mut stopped, mut stopped_for_good, mut succeeded) = (0, 0, 0, 0, 0, 0);
    for container in spec.init_containers.iter().flatten() {
        let status = find(statuses, &container.name);
        let state = status.and_then(|status| status.state.as_ref());
        let last = status.and_then(|status| status.last_state.as_ref()).and_then(|last| last.terminated.as_ref());
        if is_sidecar(container) {
            match state {
                None => {
                    unknown += 1;
                    pending_sidecars += i32::from(status.is_some());
                }
                Some(state) if state.running.is_some() => {
                    running += 1;
                    pending_sidecars += i32::from(status.is_none_or(|status| status.started != Some(true)));
                }
                Some(state) if state.terminated.is_some() => {}
                Some(_) if last.is_some() => {}
                Some(_) => {
                    pending_sidecars += 1;
                    waiting += 1;
                }
            }
        } else {
            let ended = state.and_then(|state| state.terminated.as_ref()).or(last);
            match ended {
                Some(_) if state.is_some_and(|state| state.running.is_some()) => pending_init += 1,
                Some(ended) if ended.exit_code != 0 => {
                    failed_init += i32::from(!should_restart(spec, container, ended.exit_code));
                }
                Some(_) => {}
                None => pending_init += 1,
            }
        }
    }
    for container in &spec.containers {
        let Some(status) = find(statuses, &container.name) else {
            unknown += 1;
            continue;
        };
        let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let mut stop = |exit_code: i32| {
            stopped += 1;
            stopped_for_good += i32::from(!should_restart(spec, container, exit_code));
        };
        match &status.state {
            Some(state) if state.running.is_some() => running += 1,
            Some(state) if state.terminated.is_some() => {
                let exit_code = state.terminated.as_ref().map_or(0, |ended| ended.exit_code);
                stop(exit_code);
                succeeded += i32::from(exit_code == 0);
            }
            Some(state) if state.waiting.is_some() => match last {
                Some(last) => stop(last.exit_code),
                None => waiting += 1,
            },
            _ => unknown += 1,
        }
    }
    if failed_init > 0 {
        return "Failed";
    }
    if pending_init > 0 || (pending_sidecars > 0 && !has_initialized) || waiting > 0 {
        return "Pending";
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running == 0 && stopped > 0 && unknown == 0 {
        if !terminal && stopped != stopped_for_good {
            return "Running";
        }
        return if stopped == succeeded { "Succeeded" } else { "Failed" };
    }
    "Pending"
}

#[cfg(test)]
mod tests;
