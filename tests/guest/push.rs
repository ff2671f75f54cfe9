//! Images that are built by the engine of `make kind-up`, pushed to a registry, and run on the real cluster from there.

use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::{Value, json};

use crate::engine::engine;
use crate::place::place;
use crate::registry::{Open, PASSWORD, Registry};
use crate::require::require;
use crate::rig::{Ran, Rig};

/// A web server in an image from scratch: Debian's package `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";
const DOCKERFILE: &str =
    "FROM scratch\nCOPY busybox /bin/busybox\nCOPY web /web\nENTRYPOINT [\"/bin/busybox\"]\nWORKDIR /web\n";

/// Someone with an engine, a registry and a project that is built into it.
struct User {
    rig: Rig,
    registry: Registry,
    /// The image's name.
    image: String,
}

impl User {
    /// Logged in. `None` where something of that is missing.
    fn new(for_node: Open) -> Option<Self> {
        let mut rig = Rig::new()?;
        rig.variables = engine()?;
        if !require(std::fs::exists(BUSYBOX).unwrap_or(false), "a static busybox (Debian's busybox-static)") {
            return None;
        }
        let socket = place()?.kubeconfig.with_file_name("node.sock");
        let node = UnixStream::connect(socket).ok();
        if !require(node.is_some(), "a node on this machine (`make cluster-up`, as root)") {
            return None;
        }
        let node = getsockopt(&node?, PeerCredentials).expect("a peer").pid();
        let registry = Registry::new(Open::ToUser, Some((node.cast_unsigned(), for_node)))?;
        let docker = rig.home.path().join("docker");
        std::fs::create_dir(&docker).expect("made");
        rig.variables.push(("DOCKER_CONFIG".to_owned(), docker.display().to_string()));
        let image = format!("{}/team/box:dev", registry.host);
        let user = Self { rig, registry, image };
        user.has_login(&user.registry.login(PASSWORD));
        std::fs::copy(BUSYBOX, user.in_project("busybox")).expect("copied");
        std::fs::create_dir(user.in_project("web")).expect("made");
        std::fs::write(user.in_project("Dockerfile"), DOCKERFILE).expect("written");
        std::fs::write(user.in_project(".dockerignore"), "*\n!busybox\n!web\n").expect("written");
        user.page("first");
        user.rig.write(&environment(&user.image, "docker: { context: ., push: true }"));
        Some(user)
    }

    fn in_project(&self, name: &str) -> std::path::PathBuf {
        self.rig.home.path().join("project").join(name)
    }

    /// Writes the Docker configuration.
    fn has_login(&self, configuration: &Value) {
        std::fs::write(self.rig.home.path().join("docker/config.json"), configuration.to_string()).expect("written");
    }

    /// Writes what the image serves.
    fn page(&self, text: &str) {
        std::fs::write(self.in_project("web/index.html"), format!("the {text} page\n")).expect("written");
    }

    /// What the service answers.
    fn answer(&self) -> String {
        self.rig.get(self.rig.expect(0, &["port", "web"]).stdout.trim())
    }

    /// The image in the spec of the session's only pod that is there to stay, and the pod's name.
    #[track_caller]
    fn pod(&self) -> (String, String) {
        let pods = self.rig.kubectl(&["-n", &self.rig.namespace(), "get", "pods", "-o", "json"]);
        let pods: Value = serde_json::from_str(&pods).expect("JSON");
        let pods = pods["items"].as_array().expect("a list").iter();
        let pods: Vec<&Value> = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
        let [pod] = pods.as_slice() else { panic!("{pods:#?}") };
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&pod["spec"]["containers"][0]["image"]), text(&pod["metadata"]["name"]))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let docker = |arguments: &[&str]| {
            let variables = self.rig.variables.iter().map(|(name, value)| (name, value));
            Command::new("docker").args(arguments).envs(variables).output().expect("docker runs")
        };
        // What was pushed keeps its digest when the tag has moved on. Never by id: other tests' images may be the same.
        let repository = self.image.trim_end_matches(":dev");
        let listed = docker(&["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", repository]).stdout;
        let listed = String::from_utf8_lossy(&listed);
        let references = listed.lines().filter(|reference| !reference.ends_with("<none>"));
        let references = references.chain([self.image.as_str(), NOWHERE]);
        docker(&["image", "rm", "--force"].into_iter().chain(references).collect::<Vec<_>>());
    }
}

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1/team/box:dev";

fn environment(image: &str, mapping: &str) -> String {
    format!(
        "name: guest\nimages: {{ \"{image}\": {{ {mapping} }} }}\nservices:\n  web:\n    image: \"{image}\"\n    \
         args: [httpd, -f, -p, \"8080\", -h, /web]\n    grace: 1s\n    ports: {{ http: 8080 }}\n    \
         ready: {{ http: {{ path: /, port: http }} }}\n"
    )
}

/// An `up` that comes to nothing leaves nothing.
#[track_caller]
fn fails(rig: &Rig, code: i32, words: &[&str]) -> Ran {
    let ran = rig.expect(code, &["up", "--wait-timeout", "60s"]);
    for word in words {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(rig.sessions().is_empty());
    let own = format!("envctl.dev/session={}", rig.id());
    assert_eq!(rig.kubectl(&["get", "namespaces", "-l", &own, "-o", "name"]), "");
    ran
}

#[test]
fn pods_run_what_was_just_pushed() {
    let Some(user) = User::new(Open::ToAll) else { return };
    let rig = &user.rig;
    let ran = rig.expect(0, &["up"]);
    assert!(ran.stderr.contains("pushed in "), "{}", ran.stderr);
    assert!(user.answer().contains("the first page"));
    let exact = format!("{}/team/box@sha256:", user.registry.host);
    let (first, _) = user.pod();
    assert!(first.starts_with(&exact), "{first}");

    // The same tag: a node that goes by it would run what it has.
    user.page("second");
    rig.expect(0, &["up"]);
    assert!(user.answer().contains("the second page"));
    let second = user.pod();
    assert!(second.0.starts_with(&exact) && second.0 != first, "{second:?}");

    // Nothing new: nothing is sent, and nothing is started again.
    let uploads = user.registry.uploads();
    assert!(uploads > 0);
    rig.expect(0, &["up"]);
    assert_eq!(user.registry.uploads(), uploads);
    assert_eq!(user.pod(), second);
    rig.expect(0, &["restart", "web"]);
    assert_eq!(user.pod().0, second.0);
    rig.expect(0, &["down"]);
}

#[test]
fn a_manifests_pods_pull_it_with_their_own_secret() {
    let Some(user) = User::new(Open::ToUser) else { return };
    // What was pushed with the user's credentials isn't the nodes' to pull.
    let explained = ["[ImageNotFound]", "it was pushed with your credentials", "imagePullSecret"];
    fails(&user.rig, 3, &explained);

    let login = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "registry" }, "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": user.registry.login(PASSWORD).to_string() },
    });
    let labels = json!({ "app": "web" });
    let pod = json!({
        "imagePullSecrets": [{ "name": "registry" }], "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "web", "image": user.image, "args": ["httpd", "-f", "-p", "8080", "-h", "/web"],
            "readinessProbe": { "httpGet": { "path": "/", "port": 8080 } },
        }],
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pod } },
    });
    std::fs::write(user.in_project("web.yaml"), format!("{login}\n---\n{deployment}\n")).expect("written");
    let image = format!("\"{}\": {{ docker: {{ context: ., push: true }} }}", user.image);
    user.rig.write(&format!("name: guest\nimages: {{ {image} }}\nmanifests: [{{ path: web.yaml }}]\n"));
    user.rig.expect(0, &["up"]);
    let (image, _) = user.pod();
    assert!(image.starts_with(&format!("{}/team/box@sha256:", user.registry.host)), "{image}");
    user.rig.expect(0, &["down"]);
}

#[test]
fn pods_pull_with_the_users_credentials_where_the_file_says_so() {
    let Some(user) = User::new(Open::ToUser) else { return };
    let rig = &user.rig;
    let private = environment(&user.image, "docker: { context: ., push: true }, imagePullSecret: true");
    // What the environment's own programs start pulls with them too.
    let beside = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "beside" },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "beside", "image": user.image, "args": ["sleep", "1000"], "imagePullPolicy": "Always" }],
        },
    });
    std::fs::write(user.in_project("beside.yaml"), beside.to_string()).expect("written");
    rig.write(&format!("{private}manifests: [{{ path: beside.yaml }}]\n"));
    rig.expect(0, &["up"]);
    assert!(user.answer().contains("the first page"));
    let namespace = rig.namespace();
    let secret = rig.kubectl(&[
        "-n",
        &namespace,
        "get",
        "secret",
        "envctl-registries",
        "-o",
        "jsonpath={.type} {.metadata.labels}",
    ]);
    assert!(secret.starts_with("kubernetes.io/dockerconfigjson ") && secret.contains("envctl.dev/session"), "{secret}");
    rig.expect(0, &["dump", "--to", "bundle"]);
    // `{"auths"` as it is, and by base64.
    let found = Command::new("grep").args(["-rE", "auths|eyJhdXRo"]).arg(user.in_project("bundle")).output();
    let found = found.expect("grep runs");
    assert_eq!(
        (found.status.code(), String::from_utf8_lossy(&found.stdout).as_ref()),
        (Some(1), ""),
        "it looked, and found none"
    );
    // Where a manifest says what the namespace's own account is like, that is what it is like, also after another `up`.
    let own = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "annotations": { "team": "web" } },
        "imagePullSecrets": [{ "name": "theirs" }],
    });
    std::fs::write(user.in_project("account.yaml"), own.to_string()).expect("written");
    rig.write(&format!("{private}manifests: [{{ path: account.yaml }}]\n"));
    let account = |path: &str| rig.kubectl(&["-n", &namespace, "get", "serviceaccount", "default", "-o", path]);
    for _ in 0..2 {
        rig.expect(0, &["up"]);
        assert_eq!(account("jsonpath={.metadata.annotations.team} {.imagePullSecrets}"), "web [{\"name\":\"theirs\"}]");
    }
    // What the file no longer asks for is taken away. (The node has the image, and gives it to nobody without credentials.)
    rig.write(&environment(&user.image, "docker: { context: ., push: true }"));
    rig.expect(3, &["up"]);
    let gone = "--ignore-not-found";
    assert_eq!(rig.kubectl(&["-n", &namespace, "get", "secret", "envctl-registries", gone, "-o", "name"]), "");
    assert_eq!(account("jsonpath={.imagePullSecrets}"), "");
    rig.expect(0, &["down"]);

    // Without a login there is nothing to give away.
    let image = user.image.replace(":dev", ":other");
    rig.write(&environment(&image, "imagePullSecret: true"));
    user.has_login(&json!({}));
    fails(rig, 3, &["your Docker configuration has no credentials for 127.0.0.1:", "`docker login` there"]);
}

#[test]
fn what_a_registry_refuses_is_told_in_its_words() {
    let Some(user) = User::new(Open::ToAll) else { return };
    let rig = &user.rig;
    let refused = ["[ImageNotPushed]", "pushing it to 127.0.0.1:"];
    user.has_login(&json!({}));
    fails(rig, 3, &[&refused[..], &["no basic auth credentials", "docker login"]].concat());
    user.has_login(&user.registry.login("guessed"));
    let ran = fails(rig, 3, &[&refused[..], &["unauthorized", "as someone who may"]].concat());
    assert!(!ran.stderr.contains("guessed"), "{}", ran.stderr);
    assert_eq!(user.registry.uploads(), 0);

    rig.write(&environment(NOWHERE, "docker: { context: ., push: true }"));
    let ran = fails(rig, 3, &[&refused[..], &["connection refused"]].concat());
    assert!(!ran.stderr.contains("docker login"), "{}", ran.stderr);
}

#[test]
fn without_an_engine_nothing_can_be_pushed() {
    let Some(mut rig) = Rig::new() else { return };
    rig.variables = vec![("DOCKER_HOST".to_owned(), "unix:///nowhere/docker.sock".to_owned())];
    rig.write(&environment(NOWHERE, "docker: { context: ., push: true }"));
    fails(&rig, 4, &["[EngineUnavailable]", "no Docker engine answers at unix:///nowhere/docker.sock", "start Docker"]);
}

#[test]
fn an_engine_that_has_gone_is_told_and_the_session_lives_on() {
    let Some(mut user) = User::new(Open::ToAll) else { return };
    let socket = user.rig.home.path().join("docker.sock");
    let (_, host) = user.rig.variables.iter_mut().find(|(name, _)| name == "DOCKER_HOST").expect("given");
    let real = host.replace("unix://", "");
    std::os::unix::fs::symlink(&real, &socket).expect("made");
    *host = format!("unix://{}", socket.display());
    user.rig.expect(0, &["up"]);
    std::fs::remove_file(&socket).expect("removed");
    user.page("second");
    let ran = user.rig.expect(4, &["up"]);
    assert!(ran.stderr.contains("[EngineUnavailable]") && ran.stderr.contains("start Docker"), "{}", ran.stderr);
    assert!(user.answer().contains("the first page"));
    std::os::unix::fs::symlink(&real, &socket).expect("made");
    user.rig.expect(0, &["up"]);
    assert!(user.answer().contains("the second page"));
    user.rig.expect(0, &["down"]);
}

#[test]
fn without_push_the_nodes_have_nothing_to_pull() {
    let Some(rig) = Rig::new() else { return };
    rig.write(&environment(NOWHERE, "docker: { context: . }"));
    fails(&rig, 3, &["[ImageNotFound]", "for a context only with `push: true`"]);
}
