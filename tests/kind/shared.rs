//! The cluster that sessions share, and the images in it.

use crate::rig::{ENVIRONMENT, Rig};

/// Where a node's containerd unpacks images.
const SNAPSHOTS: &str = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";

/// Two steps, as the builder tells them that envctl was compiled with.
const COPIES: [&str; 2] = if cfg!(feature = "buildkit") {
    ["1/1] COPY hello /hello", "2/2] COPY missing /missing"]
} else {
    ["Step 2/3 : COPY hello /hello", "Step 3/3 : COPY missing /missing"]
};

#[test]
fn two_ups_at_once_make_one_cluster_and_images_go_where_they_are_missing() {
    let Some(rig) = Rig::new("kind") else { return };
    let ups = ["a", "b"].map(|session| rig.start(&["up", "--session", session]));
    let said = ups.map(|(mut child, lines)| {
        let lines: Vec<String> = lines.map(|line| line.expect("text")).collect();
        assert!(child.wait().expect("it ends").success(), "{lines:#?}");
        lines.join("\n")
    });
    let made = said.iter().filter(|said| said.contains("cluster: Starting control-plane")).count();
    assert_eq!(made, 1, "{said:#?}");
    assert_eq!(rig.containers(), [format!("{}-control-plane", rig.cluster())]);
    assert!(said.iter().any(|said| said.contains("image team/hello: loading into")), "{said:#?}");
    let built = said.iter().filter(|said| said.contains(COPIES[0])).count();
    assert_eq!(built, 1, "its steps are shown, and it is built once: {said:#?}");
    let meanwhile =
        said.iter().any(|said| said.split("reachable").next().is_some_and(|before| before.contains("built in")));
    assert!(meanwhile, "while kind makes the cluster: {said:#?}");
    for session in ["a", "b"] {
        assert!(rig.answer(session).ends_with("first\n"));
    }
    assert!(!rig.home.path().join(".kube").exists(), "the user's kubeconfig is not written");
    // As kubeadm writes what it is told.
    let node = rig.containers().remove(0);
    for (component, told) in
        [("kube-controller-manager", "--kube-api-qps=500"), ("kube-scheduler", "--leader-elect=false")]
    {
        let manifest = rig.docker(&["exec", &node, "cat", &format!("/etc/kubernetes/manifests/{component}.yaml")]);
        assert!(manifest.contains(told), "{manifest}");
    }

    // Nothing changed.
    let again = rig.envctl(&["up", "--session", "a"]).succeeded();
    assert!(
        !again.says("docker build") && !again.says("loading into") && again.says("service web: unchanged"),
        "{again:?}"
    );

    // The same tag, another image, for which the node has no room at first.
    rig.write(
        "Dockerfile",
        "FROM scratch\nCOPY hello /again\nCOPY hello /hello\nENTRYPOINT [\"/hello\", \"rebuilt\"]\n",
    );
    let node = rig.containers().remove(0);
    rig.docker(&["exec", &node, "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", SNAPSHOTS]);
    let full = rig.envctl(&["up", "--session", "a"]);
    rig.docker(&["exec", &node, "umount", SNAPSHOTS]);
    assert_eq!(full.code, Some(3), "{full:?}");
    assert!(full.says("no space left on device [ImageNotLoaded]") && full.says("docker system df"), "{full:?}");
    assert!(rig.answer("a").ends_with("first\n"), "what runs goes on");
    let rebuilt = rig.envctl(&["up", "--session", "a"]).succeeded();
    assert!(rebuilt.says("loading into") && rig.answer("a").ends_with("rebuilt\n"), "{rebuilt:?}");

    // A failing build is told with its last lines; what runs goes on.
    rig.write("Dockerfile", "FROM scratch\nCOPY hello /hello\nCOPY missing /missing\n");
    let failed = rig.envctl(&["up", "--session", "a"]);
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.says(COPIES[1]) && failed.says("docker build -t team/hello"), "{failed:?}");
    assert!(rig.answer("a").ends_with("rebuilt\n"));

    // An image that only the engine has, by its name alone.
    rig.docker(&["tag", "team/hello", "envctl.test/only-here"]);
    let environment = ENVIRONMENT
        .replace("CLUSTER", "kind")
        .replace("team/hello: { docker: { context: ., dockerfile: Dockerfile, push: true } }", "x: {}");
    let on_nodes = environment.replace("image: team/hello", "image: envctl.test/only-here");
    rig.write("envctl.yaml", &on_nodes);
    rig.envctl(&["up", "--session", "b"]).succeeded();
    rig.docker(&["image", "rm", "envctl.test/only-here"]);

    // By its context it is anybody's who has it: kind itself says whose, so it need not be listed. What the nodes have isn't asked for elsewhere.
    rig.write("envctl.yaml", &on_nodes.replace("x: {}", "envctl.test/only-here: {}"));
    let context = format!("kind-{}", rig.cluster());
    let kubeconfig = rig.state().join("clusters").join(rig.cluster()).join("kubeconfig");
    let kubeconfig = kubeconfig.to_str().expect("UTF-8");
    rig.with("KUBECONFIG", kubeconfig, &["up", "--session", "c", "--context", &context]).succeeded();
    rig.envctl(&["down", "--session", "c"]).succeeded();

    // One that only doesn't answer is not taken away from those who use it.
    let node = rig.containers().remove(0);
    rig.docker(&["pause", &node]);
    let silent = rig.envctl(&["up", "--session", "d"]);
    rig.docker(&["unpause", &node]);
    assert!(silent.code == Some(4) && silent.says("no answer within"), "{silent:?}");
    assert_eq!(rig.containers(), [node]);
    assert!(rig.answer("a").ends_with("rebuilt\n"));

    // It goes when nobody uses it.
    let used = rig.envctl(&["gc", "--cluster", "kind"]);
    assert_eq!(used.code, Some(6), "{used:?}");
    for session in ["a", "b"] {
        rig.envctl(&["down", "--session", session]).succeeded();
    }
    let would = rig.envctl(&["gc", "--cluster", "kind", "--dry-run"]).succeeded();
    assert!(would.says("would remove kind cluster") && !rig.containers().is_empty(), "{would:?}");
    rig.envctl(&["gc", "--cluster", "kind"]).succeeded();
    assert!(rig.containers().is_empty());
}
