//! The root of a container, its private layer and its volumes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use envctl::embedded::kubelet::image::Rootfs;
use envctl::embedded::kubelet::runtime::{Mount, Runtime};

use crate::rig::{container, finish, is_root, node, node_seeing, pod, run, run_script};

fn mount(source: impl Into<PathBuf>, target: &str, read_only: bool) -> Mount {
    Mount { source: source.into(), target: target.into(), read_only }
}

#[tokio::test]
async fn writes_stay_in_the_container() {
    let node = node().await;
    let project = tempfile::tempdir().unwrap();
    fs::set_permissions(project.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(project.path().join("kept"), "before").unwrap();
    let seeing = node_seeing(&[project.path()]).await;
    let place = project.path().display();
    let text = format!(
        "cat {place}/kept; echo after >{place}/kept; rm -f {place}/kept; mkdir {place}/new; touch /tmp/y; ls {place}"
    );
    let outcome = run_script(&seeing, &text).await;
    assert_eq!(outcome.out, "beforenew", "{outcome:?}");
    assert_eq!(fs::read_to_string(project.path().join("kept")).unwrap(), "before");
    assert!(!project.path().join("new").exists());
    let hidden = run_script(&node, &format!("ls -d {place}")).await;
    assert_eq!(hidden.out, "", "the host's /tmp is not a pod's");
    node.stop().await;
    seeing.stop().await;
}

#[tokio::test]
async fn root_may_write_anywhere_and_a_user_where_it_owns() {
    let node = node().await;
    let text = "for directory in /usr/lib /etc /opt /var/tmp /var/lib /root /home; do touch $directory/envctl-test 2>/dev/null && echo $directory; done; echo x >>/etc/hosts && echo hosts";
    let outcome = run_script(&node, text).await;
    if is_root() {
        assert_eq!(outcome.out, "/usr/lib\n/etc\n/opt\n/var/tmp\n/var/lib\n/root\n/home\nhosts", "{outcome:?}");
    } else {
        let written: Vec<&str> = outcome.out.lines().collect();
        assert!(
            written.contains(&"/var/tmp") && written.contains(&"/etc") && written.contains(&"hosts"),
            "{outcome:?}"
        );
    }
    for place in ["/usr/lib", "/etc", "/opt", "/var/tmp", "/var/lib", "/root", "/home"] {
        assert!(!PathBuf::from(place).join("envctl-test").exists(), "{place} of the host was written to");
    }
    node.stop().await;
}

#[tokio::test]
async fn volumes_are_where_they_were_asked_for() {
    let node = node().await;
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    fs::create_dir(host.path().join("data")).unwrap();
    let mut config = container(
        "one",
        "one-1",
        "cat /var/run/secrets/kubernetes.io/serviceaccount/file; cat /config/app.yaml; ls /run/secrets
         echo x 2>/dev/null >/var/run/secrets/kubernetes.io/serviceaccount/file || echo read-only
         (echo x >/config/app.yaml) 2>/dev/null || echo file-read-only
         echo stays >/deep/down/here/new && cat /deep/down/here/new
         mknod /deep/down/here/disk b 8 0 2>/dev/null && head -c 1 /deep/down/here/disk 2>&1 | grep -c Permission; true",
    );
    config.mounts = vec![
        mount(host.path(), "/var/run/secrets/kubernetes.io/serviceaccount", true),
        mount(host.path().join("file"), "/config/app.yaml", true),
        mount(host.path().join("data"), "/deep/down/here", false),
        mount(host.path().join("file"), "/deep/down/here/inner/file", false),
    ];
    let outcome = run(&node, config).await.unwrap();
    assert_eq!(outcome.out, "contentcontentkubernetes.io\nread-only\nfile-read-only\nstays", "{outcome:?}");
    assert_eq!(fs::read_to_string(host.path().join("data/new")).unwrap(), "stays\n");
    assert_eq!(fs::read_to_string(host.path().join("file")).unwrap(), "content");
    node.stop().await;
}

#[tokio::test]
async fn a_volume_that_is_missing_is_an_error_that_names_it() {
    let node = node().await;
    let mut config = container("one", "one-1", "true");
    config.mounts = vec![mount("/no/such/source", "/data", false)];
    let error = run(&node, config).await.expect_err("no source");
    assert!(error.to_string().contains("/no/such/source"), "{error}");
    node.stop().await;
}

#[tokio::test]
async fn a_read_only_root_is_read_only_except_for_its_volumes() {
    let node = node().await;
    let host = tempfile::tempdir().unwrap();
    let text = "for directory in / /tmp /etc /run /usr /var/tmp /var/run; do (touch $directory/x) 2>/dev/null && echo $directory; done; touch /data/x && echo data; echo x >/dev/shm/x && echo shm";
    let mut config = container("one", "one-1", text);
    config.read_only_root = true;
    config.mounts = vec![mount(host.path(), "/data", false)];
    let outcome = run(&node, config).await.unwrap();
    assert_eq!(outcome.out, "data\nshm", "{outcome:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_root_can_be_a_directory() {
    let node = node().await;
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for directory in ["etc", "bin", "usr", "lib", "lib64"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("etc/passwd"), "app:x:77:78::/srv/app:/bin/sh\n").unwrap();
    fs::write(root.path().join("etc/own"), "own").unwrap();
    pod(&node, "p").await;
    let text = "cat /etc/own; echo; ls /; cat /etc/hostname; echo $HOME; echo new >/etc/own; touch /fresh";
    let mut config = container("p", "c", text);
    config.rootfs = Rootfs::Directory(root.path().to_owned());
    // Programs from the host, so that the test needs no image.
    config.mounts = ["bin", "usr", "lib", "lib64"]
        .iter()
        .filter_map(|name| Some(mount(fs::canonicalize(format!("/{name}")).ok()?, &format!("/{name}"), true)))
        .collect();
    if is_root() {
        config.user.user = Some("app".to_owned());
        config.argv[2] = config.argv[2].replace("; echo new >/etc/own; touch /fresh", "; id -u");
    }
    let outcome = finish(node.start_container(config).await.unwrap()).await;
    assert!(outcome.out.starts_with("own\nbin\ndev\netc\n"), "{outcome:?}");
    assert!(!outcome.out.contains("home\n"), "{outcome:?}");
    assert!(outcome.out.contains("\np\n"), "{outcome:?}");
    if is_root() {
        assert!(outcome.out.ends_with("/srv/app\n77"), "{outcome:?}");
    }
    assert_eq!(fs::read_to_string(root.path().join("etc/own")).unwrap(), "own");
    assert!(!root.path().join("fresh").exists() && !root.path().join("proc").exists());
    node.stop().await;
}
