//! What the machine refuses: said clearly, and nothing left.

use std::fs;
use std::process::Command;

use super::context::{Context, ENVCTL};
use super::program::program;
use super::require::require;

const SLEEPER: &str = "\
images:
  sleeper: { entrypoint: [sleep, \"100000\"], process: {} }
services:
  sleeper: { image: sleeper }
";

fn with_file() -> Context {
    let context = Context::new();
    context.write("envctl.yaml", SLEEPER);
    context
}

#[test]
fn a_state_directory_that_cannot_be_written() {
    let context = with_file();
    fs::create_dir_all(context.state().path()).unwrap();
    fs::write(context.state().sessions(), "in the way").unwrap();
    let ran = context.run(&["up"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    assert!(ran.stderr.starts_with("error: cannot "), "{ran:?}");
    assert!(ran.stderr.contains("HOME/state/sessions") && ran.stderr.contains("\nhint: "), "{ran:?}");
    assert!(context.processes().is_empty());
}

#[test]
fn a_full_disk() {
    if !require(program("unshare", "--version"), "unshare") {
        return;
    }
    let context = with_file();
    fs::create_dir_all(context.state().path()).unwrap();
    // A private mount of a few pages, all taken.
    let script = "mount -t tmpfs -o size=16k,mode=700 tmpfs \"$ENVCTL_STATE_DIR\" || exit 99
        mkdir -m 700 \"$ENVCTL_STATE_DIR/sessions\"
        cat /dev/zero >\"$ENVCTL_STATE_DIR/fill\" 2>/dev/null
        \"$0\" up; code=$?
        ls -A \"$ENVCTL_STATE_DIR/sessions\"
        exit $code";
    let mut unshare = Command::new("unshare");
    let plain = context.command(&[]);
    unshare.args(if nix::unistd::geteuid().is_root() { ["-m"].as_slice() } else { &["-Urm"] });
    unshare.args(["sh", "-c", script, ENVCTL]).env_clear().current_dir(context.project());
    unshare.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = context.ran(&mut unshare);
    if !require(ran.code != Some(99) && ran.code != Some(1), "a mount namespace of one's own") {
        return;
    }
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
    assert!(ran.stderr.contains("hint: free some space"), "{ran:?}");
    assert!(context.processes().is_empty());
}
