//! What pods see in their volumes.

use std::path::Path;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::json;

use super::rig::{Rig, shell_with};

/// Resolves when something in the directory has been replaced by a rename.
fn replaced(directory: &Path) -> impl Future<Output = ()> + use<> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).expect("inotify");
    inotify.add_watch(directory, AddWatchFlags::IN_MOVED_TO).expect("watched");
    async move {
        let event = tokio::task::spawn_blocking(move || inotify.read_events()).await.expect("it reads");
        assert!(!event.expect("an event").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_follow_their_object() {
    let Some(rig) = Rig::start().await else { return };
    rig.create("v1", "ConfigMap", json!({"metadata": {"name": "settings"}, "data": {"mode": "one", "other": "x"}}))
        .await;
    let volume =
        json!({"name": "settings", "configMap": {"name": "settings", "items": [{"key": "mode", "path": "deep/mode"}]}});
    let fields = json!({"volumeMounts": [{"name": "settings", "mountPath": "/etc/settings"}]});
    rig.pod("app", json!({"volumes": [volume], "containers": [shell_with("exec sleep 1000", fields)]})).await;
    let uid = rig.until_ready("app").await.metadata.uid.expect("a uid");
    let read = "cat /etc/settings/deep/mode; ls /etc/settings";
    assert_eq!(rig.exec("app", read).await, ("onedeep\n".to_owned(), 0));
    let files = rig.directory.path().join("state/pods").join(uid).join("volumes/kubernetes.io~configmap/settings");
    let replaced = replaced(&files);
    rig.patch("v1", "ConfigMap", "settings", json!({"data": {"mode": "two"}})).await;
    replaced.await;
    assert_eq!(rig.exec("app", read).await.0, "twodeep\n");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_empty_directories_and_host_paths() {
    let Some(rig) = Rig::start().await else { return };
    rig.create("v1", "Secret", json!({"metadata": {"name": "tls"}, "stringData": {"key": "s3cret"}})).await;
    let shared = rig.directory.path().join("shared");
    std::fs::create_dir(&shared).expect("a directory");
    std::fs::write(shared.join("in"), "from the host").expect("written");
    let volumes = json!([
        {"name": "tls", "secret": {"secretName": "tls", "defaultMode": 0o400}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "shared", "hostPath": {"path": shared, "type": "Directory"}},
    ]);
    let mounts = json!([
        {"name": "tls", "mountPath": "/tls", "readOnly": true},
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "shared", "mountPath": "/shared"},
    ]);
    let script = "cat /tls/key; stat -L -c ' %a' /tls/key; ls -A /scratch; echo x >/scratch/y && cat /scratch/y; \
        cat /shared/in; echo from the pod >/shared/out; touch /tls/new 2>/dev/null || echo read-only";
    let container = shell_with(script, json!({"volumeMounts": mounts}));
    rig.pod("app", json!({"restartPolicy": "Never", "volumes": volumes, "containers": [container]})).await;
    assert_eq!(rig.finished("app").await.1, "s3cret 400\nx\nfrom the hostread-only\n");
    assert_eq!(std::fs::read_to_string(shared.join("out")).expect("a file"), "from the pod\n");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_account_token_authenticates() {
    let Some(rig) = Rig::start().await else { return };
    let container = shell_with("exec sleep 1000", json!({}));
    rig.pod("app", json!({"automountServiceAccountToken": true, "containers": [container]})).await;
    rig.until_ready("app").await;
    let directory = "/var/run/secrets/kubernetes.io/serviceaccount";
    let (token, _) = rig.exec("app", &format!("cat {directory}/token")).await;
    let (files, _) = rig.exec("app", &format!("cat {directory}/namespace; grep -c BEGIN {directory}/ca.crt")).await;
    assert_eq!(files, "default1\n");
    let reviews: Api<SelfSubjectReview> = Api::all(rig.client_with(&token).await);
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.expect("authenticated");
    let user = review.status.and_then(|status| status.user_info).expect("a user");
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:default:default"));
    let pod = user.extra.expect("more")["authentication.kubernetes.io/pod-name"].clone();
    assert_eq!(pod, ["app"], "the token is the pod's own");
    // In a pod, the API is where the environment says.
    let reach = "exec 3<>/dev/tcp/$KUBERNETES_SERVICE_HOST/$KUBERNETES_SERVICE_PORT && echo reached";
    assert_eq!(rig.exec("app", &format!("bash -c '{reach}'")).await, ("reached\n".to_owned(), 0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_waited_for_and_outlive_their_pods() {
    let Some(rig) = Rig::start().await else { return };
    let path = rig.directory.path().join("volume");
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}}}});
    let pod = |script: &str| {
        let mounts = json!([{"name": "data", "mountPath": "/data", "subPath": "app"}]);
        json!({"restartPolicy": "Never", "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "containers": [shell_with(script, json!({"volumeMounts": mounts}))]})
    };
    rig.pod("writer", pod("echo kept >/data/file")).await;
    rig.until_event("writer", &["FailedMount", "persistentvolumeclaim \"data\" not found"]).await;
    rig.create("v1", "PersistentVolumeClaim", claim).await;
    rig.until_event("writer", &["FailedMount", "persistentvolumeclaim \"data\" is not bound to a volume"]).await;
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "hostPath": {"path": path, "type": "DirectoryOrCreate"}, "claimRef": {"namespace": "default", "name": "data"}}});
    rig.create("v1", "PersistentVolume", volume).await;
    rig.patch("v1", "PersistentVolumeClaim", "data", json!({"spec": {"volumeName": "pv"}})).await;
    rig.finished("writer").await;
    rig.delete("writer").await;
    rig.pod("reader", pod("cat /data/file")).await;
    assert_eq!(rig.finished("reader").await.1, "kept\n");
    rig.end().await;
}
