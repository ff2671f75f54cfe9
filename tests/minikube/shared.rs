//! The cluster that sessions share, and what of it was left half made, stopped or half deleted.

use std::fs;

use envctl::session::launch::wait_until_gone;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig;

/// The line by which minikube is at work.
const BEGUN: &str = "cluster: Creating docker container";

#[test]
fn sessions_share_one_profile_and_images_go_where_they_are_missing() {
    let Some(rig) = rig("minikube", true) else { return };
    let ups = ["a", "b"].map(|session| rig.start(&["up", "--session", session]));
    let said = ups.map(|(mut child, lines)| {
        let lines: Vec<String> = lines.map(|line| line.expect("text")).collect();
        assert!(child.wait().expect("it ends").success(), "{lines:#?}");
        lines.join("\n")
    });
    assert_eq!(said.iter().filter(|said| said.contains(BEGUN)).count(), 1, "{said:#?}");
    assert_eq!(rig.containers(), [rig.cluster()]);
    assert!(said.iter().any(|said| said.contains("image team/hello: loading into")), "{said:#?}");
    for session in ["a", "b"] {
        assert!(rig.answer(session).ends_with("first\n"));
    }
    assert!(!rig.home.path().join(".kube/config").exists(), "the user's kubeconfig is not written");
    let again = rig.envctl(&["up", "--session", "a"]).succeeded();
    assert!(!again.says("loading into") && again.says("service web: unchanged"), "{again:?}");

    // By its context it is anybody's who has it: minikube itself says whose.
    let kubeconfig = rig.state().join("clusters").join(rig.cluster()).join("kubeconfig");
    let kubeconfig = kubeconfig.to_str().expect("UTF-8");
    rig.with("KUBECONFIG", kubeconfig, &["up", "--session", "c", "--context", &rig.cluster()]).succeeded();
    rig.envctl(&["down", "--session", "c"]).succeeded();

    let used = rig.envctl(&["gc", "--cluster", "minikube"]);
    assert_eq!(used.code, Some(6), "{used:?}");
    for session in ["a", "b"] {
        rig.envctl(&["down", "--session", session]).succeeded();
    }
    let would = rig.envctl(&["gc", "--cluster", "minikube", "--dry-run"]).succeeded();
    assert!(would.says("would remove minikube cluster") && !rig.containers().is_empty(), "{would:?}");
    rig.envctl(&["gc", "--cluster", "minikube"]).succeeded();
    assert!(rig.containers().is_empty());
    assert!(!rig.home.path().join(".minikube/profiles").join(rig.cluster()).exists());
}

#[test]
fn what_was_left_half_made_stopped_or_half_deleted_is_made_again() {
    let Some(rig) = rig("minikube", true) else { return };
    let (mut child, lines) = rig.start(&["up"]);
    assert!(lines.map_while(Result::ok).any(|line| line.contains(BEGUN)), "it gets that far");
    rig.kill_agent();
    assert!(!child.wait().expect("it ends").success());
    // minikube may have come to its end all the same, alone: that it succeeded nobody saw.
    let made = rig.envctl(&["up"]).succeeded();
    assert!(made.says("which was left unfinished or stopped"), "{made:?}");

    let sessions = rig.sessions();
    rig.real("minikube", &["stop", "--profile", &rig.cluster()]).succeeded();
    wait_until_gone(&sessions[0]).expect("its agent ends");
    let made = rig.envctl(&["up"]).succeeded();
    assert!(made.says("which was left unfinished or stopped"), "{made:?}");

    // Half deleted: the container is gone, and of the configuration there is the half.
    let sessions = rig.sessions();
    rig.docker(&["rm", "-fv", &rig.cluster()]);
    wait_until_gone(&sessions[0]).expect("its agent ends");
    let config = rig.home.path().join(".minikube/profiles").join(rig.cluster()).join("config.json");
    let text = fs::read(&config).expect("there");
    fs::write(&config, &text[..text.len() / 2]).expect("written");
    let made = rig.envctl(&["up"]).succeeded();
    assert!(made.says("which was left unfinished or stopped"), "{made:?}");
    rig.envctl(&["down"]).succeeded();
    rig.envctl(&["gc", "--cluster", "minikube"]).succeeded();
    assert!(rig.containers().is_empty());
}

#[test]
fn a_sessions_own_cluster_goes_with_it_whatever_ends_it() {
    let Some(rig) = rig("{ minikube: { fresh: true } }", true) else { return };
    let (mut child, lines) = rig.start(&["up"]);
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line.contains(BEGUN)), "it gets that far");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("interrupted");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest:#?}");
    assert!(rig.containers().is_empty() && rig.sessions().is_empty(), "{rest:#?}");

    rig.envctl(&["up"]).succeeded();
    assert_eq!(rig.containers().len(), 1);
    rig.kill_agent();
    let swept = rig.envctl(&["gc"]).succeeded();
    assert!(swept.says("removed minikube cluster") && rig.containers().is_empty(), "{swept:?}");
}
