//! What a cluster's own programs say, cut to what a user can act upon.
//!
//! Neighbours: [`super::pods`], `provision` (events, probes), `keys` and `envctl exec` show messages through it, so that a cause reads
//! the same whichever runtime and however many layers told it.

use std::borrow::Cow;

/// Where the words of who really started the process begin: runc's, and the embedded node's.
const CORE: &str = "unable to start container process: ";
/// How those who passed them on begin: API server, kubelet, containerd, its shim.
const PASSED_ON: [&str; 6] = [
    "Internal error occurred: ",
    "error executing command in container: ",
    "rpc error: code = ",
    "failed to exec in container: ",
    "failed to create containerd task: ",
    "failed to start container: ",
];
/// What the scheduler adds about evicting others, which it never does for a pod without priority
/// (`pkg/scheduler/framework/preemption`).
const PREEMPTION: [&str; 2] = [" no new claims to deallocate, preemption: ", " preemption: "];

/// What client-go's event recorder puts before the last of many alike (`tools/record/events_cache.go`).
const COMBINED: &str = "(combined from similar events): ";

/// A message without who passed it on.
pub fn plain(message: &str) -> Cow<'_, str> {
    let message = message.strip_prefix(COMBINED).unwrap_or(message);
    let end = PREEMPTION.iter().find_map(|words| message.find(words)).unwrap_or(message.len());
    let message = &message[..end];
    let Some((before, core)) = message.split_once(CORE) else { return Cow::Borrowed(message) };
    let kept = PASSED_ON.iter().filter_map(|words| before.find(words)).min().unwrap_or(before.len());
    match &before[..kept] {
        "" => Cow::Borrowed(core),
        kept => Cow::Owned(format!("{kept}{core}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{COMBINED, plain};

    #[test]
    fn who_passed_it_on_is_left_out() {
        let missing = "exec: \"x\": executable file not found in $PATH";
        for told in [
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: ",
            "failed to start container: ",
            "Internal error occurred: Internal error occurred: error executing command in container: failed to exec in container: failed \
             to start exec \"46df48\": OCI runtime exec failed: exec failed: ",
        ] {
            assert_eq!(plain(&format!("{told}unable to start container process: {missing}")), missing);
        }
        assert_eq!(plain(&format!("{COMBINED}{missing}")), missing);
        let event = format!("Error: failed to start container: unable to start container process: {missing}");
        assert_eq!(plain(&event), format!("Error: {missing}"));
        let probe = "errored and resulted in unknown state: rpc error: code = Unknown desc = failed to exec in container: unable to start \
                     container process: exec: \"x\": permission denied";
        assert_eq!(plain(probe), "errored and resulted in unknown state: exec: \"x\": permission denied");
    }

    #[test]
    fn a_pod_that_fits_nowhere_is_not_about_preemption() {
        let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 \
                       Preemption is not helpful for scheduling.";
        assert_eq!(plain(message), "0/1 nodes are available: 1 Insufficient cpu.");
        assert_eq!(plain("secret \"a\" not found"), "secret \"a\" not found");
    }
}
