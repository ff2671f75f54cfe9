//! What minikube itself refuses, and what of our name someone else made: exit code 4, and nothing is touched.

use std::fs;

use crate::rig;

#[test]
fn an_engine_that_is_not_running_is_named_with_minikubes_own_advice() {
    let Some(mut rig) = rig("minikube", false) else { return };
    rig.variables.push(("DOCKER_HOST".to_owned(), "unix:///nowhere/docker.sock".to_owned()));
    let ran = rig.envctl(&["up"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.says("PROVIDER_DOCKER"), "{ran:?}");
    assert!(rig.sessions().is_empty());
    rig.envctl(&["gc", "--cluster", "minikube"]).succeeded();
    assert!(!rig.home.path().join(".minikube/profiles").join(rig.cluster()).exists());
}

#[test]
fn a_profile_of_our_name_that_someone_else_made_is_not_touched() {
    let Some(rig) = rig("minikube", false) else { return };
    let profile = rig.home.path().join(".minikube/profiles").join(rig.cluster());
    fs::create_dir_all(&profile).expect("made");
    fs::write(profile.join("config.json"), r#"{"Name": "theirs", "Driver": "docker"}"#).expect("written");
    for command in [&["up"][..], &["up"]] {
        let ran = rig.envctl(command);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(ran.says("was not made by envctl") && ran.says("minikube delete --profile"), "{ran:?}");
    }
    rig.envctl(&["gc", "--cluster", "minikube"]).succeeded();
    let left: Vec<_> = fs::read_dir(&profile).expect("there").map(|entry| entry.expect("read").file_name()).collect();
    assert_eq!(left, ["config.json"]);
    fs::remove_dir_all(&profile).expect("removed");
}

#[test]
fn a_container_of_our_name_from_another_home_is_not_touched() {
    let Some(rig) = rig("minikube", true) else { return };
    let name = rig.cluster();
    let label = format!("mode.minikube.sigs.k8s.io={name}");
    let image = rig.docker(&["images", "--quiet"]);
    let image = image.lines().next().expect("an image");
    // As minikube itself labels its containers: without asking, its `start` would delete it.
    let labels = ["--label", "created_by.minikube.sigs.k8s.io=true", "--label", &label];
    rig.docker(&[&["create", "--name", &name][..], &labels, &[image, "/true"]].concat());
    let ran = rig.envctl(&["up"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.says("was not made by envctl") && ran.says("minikube delete --profile"), "{ran:?}");
    assert_eq!(rig.containers(), [name]);
}
