//! What a pod in the engine has of what its spec says.

use crate::registry::{Open, Registry};
use crate::rig::Rig;

const PODS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: map }
data: { a: "from a map\n" }
---
apiVersion: v1
kind: Secret
metadata: { name: secret }
stringData: { s: "from a secret\n" }
---
apiVersion: v1
kind: Pod
metadata: { name: full }
spec:
  terminationGracePeriodSeconds: 2
  initContainers:
  - { name: init, image: team/box, imagePullPolicy: IfNotPresent, command: [sh, -c, "echo made first > /work/made"], volumeMounts: [{ name: work, mountPath: /work }] }
  containers:
  - name: main
    image: team/box
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "cat /work/made /map/a /secret/s /host/file; echo $NODE $POD_IP $(GREETING) $GREETING; grep -o ^eyJ /var/run/secrets/kubernetes.io/serviceaccount/token; touch /host/no 2>&1; pwd; hostname; tail -n 1 /etc/hosts; echo to stderr >&2; exec sleep 1000"]
    env:
    - { name: NODE, valueFrom: { fieldRef: { fieldPath: spec.nodeName } } }
    - { name: POD_IP, valueFrom: { fieldRef: { fieldPath: status.podIP } } }
    resources: { limits: { memory: 64Mi, cpu: 500m } }
    volumeMounts:
    - { name: work, mountPath: /work }
    - { name: map, mountPath: /map }
    - { name: secret, mountPath: /secret }
    - { name: host, mountPath: /host, readOnly: true }
    livenessProbe: { tcpSocket: { port: 7000 }, periodSeconds: 1 }
  - name: other
    image: team/box
    imagePullPolicy: IfNotPresent
    command: [httpd, -f, -p, "7000"]
    readinessProbe: { exec: { command: [sh, -c, "test -d /bin"] }, periodSeconds: 1 }
  volumes:
  - { name: work, emptyDir: {} }
  - { name: map, configMap: { name: map } }
  - { name: secret, secret: { secretName: secret } }
  - { name: host, hostPath: { path: HOST } }
---
apiVersion: v1
kind: Pod
metadata: { name: crash }
spec:
  containers:
  - { name: main, image: team/box, imagePullPolicy: IfNotPresent, command: [sh, -c, "echo a run; echo last words > /dev/termination-log; exit 7"] }
---
apiVersion: v1
kind: Pod
metadata: { name: greedy }
spec:
  restartPolicy: Never
  containers:
  - { name: main, image: team/box, imagePullPolicy: IfNotPresent, command: [sh, -c, "x=a; while :; do x=$x$x; done"], resources: { limits: { memory: 16Mi } } }
---
apiVersion: v1
kind: Pod
metadata: { name: user }
spec:
  restartPolicy: Never
  securityContext: { runAsUser: 1234, fsGroup: 99 }
  containers: [{ name: main, image: team/box, imagePullPolicy: IfNotPresent, command: [sh, -c, "id -u; id -G; touch /work/x && echo written"], volumeMounts: [{ name: work, mountPath: /work }] }]
  volumes: [{ name: work, emptyDir: {} }]
"#;

#[test]
fn names_lead_from_the_engine_to_processes_and_back() {
    let Some(rig) = Rig::new() else { return };
    rig.envctl(&["up"]).succeeded();
    let said = rig.envctl(&["logs", "out"]).succeeded().stdout;
    assert!(said.contains("a page"), "from the engine to a process: {said}");
    let said = rig.envctl(&["logs", "in"]).succeeded().stdout;
    assert!(said.contains("a page"), "from a process to the engine: {said}");
    // The same image again is no difference, another one is.
    let again = rig.envctl(&["up"]).succeeded().stderr;
    assert!(!again.contains("building:"), "{again}");
    rig.write("web/index.html", "another page\n");
    rig.envctl(&["up"]).succeeded();
    let said = rig.envctl(&["exec", "inside", "--", "cat", "index.html"]).succeeded().stdout;
    assert_eq!(said, "another page\n");
    rig.envctl(&["down"]).succeeded();
    assert_eq!(rig.containers(false), Vec::<String>::new());
    assert_eq!(rig.sessions().len(), 0);
}

#[test]
fn a_pod_has_what_its_spec_says() {
    let Some(rig) = Rig::new() else { return };
    rig.envctl(&["up"]).succeeded();
    rig.write("host/file", "from the host\n");
    rig.write("pods.yaml", &PODS.replace("HOST", rig.home.path().join("host").to_str().expect("UTF-8")));
    let applied = rig.kubectl(&["apply", "-f", "pods.yaml"]).succeeded();
    assert!(!applied.stderr.contains("resources.limits"), "they are enforced: {}", applied.stderr);
    rig.kubectl(&["wait", "--for=condition=Ready", "pod/full", "--timeout=60s"]).succeeded();
    for pod in ["pod/greedy", "pod/user"] {
        let phase = if pod == "pod/user" { "Succeeded" } else { "Failed" };
        let until = format!("--for=jsonpath={{.status.phase}}={phase}");
        rig.kubectl(&["wait", &until, pod, "--timeout=60s"]).succeeded();
    }
    let ip = rig.kubectl(&["get", "pod", "full", "-o", "jsonpath={.status.podIP}"]).succeeded().stdout;
    let log = rig.kubectl(&["logs", "full", "-c", "main"]).succeeded().stdout;
    let mut lines: Vec<&str> = log.lines().collect();
    // Its own pipe: when it is read is not said.
    let before = lines.len();
    lines.retain(|line| *line != "to stderr");
    assert_eq!(before, lines.len() + 1, "{log}");
    let (facts, hosts) = (format!("envctl {ip} hello hello"), format!("{ip}\tfull"));
    assert_eq!(
        lines,
        [
            "made first",
            "from a map",
            "from a secret",
            "from the host",
            &facts,
            "eyJ",
            "touch: /host/no: Read-only file system",
            "/web",
            "full",
            &hosts
        ]
    );
    let ended = rig.container("greedy", "main")["state"]["terminated"].clone();
    assert_eq!((ended["reason"].as_str(), ended["exitCode"].as_i64()), (Some("OOMKilled"), Some(137)));
    let said = rig.kubectl(&["logs", "user"]).succeeded().stdout;
    assert!(said.starts_with("1234\n") && said.contains("99") && said.ends_with("written\n"), "{said}");
    // Restarted, with what the run before left.
    let waited = "--for=jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}=7";
    rig.kubectl(&["wait", waited, "pod/crash", "--timeout=60s"]).succeeded();
    let ended = rig.container("crash", "main")["lastState"]["terminated"].clone();
    assert_eq!((ended["exitCode"].as_i64(), ended["message"].as_str()), (Some(7), Some("last words\n")));
    assert_eq!(rig.kubectl(&["logs", "crash", "--previous"]).succeeded().stdout, "a run\n");

    let exec = |words: &[&str]| rig.kubectl(&[&["exec", "full", "-c", "main", "--"], words].concat());
    let ran = exec(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "out\n"), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("err\n"), "{}", ran.stderr);
    assert_eq!(exec(&["wget", "-q", "-O", "/dev/stdout", "http://inside:8080/"]).succeeded().stdout, "a page\n");
    // A container that waits for nobody is gone with its grace.
    rig.kubectl(&["delete", "pod", "full", "--wait", "--timeout=20s"]).succeeded();
}

#[test]
fn an_image_of_the_engines_own_is_run_by_its_name_and_anew_when_the_name_leads_elsewhere() {
    let Some(rig) = Rig::new() else { return };
    // Without a tag, for which Kubernetes would always ask a registry.
    let name = "envctl.test/own";
    rig.write(
        "envctl.yaml",
        &format!(
            "services:\n  web: {{ image: {name}, ports: {{ http: 8080 }}, command: [httpd, -f, -p, \"8080\"] }}\n"
        ),
    );
    let page =
        || rig.envctl(&["exec", "web", "--", "wget", "-q", "-O", "-", "http://localhost:8080/"]).succeeded().stdout;
    rig.docker(&["build", "-t", name, "."]);
    rig.envctl(&["up"]).succeeded();
    assert_eq!(page(), "a page\n");
    let again = rig.envctl(&["up"]).succeeded();
    assert!(again.stderr.contains("service web: unchanged"), "{again:?}");
    rig.write("web/index.html", "another\n");
    rig.docker(&["build", "-t", name, "."]);
    rig.envctl(&["up"]).succeeded();
    assert_eq!(page(), "another\n");
    rig.envctl(&["down"]).succeeded();
    rig.docker(&["image", "rm", name]);
}

#[test]
fn an_image_that_had_to_be_pulled_is_no_difference_to_the_next_up() {
    let (Some(rig), Some(registry)) = (Rig::new(), Registry::new(Open::ToAll, None)) else { return };
    let name = format!("{}/team/box", registry.host);
    rig.write(
        "envctl.yaml",
        &format!(
            "services:\n  web: {{ image: \"{name}\", command: [httpd, -f, -p, \"8080\"] }}\n\
             jobs:\n  once: {{ image: \"{name}\", command: [echo, done] }}\n"
        ),
    );
    rig.docker(&["build", "-t", &name, "."]);
    rig.docker(&["push", &name]);
    rig.docker(&["image", "rm", &name]);
    let up = rig.envctl(&["up"]).succeeded();
    assert!(up.stderr.contains("pulling"), "{up:?}");
    // Also where the engine has lost it since.
    for lost in [false, true] {
        if lost {
            rig.docker(&["image", "rm", "--force", &name]);
        }
        let again = rig.envctl(&["up"]).succeeded();
        assert!(again.stderr.contains("service web: unchanged"), "{again:?}");
        assert!(again.stderr.contains("job once: unchanged"), "{again:?}");
    }
    rig.envctl(&["down"]).succeeded();
    rig.docker(&["image", "rm", "--force", &name]);
}
