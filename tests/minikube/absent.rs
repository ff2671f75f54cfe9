//! Without minikube, or with one that is too old: exit code 4, what to do about it, and nothing is made.

use std::os::unix::fs::PermissionsExt as _;

use envctl::cluster::by_tool::MINIKUBE;

use crate::rig::Rig;

#[test]
fn what_is_missing_is_named_with_its_cure() {
    let mut rig = Rig::with_variables(MINIKUBE, "minikube", Vec::new(), Vec::new());
    let tools = rig.home.path().join("tools");
    std::fs::create_dir(&tools).expect("made");
    rig.variables = vec![("PATH".to_owned(), format!("{}:/usr/bin:/bin", tools.display()))];
    let ran = rig.envctl(&["up"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let cure = "install minikube: https://minikube.sigs.k8s.io/docs/start/";
    assert!(ran.says("minikube cannot be started") && ran.says(cure), "{ran:?}");

    // What v1.9.2 says; all else it is asked would fail the test.
    let old = tools.join("minikube");
    std::fs::write(&old, "#!/bin/sh\n[ \"$*\" = 'version --short' ] && echo 'minikube version: v1.9.2'\n")
        .expect("written");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let ran = rig.envctl(&["up"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.says("v1.9.2 is not supported: v1.26 or later is needed") && ran.says(cure), "{ran:?}");
    assert!(rig.sessions().is_empty() && !rig.home.path().join(".minikube").exists());
    let clusters = std::fs::read_dir(rig.state().join("clusters")).expect("a directory").count();
    assert_eq!(clusters, 0, "nothing is remembered of what never was");
}
