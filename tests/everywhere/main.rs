//! envs/platform.yaml and envs/codespace.yaml on real Kubernetes and on kind: the files, programs and suites that tests/platform.rs and
//! tests/codespace.rs use on the embedded cluster.
//!
//! Here is only what a cluster needs to be given: the images that the files name ([`images`]). On real Kubernetes (`make cluster-up`) they are
//! imported under those names, for kind (`make kind-up`) the engine gets what their Dockerfiles start from, and envctl builds and loads them.
#![cfg(feature = "cli")]

#[path = "../kind/engine.rs"]
mod engine;
#[path = "../common/hello.rs"]
mod hello;
mod images;
#[path = "../guest/place.rs"]
mod place;
#[path = "../common/require.rs"]
mod require;
mod user;

use user::User;

#[test]
fn the_platform_on_real_kubernetes() {
    let Some(user) = User::of_real() else { return };
    user.import(&images::platform("platform"));
    user.passes("envs/platform.yaml");
}

#[test]
fn the_platform_on_kind() {
    let Some(user) = User::of_kind() else { return };
    user.docker_load(&images::platform(images::BASE));
    user.passes("envs/platform.yaml");
}

#[test]
fn the_codespace_on_real_kubernetes() {
    let Some(user) = User::of_real() else { return };
    user.import(&images::Base::codespace().images());
    user.passes("envs/codespace.yaml");
}

#[test]
fn the_codespace_on_kind() {
    let Some(user) = User::of_kind() else { return };
    user.docker_import(&images::Base::codespace().root());
    user.passes("envs/codespace.yaml");
}
