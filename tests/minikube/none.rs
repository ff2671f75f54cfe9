//! minikube's driver none, by which it makes no cluster of envctl's own name: exit code 4, before minikube is asked to make anything.

use crate::rig;

#[test]
fn the_driver_none_is_refused_before_anything_is_made_however_it_is_set() {
    for cluster in ["minikube", "{ minikube: { fresh: true } }"] {
        let Some(rig) = rig(cluster, false) else { return };
        let home = rig.home.path().join(".minikube");
        let refused = |variable: &str, by: &str| {
            let ran = rig.with("MINIKUBE_DRIVER", variable, &["up"]);
            assert_eq!(ran.code, Some(4), "{ran:?}");
            assert!(ran.says(by) && ran.says("MINIKUBE_DRIVER=docker"), "{ran:?}");
            assert!(ran.says("minikube start --driver=none && envctl up --context minikube"), "{ran:?}");
            assert!(rig.sessions().is_empty());
            let remembered = std::fs::read_dir(rig.state().join("clusters")).into_iter().flatten().count();
            assert_eq!(remembered, 0, "nothing is remembered of what never was");
            let profiles = std::fs::read_dir(home.join("profiles")).into_iter().flatten().count();
            assert_eq!(profiles, 0, "minikube made no profile");
            assert!(!home.join("logs/lastStart.txt").exists(), "minikube was not started");
        };
        refused("none", "MINIKUBE_DRIVER=none");
        rig.real("minikube", &["config", "set", "driver", "none"]).succeeded();
        // Empty is not set.
        refused("", "minikube config get driver");
    }
}
