//! Images that the engine builds: what the builders differ in. Which one envctl uses is said when it is compiled (`--features buildkit`).

use crate::rig::{Ran, Rig};

/// Built, and run once by a job.
const ENVIRONMENT: &str = "images: { team/made: { docker: { context: ., dockerfile: Dockerfile } } }\n\
                           jobs: { made: { image: team/made, command: [cat, /made] } }\n";
const CACHING: &str = "RUN --mount=type=cache,id=ID,target=/cache [\"/bin/busybox\", \"sh\", \"-c\", \"echo NOW >> /cache/all; cat /cache/all > /made\"]\n";

/// A recipe from scratch, with a shell.
fn recipe(rig: &Rig, rest: &str) {
    rig.write("envctl.yaml", ENVIRONMENT);
    let rest = rest.replace("ID", &rig.home.path().display().to_string());
    rig.write(
        "Dockerfile",
        &format!(
            "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n{rest}"
        ),
    );
}

#[track_caller]
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    for words in words {
        assert!(ran.stderr.contains(words), "{words} in {}", ran.stderr);
    }
}

#[cfg(not(feature = "buildkit"))]
#[test]
fn what_needs_buildkit_says_how_to_have_it() {
    let Some(rig) = Rig::new() else { return };
    for (rest, option) in [(CACHING, "--mount"), ("COPY --chmod=0640 web /web\n", "--chmod")] {
        recipe(&rig, rest);
        let said = format!("failed: the {option} option requires BuildKit");
        refused(&rig.envctl(&["up"]), &[&said, "hint: build envctl with `--features buildkit`"]);
    }
}

#[cfg(feature = "buildkit")]
mod buildkit {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::{CACHING, recipe, refused};
    use crate::rig::Rig;

    #[test]
    fn its_caches_outlive_a_build_and_its_steps_are_told() {
        let Some(rig) = Rig::new() else { return };
        let made = || rig.docker(&["run", "--rm", "--network", "none", "team/made", "cat", "/made"]);
        recipe(&rig, &CACHING.replace("NOW", "once"));
        let first = rig.envctl(&["up"]).succeeded();
        assert!(first.stderr.contains("3/3] RUN --mount=type=cache"), "{}", first.stderr);
        assert_eq!(made(), "once");
        recipe(&rig, &format!("{}COPY --chmod=0640 web /web\n", CACHING.replace("NOW", "twice")));
        rig.envctl(&["up"]).succeeded();
        assert_eq!(made(), "once\ntwice");
        let mode = ["run", "--rm", "--network", "none", "team/made", "stat", "-c", "%a", "/web/index.html"];
        assert_eq!(rig.docker(&mode), "640");
        let again = rig.envctl(&["up"]).succeeded();
        assert!(!again.stderr.contains("docker build"), "what it was built from is remembered: {}", again.stderr);
    }

    #[test]
    fn a_step_that_fails_is_told_with_its_last_lines() {
        let Some(rig) = Rig::new() else { return };
        // Each output is in order by itself only.
        recipe(&rig, "RUN [\"/bin/busybox\", \"sh\", \"-c\", \"seq 100 >&2; echo broken >&2; printf end; exit 7\"]\n");
        let failed = rig.envctl(&["up"]);
        refused(
            &failed,
            &["docker build -t team/made", "3/3] RUN", "| 100\n", "| broken\n", "| end\n", "exit code: 7"],
        );
        assert!(!failed.stderr.contains("| 50\n"), "only the last: {}", failed.stderr);
        // What is cancelled because of it isn't to blame.
        let beside = "FROM scratch AS shell\nCOPY busybox /bin/busybox\n\
                      FROM shell AS slow\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo only sleepy; /bin/busybox sleep 300\"]\n\
                      FROM shell\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo the culprit; /bin/busybox sleep 1; exit 8\"]\n\
                      COPY --from=slow /bin/busybox /other\n";
        rig.write("Dockerfile", beside);
        let failed = rig.envctl(&["up"]);
        refused(&failed, &["| the culprit\n", "exit code: 8"]);
        assert!(!failed.stderr.contains("| only sleepy\n"), "{}", failed.stderr);
        // No step is to blame for this one.
        recipe(&rig, "NONSENSE\n");
        refused(&rig.envctl(&["up"]), &["NONSENSE"]);
    }

    #[test]
    fn dockers_own_variable_leads_to_the_classic_builder() {
        let Some(rig) = Rig::new() else { return };
        recipe(&rig, CACHING);
        let classic = rig.with("DOCKER_BUILDKIT", "0", &["up"]);
        refused(&classic, &["the --mount option requires BuildKit", "hint: unset DOCKER_BUILDKIT"]);
        refused(&rig.with("DOCKER_BUILDKIT", "maybe", &["up"]), &["DOCKER_BUILDKIT=maybe is no boolean"]);
    }

    #[test]
    fn a_private_base_image_is_asked_for_with_the_users_credentials() {
        let Some(rig) = Rig::new() else { return };
        // A registry that only looks at who asks.
        let registry = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = registry.local_addr().expect("bound").to_string();
        rig.write(".docker/config.json", &format!(r#"{{"auths": {{"http://{host}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#));
        recipe(&rig, "");
        rig.write("Dockerfile", &format!("FROM {host}/team/base:1\n"));
        let asked = std::thread::spawn(move || {
            let mut by = Vec::new();
            while by.last().is_none_or(|last| last != "the end") {
                let (mut connection, _) = registry.accept().expect("asked");
                let lines = BufReader::new(connection.try_clone().expect("cloned")).lines();
                let header = lines.map(|line| line.expect("text")).take_while(|line| !line.is_empty());
                let known = header.filter_map(|line| line.strip_prefix("Authorization: ").map(str::to_owned)).last();
                let answer = if known.is_some() {
                    "404 Not Found"
                } else {
                    "401 Unauthorized\r\nWww-Authenticate: Basic realm=\"team\""
                };
                write!(connection, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .expect("answered");
                by.extend(known);
            }
            by
        });
        let ran = rig.envctl(&["up"]);
        let mut last = TcpStream::connect(&host).expect("it listens");
        last.write_all(b"HEAD / HTTP/1.1\r\nAuthorization: the end\r\n\r\n").expect("sent");
        let asked = asked.join().expect("it ends");
        refused(&ran, &[&format!("{host}/team/base:1")]);
        assert_eq!(asked.first().map(String::as_str), Some("Basic bWU6c2VjcmV0"), "{}", ran.stderr);
    }
}
