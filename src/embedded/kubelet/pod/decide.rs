//! Which containers to start and to end now. Pure.
//!
//! Follows upstream's `computePodActions` and `computeInitContainerActions`
//! (`pkg/kubelet/kuberuntime/kuberuntime_manager.go`, `kuberuntime_container.go`).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, PodSpec};
use tokio::time::Instant;

use super::super::restart::{Verdict, should_restart};
use super::state::{Container, Kind, Run};

/// What follows from a pod's state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Start these, by index.
    pub start: Vec<usize>,
    /// These are in back-off, for so long in all.
    pub backing_off: Vec<(usize, Duration)>,
    /// End these sidecars: what they served is done.
    pub stop: Vec<usize>,
    /// Nothing runs and nothing will again.
    pub terminal: bool,
    /// Look again then.
    pub wake: Option<Instant>,
}

impl Decision {
    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |known| known.min(at)));
    }

    /// Starts it, or waits until it may. True if it will run.
    fn try_start(&mut self, index: usize, container: &Container, now: Instant) {
        if let Some(hold) = container.hold.filter(|hold| *hold > now) {
            return self.wake_at(hold);
        }
        if let Run::Ended { at } = container.run
            && let Verdict::Wait { until, delay } = container.backoff.judge(at, now)
        {
            self.backing_off.push((index, delay));
            return self.wake_at(until);
        }
        self.start.push(index);
    }
}

/// The spec of the container at `index` in [`Container::all`]'s order.
pub fn spec_of(pod: &PodSpec, index: usize) -> Option<&Spec> {
    let init = pod.init_containers.as_deref().unwrap_or_default();
    init.get(index).or_else(|| pod.containers.get(index - init.len()))
}

/// Decides. `ending`: the pod is going; nothing starts any more.
pub fn decide(pod: &PodSpec, containers: &[Container], ending: bool, now: Instant) -> Decision {
    let mut decision = Decision::default();
    let busy = |container: &Container| container.is_running() || container.run == Run::Starting;
    let regular = || containers.iter().enumerate().filter(|(_, container)| container.kind == Kind::Regular);
    let running_sidecars = || {
        let stoppable = |container: &Container| matches!(container.run, Run::Running { stopping: false, .. });
        containers
            .iter()
            .enumerate()
            .rev()
            .filter(move |(_, container)| container.kind == Kind::Sidecar && stoppable(container))
    };
    if ending {
        // Sidecars go last.
        if !regular().any(|(_, container)| busy(container)) {
            decision.stop.extend(running_sidecars().map(|(index, _)| index));
        }
        decision.terminal = !containers.iter().any(busy);
        return decision;
    }
    let exit_code = |container: &Container| container.ended.as_ref().map_or(0, |ended| ended.exit_code);
    let restarts = |index: usize, container: &Container| {
        spec_of(pod, index).is_some_and(|spec| should_restart(pod, spec, exit_code(container)))
    };
    let initialized = regular().any(|(_, container)| container.runs > 0 || container.run != Run::Idle);
    let done = |(index, container): (usize, &Container)| {
        matches!(container.run, Run::Ended { .. }) && !restarts(index, container)
    };
    if !initialized {
        for (index, container) in containers.iter().enumerate().filter(|(_, container)| container.kind != Kind::Regular)
        {
            match (container.kind, &container.run) {
                (Kind::Sidecar, Run::Running { hooked: true, .. }) if container.started => {}
                (Kind::Init, Run::Ended { .. }) if exit_code(container) == 0 => {}
                (_, Run::Running { .. } | Run::Starting) => return decision,
                (_, Run::Idle) => {
                    decision.try_start(index, container, now);
                    return decision;
                }
                (_, Run::Ended { .. }) => {
                    if restarts(index, container) {
                        decision.try_start(index, container, now);
                    } else {
                        decision.stop.extend(running_sidecars().map(|(index, _)| index));
                        decision.terminal = !containers.iter().any(busy);
                    }
                    return decision;
                }
            }
        }
    }
    if regular().all(done) {
        decision.stop.extend(running_sidecars().map(|(index, _)| index));
        decision.terminal = !containers.iter().any(busy);
        return decision;
    }
    for (index, container) in containers.iter().enumerate() {
        match (container.kind, &container.run) {
            (Kind::Regular, Run::Idle) => decision.try_start(index, container, now),
            (Kind::Regular | Kind::Sidecar, Run::Ended { .. }) if restarts(index, container) => {
                decision.try_start(index, container, now);
            }
            _ => {}
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ContainerStateTerminated;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    /// A pod from words: `init`, `~sidecar`, and what each container is doing.
    fn decide_words(policy: &str, words: &[(&str, &str)], ending: bool) -> (Decision, Instant) {
        let now = Instant::now();
        let (mut init, mut regular) = (Vec::new(), Vec::new());
        for (name, _) in words {
            match name.chars().next() {
                Some('~') => init.push(json!({"name": name, "restartPolicy": "Always"})),
                Some('i') => init.push(json!({"name": name})),
                _ => regular.push(json!({"name": name})),
            }
        }
        let spec: PodSpec = serde_json::from_value(
            json!({"restartPolicy": policy, "initContainers": Value::from(init), "containers": regular}),
        )
        .unwrap();
        let mut containers = Container::all(&spec);
        for (container, (_, state)) in containers.iter_mut().zip(words) {
            let running = |hooked| Run::Running { since: Time(Timestamp::UNIX_EPOCH), hooked, stopping: false };
            match *state {
                "idle" => {}
                "starting" => container.run = Run::Starting,
                "running" => container.run = running(true),
                "started" => {
                    container.run = running(true);
                    container.started = true;
                }
                "crashing" => {
                    container.backoff.next(now, now);
                    container.end(ContainerStateTerminated { exit_code: 1, ..Default::default() }, now);
                }
                code => container
                    .end(ContainerStateTerminated { exit_code: code.parse().unwrap(), ..Default::default() }, now),
            }
            container.runs = u32::from(*state != "idle");
        }
        (decide(&spec, &containers, ending, now), now)
    }

    #[test]
    fn starts_in_order() {
        for (policy, words, start) in [
            ("Always", vec![("a", "idle"), ("b", "idle")], vec![0, 1]),
            ("Always", vec![("i1", "idle"), ("i2", "idle"), ("a", "idle")], vec![0]),
            ("Always", vec![("i1", "running"), ("i2", "idle"), ("a", "idle")], vec![]),
            ("Always", vec![("i1", "0"), ("i2", "idle"), ("a", "idle")], vec![1]),
            ("Always", vec![("i1", "0"), ("i2", "0"), ("a", "idle"), ("b", "idle")], vec![2, 3]),
            ("Always", vec![("i1", "1"), ("a", "idle")], vec![0]),
            ("Always", vec![("~s", "running"), ("a", "idle")], vec![]),
            ("Always", vec![("~s", "started"), ("a", "idle")], vec![1]),
            ("Always", vec![("~s", "1"), ("a", "running")], vec![0]),
            ("Always", vec![("a", "0"), ("b", "running")], vec![0]),
            ("OnFailure", vec![("a", "0"), ("b", "1")], vec![1]),
            ("Never", vec![("a", "1"), ("b", "running")], vec![]),
            ("Always", vec![("a", "starting"), ("b", "crashing")], vec![]),
        ] {
            let (decision, _) = decide_words(policy, &words, false);
            assert_eq!((decision.start, decision.terminal), (start, false), "{policy} {words:?}");
        }
    }

    #[test]
    fn backs_off() {
        let (decision, now) = decide_words("Always", &[("a", "crashing")], false);
        assert_eq!(decision.backing_off, [(0, Duration::from_secs(1))]);
        assert_eq!(decision.wake, Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn ends() {
        for (policy, words, ending, stop, terminal) in [
            ("Never", vec![("a", "0")], false, vec![], true),
            ("Never", vec![("i1", "1"), ("a", "idle")], false, vec![], true),
            ("Never", vec![("~s", "started"), ("i1", "1"), ("a", "idle")], false, vec![0], false),
            ("OnFailure", vec![("~s", "started"), ("a", "0")], false, vec![0], false),
            ("Always", vec![("~s", "started"), ("a", "running")], true, vec![], false),
            ("Always", vec![("~s", "started"), ("~t", "started"), ("a", "0")], true, vec![1, 0], false),
            ("Always", vec![("a", "crashing")], true, vec![], true),
            ("Always", vec![("a", "idle")], true, vec![], true),
        ] {
            let (decision, _) = decide_words(policy, &words, ending);
            assert_eq!((decision.stop, decision.terminal), (stop, terminal), "{policy} {words:?}");
        }
    }
}
