//! What the engine, or its absence, refuses.

use crate::rig::Rig;

#[test]
fn without_an_engine_an_image_needs_a_process() {
    let Some(rig) = Rig::new() else { return };
    let nowhere = format!("unix://{}", rig.home.path().join("no.sock").display());
    for verb in ["validate", "up"] {
        let ran = rig.with("DOCKER_HOST", &nowhere, &[verb]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("the image `team/box` has no `process`"), "{}", ran.stderr);
        assert!(ran.stderr.contains("start Docker"), "{}", ran.stderr);
    }
    rig.envctl(&["validate"]).succeeded();
}

#[test]
fn what_cannot_be_pulled_is_told_in_the_engines_words() {
    let Some(rig) = Rig::new() else { return };
    rig.write("envctl.yaml", "services:\n  gone: { image: \"localhost:1/team/absent:1\", ports: { http: 80 } }\n");
    let ran = rig.envctl(&["up"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("connection refused"), "{}", ran.stderr);
    assert_eq!(rig.containers(false), Vec::<String>::new());
}

#[test]
fn a_command_that_the_image_lacks_fails_at_once() {
    let Some(rig) = Rig::new() else { return };
    let only = "images: { team/box: { docker: { context: ., dockerfile: Dockerfile } } }\n\
                services: { bad: { image: team/box, command: [nope], ports: { http: 80 } } }\n";
    rig.write("envctl.yaml", only);
    let ran = rig.envctl(&["up"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("exec: \"nope\": executable file not found in $PATH"), "{}", ran.stderr);
}
