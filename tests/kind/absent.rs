//! What is missing, too old or not ours: told with what to do about it, exit code 4, and nothing is made.

use std::os::unix::fs::PermissionsExt as _;

use crate::rig::Rig;

#[test]
fn what_is_missing_is_named_with_its_cure() {
    let Some(mut rig) = Rig::new("kind") else { return };
    let real = rig.variables.clone();
    let set = |name: &str, value: String| {
        let mut variables = real.clone();
        variables.iter_mut().filter(|(key, _)| key == name).for_each(|(_, old)| value.clone_into(old));
        variables
    };
    let tools = rig.home.path().join("tools");
    std::fs::create_dir(&tools).expect("made");
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let cases = [
        (set("PATH", path.clone()), "kind cannot be started", "install kind: https://kind.sigs.k8s.io/"),
        (
            set("DOCKER_HOST", "unix:///nowhere/docker.sock".to_owned()),
            "no Docker engine answers at unix:///nowhere",
            "start Docker",
        ),
        (set("DOCKER_HOST", "ssh://nowhere".to_owned()), "only unix:// and tcp:// are supported", "set DOCKER_HOST"),
        (set("ENVCTL_KIND_IMAGE", "nowhere.invalid/node:1".to_owned()), "failed to pull image", ""),
    ];
    for (variables, what, cure) in cases {
        rig.variables = variables;
        let ran = rig.envctl(&["up"]);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(ran.says(what) && ran.says(cure), "{ran:?}");
    }
    let old = tools.join("kind");
    std::fs::write(&old, "#!/bin/sh\necho kind v0.11.1 go1.16.4 linux/amd64\n").expect("written");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("executable");
    rig.variables = set("PATH", path);
    let ran = rig.envctl(&["up"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.says("kind v0.11.1 go1.16.4 linux/amd64 is not supported: v0.20 or later is needed"), "{ran:?}");
    assert!(rig.containers().is_empty() && rig.sessions().is_empty());
    let clusters = std::fs::read_dir(rig.state().join("clusters")).expect("a directory").count();
    assert_eq!(clusters, 0, "nothing is remembered of what never was");
}

#[test]
fn a_cluster_of_our_name_that_someone_else_made_is_not_touched() {
    let Some(rig) = Rig::new("kind") else { return };
    let name = format!("{}-control-plane", rig.cluster());
    let label = format!("io.x-k8s.kind.cluster={}", rig.cluster());
    let image = rig.variables.iter().find(|(name, _)| name == "ENVCTL_KIND_IMAGE").expect("given").1.clone();
    rig.docker(&["create", "--name", &name, "--label", &label, "--label", "io.x-k8s.kind.role=control-plane", &image]);
    for command in [&["up"][..], &["up"]] {
        let ran = rig.envctl(command);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(ran.says("was not made by envctl") && ran.says("kind delete cluster --name"), "{ran:?}");
    }
    rig.envctl(&["gc", "--cluster", "kind"]).succeeded();
    assert_eq!(rig.containers(), [name]);
}
