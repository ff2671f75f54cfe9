//! Which session is meant, as every verb decides it.

use std::fs::{self, File};
use std::path::PathBuf;

use envctl::session::lookup;
use envctl::session::record::{Phase, Record, VERSION};

use super::context::Context;

/// A session that is live as far as anybody can tell: this process holds its lock.
struct Live {
    _lock: File,
}

fn live(context: &Context, id: &str, session: &str, root: &str) -> Live {
    let directory = context.state().session(id);
    fs::create_dir_all(directory.path()).unwrap();
    let lock = File::create(directory.lock()).unwrap();
    lock.lock().unwrap();
    let root = context.project().parent().unwrap().join(root);
    fs::create_dir_all(root.join("envs")).unwrap();
    let record = Record {
        version: VERSION,
        id: id.to_owned(),
        namespace: format!("envctl-{id}"),
        root,
        environment: "demo".to_owned(),
        session: session.to_owned(),
        file: PathBuf::new(),
        cluster: "embedded".to_owned(),
        phase: Phase::Ready,
        ready: None,
        shared: None,
        created: 0,
        agent_pid: 0,
        api: None,
        kubeconfig: directory.kubeconfig(),
        addresses: Default::default(),
        exports: [("WHO".to_owned(), format!("it's {id}"))].into(),
    };
    record.write(&directory.record_path()).unwrap();
    Live { _lock: lock }
}

fn who(context: &Context, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut all = vec!["env", "--format", "json"];
    all.extend(arguments);
    let mut command = context.command(&all);
    command.envs(variables.iter().copied());
    let ran = context.ran(&mut command);
    if ran.code == Some(0) {
        let exports: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        exports["WHO"].as_str().unwrap().to_owned()
    } else {
        assert_eq!(ran.code, Some(2));
        ran.stderr
    }
}

#[test]
fn the_only_session_of_the_project_is_meant() {
    let context = Context::new();
    let _here = live(&context, "demo-1", "demo", "project");
    let _elsewhere = live(&context, "other-1", "demo", "other");
    assert_eq!(who(&context, &[], &[]), "it's demo-1");
    fs::create_dir_all(context.project().join("src/deep")).unwrap();
    let mut below = context.command(&["env"]);
    below.current_dir(context.project().join("src/deep"));
    assert_eq!(context.ran(&mut below).stdout, "export WHO='it'\\''s demo-1'\n");
}

#[test]
fn several_are_an_error_that_lists_them_and_the_last_one_brought_up_wins() {
    let context = Context::new();
    let _one = live(&context, "demo-1", "demo", "project");
    let _two = live(&context, "demo-2", "branch", "project");
    insta::assert_snapshot!(who(&context, &[], &[]), @r"
    error: several sessions are running for HOME/project; live are:
      demo-1  (ready, HOME/project)
      demo-2  (ready, HOME/project)
    hint: name one with --session, or set ENVCTL_SESSION
    ");
    lookup::write_current(&context.project(), "demo-2").unwrap();
    assert_eq!(who(&context, &[], &[]), "it's demo-2");
    assert_eq!(who(&context, &["--session", "demo"], &[]), "it's demo-1");
    assert_eq!(who(&context, &[], &[("ENVCTL_SESSION", "demo-1")]), "it's demo-1");
    assert_eq!(fs::read_to_string(context.project().join(".envctl/.gitignore")).unwrap(), "*\n");
}

#[test]
fn a_name_means_this_project_and_an_id_means_any() {
    let context = Context::new();
    let _elsewhere = live(&context, "other-1", "demo", "other");
    assert_eq!(who(&context, &["--session", "other-1"], &[]), "it's other-1");
    insta::assert_snapshot!(who(&context, &["--session", "demo"], &[]), @r#"
    error: no session named "demo" is running for HOME/project; live are:
      other-1  (ready, HOME/other)
    hint: start one with `envctl up`, or name one with --session
    "#);
}

#[test]
fn an_agent_killed_while_it_made_itself_current_leaves_nothing_in_the_project() {
    let context = Context::new();
    let dead = live(&context, "demo-1", "demo", "project");
    lookup::own_directory(&context.project()).unwrap();
    fs::write(context.project().join(".envctl/current.partial"), "").unwrap();
    drop(dead);
    who(&context, &[], &[]);
    assert!(!context.project().join(".envctl").exists());
}

#[test]
fn a_dead_session_does_not_count_and_its_files_go() {
    let context = Context::new();
    let dead = live(&context, "demo-1", "demo", "project");
    lookup::write_current(&context.project(), "demo-1").unwrap();
    drop(dead);
    insta::assert_snapshot!(who(&context, &[], &[]), @r"
    error: no session is running for HOME/project; demo-1 ended: its agent was killed
    hint: start one with `envctl up`
    ");
    assert_eq!(context.session_directories(), Vec::<PathBuf>::new());
    assert!(!context.project().join(".envctl").exists());
}

#[test]
fn one_that_was_killed_while_it_was_made_is_not_told_of() {
    let context = Context::new();
    std::fs::create_dir_all(context.state().sessions().join(".new-demo-1")).unwrap();
    let ran = context.run(&["ls"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "no sessions\n"));
    assert_eq!(context.session_directories(), Vec::<PathBuf>::new());
}

#[test]
fn the_client_in_tests_finds_the_same() {
    let context = Context::new();
    let _here = live(&context, "demo-1", "demo", "project");
    let query = lookup::Query { named: None, file: None, start: &context.project() };
    assert_eq!(lookup::find(&context.state(), &query).unwrap().id, "demo-1");
}

#[test]
fn run_passes_variables_and_codes_through() {
    let context = Context::new();
    let _here = live(&context, "demo-1", "demo", "project");
    let ran = context.run(&["run", "sh", "-c", "echo $WHO; exit 3"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "it's demo-1\n"));
    assert_eq!(context.run(&["run", "--", "no-such-program"]).code, Some(127));
    assert_eq!(context.run(&["run", "--", "/etc/passwd"]).code, Some(126));
    let none = Context::new();
    assert_eq!(none.run(&["run", "--", "true"]).code, Some(125));
}
