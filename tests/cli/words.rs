//! What it says: help, usage errors, completion, formats.

use super::context::Context;

#[test]
fn help_names_every_verb_and_every_exit_code() {
    let ran = Context::new().run(&["--help"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!("help", ran.stdout);
}

#[test]
fn bad_usage_is_exit_2_on_stderr() {
    let context = Context::new();
    for arguments in
        [&["fly"][..], &["up", "--wait-timeout", "soon"], &["up", "-d", "--attach"], &["exec", "api"], &["run"]]
    {
        let ran = context.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.stderr.starts_with("error: "), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_flag_can_be_a_variable() {
    let context = Context::new();
    let ran = context.ran(context.command(&["ls"]).env("ENVCTL_OUTPUT", "json"));
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document, serde_json::json!({"version": 1, "sessions": []}));
    let ran = context.ran(context.command(&["up"]).env("ENVCTL_WAIT_TIMEOUT", "soon"));
    assert_eq!(ran.code, Some(2));
    // What a CI system sets where nothing was given, and how people say yes and no.
    let nothing = [("ENVCTL_TIMEOUT", ""), ("ENVCTL_OUTPUT", ""), ("ENVCTL_ALL", "")];
    for (all, words) in
        [("", "for HOME/project"), ("0", "for HOME/project"), ("no", "for HOME/project"), ("1", "on this machine")]
    {
        let ran = context.ran(context.command(&["down"]).envs(nothing).env("ENVCTL_ALL", all));
        assert_eq!(ran.code, Some(0), "{all:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{all:?}: {ran:?}");
    }
    // What isn't given contradicts nothing.
    let ran = context.ran(context.command(&["up", "--attach"]).env("ENVCTL_DETACH", "0").env("ENVCTL_KEEP", "no"));
    assert!(ran.code == Some(2) && ran.stderr.starts_with("error: no environment file found"), "{ran:?}");
    let ran = context.ran(context.command(&["up", "--attach"]).env("ENVCTL_DETACH", "1"));
    assert!(ran.code == Some(2) && ran.stderr.contains("cannot be used with"), "{ran:?}");
    let ran = context.ran(context.command(&["down"]).env("ENVCTL_ALL", "perhaps"));
    assert!(ran.code == Some(2) && ran.stderr.contains("invalid value 'perhaps' for '--all'"), "{ran:?}");
}

#[test]
fn every_flag_can_be_a_variable() {
    fn check(command: &clap::Command) {
        for flag in command.get_arguments() {
            // `--file` is read by hand: `logs -f` means something else.
            let Some(long) = flag.get_long().filter(|long| !["help", "version", "file"].contains(long)) else {
                continue;
            };
            let expected = format!("ENVCTL_{}", long.replace('-', "_").to_uppercase());
            let found = flag.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(found, Some(expected), "{} --{long}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&envctl::cli::command());
    let context = Context::new();
    let ran = context.ran(context.command(&["up"]).env("ENVCTL_FILE", "nowhere"));
    assert!(ran.code == Some(2) && ran.stderr.contains("HOME/project/envs/nowhere.yaml"), "{ran:?}");
}

#[test]
fn help_of_up() {
    let ran = Context::new().run(&["up", "--help"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!("help_of_up", ran.stdout);
}

#[test]
fn no_environment_file_says_where_it_looked() {
    let context = Context::new();
    let ran = context.run(&["up"]);
    assert_eq!(ran.code, Some(2));
    insta::assert_snapshot!(ran.stderr, @r"
    error: no environment file found; looked for
      HOME/project/envctl.yaml
      HOME/project/envs/*.yaml
    hint: write one with `envctl init`, or name one with --file
    ");
    let ran = context.run(&["up", "-f", "demo"]);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: no environment file "demo"; looked for
      HOME/project/demo
      HOME/project/envs/demo.yaml
      HOME/project/envs/demo.yml
    "#);
    context.write("envs/a.yaml", "services: {}\n");
    context.write("envs/b.yaml", "services: {}\n");
    let ran = context.run(&["up"]);
    assert_eq!(ran.code, Some(2));
    insta::assert_snapshot!(ran.stderr, @r"
    error: several environment files, and none was named:
      HOME/project/envs/a.yaml
      HOME/project/envs/b.yaml
    hint: name one with --file, for example `--file a`
    ");
}

#[test]
fn completion_scripts_are_data() {
    let context = Context::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = context.run(&["completion", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert!(ran.stdout.contains("wait-timeout"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let context = Context::new();
    let mut command = context.command(&["completion", "bash"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer);
    let ran = context.ran(&mut command);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_state_directory_that_cannot_be_used_says_so() {
    let context = Context::new();
    std::fs::create_dir_all(context.state().path()).unwrap();
    std::fs::write(context.state().sessions(), "in the way").unwrap();
    let ran = context.run(&["ls"]);
    assert_eq!(ran.code, Some(125));
    insta::assert_snapshot!(ran.stderr, @r"
    error: cannot read HOME/state/sessions: Not a directory (os error 20)
    hint: something else is in the way: move it, or set ENVCTL_STATE_DIR
    ");
}

#[test]
fn doctor_gives_every_check_a_verdict() {
    let context = Context::new();
    let ran = context.run(&["doctor", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["version"], 1);
    let names: Vec<&str> =
        document["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sandbox", "state", "files", "inotify", "docker", "kubectl", "kind", "minikube"]);
    let state = &document["checks"][1];
    assert_eq!(state["verdict"], "ok", "{state}");
}
