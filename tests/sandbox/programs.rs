//! Programs: how they start, what they are given, how they end.

use std::io::Write;
use std::path::PathBuf;

use envctl::embedded::kubelet::runtime::{ExitStatus, Runtime, RuntimeError};

use crate::rig::{container, ended, finish, node, pod, read_all, read_line, run, run_script, script};

#[tokio::test]
async fn output_and_exit_code_come_back() {
    let node = node().await;
    let outcome = run_script(&node, "echo out; echo err >&2; exit 3").await;
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out", "err"));
    assert_eq!(outcome.status, ExitStatus::Code(3));
    node.stop().await;
}

#[tokio::test]
async fn a_signal_ends_a_program_that_has_no_handler() {
    let node = node().await;
    pod(&node, "p").await;
    for (number, signal) in [15, 2, 9].into_iter().enumerate() {
        let config = container("p", &format!("c{number}"), "echo up; exec sleep 1000");
        let mut process = node.start_container(config).await.unwrap();
        read_line(&mut process.stdout).await;
        process.signals.send(signal);
        assert_eq!(ended(process.exit).await, ExitStatus::Signal(signal));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_signal_reaches_the_handler_of_a_program() {
    let node = node().await;
    pod(&node, "p").await;
    let text = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 1000 & wait; done";
    let mut process = node.start_container(container("p", "c", text)).await.unwrap();
    read_line(&mut process.stdout).await;
    process.signals.send(15);
    let outcome = finish(process).await;
    assert_eq!((outcome.out.as_str(), outcome.status), ("bye", ExitStatus::Code(7)));
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let node = node().await;
    let start = async |uid: &str, argv: &[&str], user: Option<&str>| {
        let mut config = container(uid, &format!("{uid}-1"), "");
        config.argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
        config.user.user = user.map(str::to_owned);
        run(&node, config).await.expect_err("no start")
    };
    let error = start("a", &["no-such-program"], None).await;
    assert!(matches!(&error, RuntimeError::CommandNotFound { program, .. } if program == "no-such-program"), "{error}");
    assert_eq!(error.to_string(), "exec: \"no-such-program\": executable file not found in $PATH");
    let error = start("b", &["/no/such/program"], None).await;
    assert!(matches!(&error, RuntimeError::CommandNotFound { searched, .. } if searched == "/no/such"), "{error}");
    let error = start("c", &["/etc/hosts"], None).await;
    assert!(
        matches!(&error, RuntimeError::NotExecutable { source, .. } if source.raw_os_error() == Some(13)),
        "{error}"
    );
    let error = start("d", &["/etc"], None).await;
    assert!(matches!(error, RuntimeError::NotExecutable { .. }), "{error}");
    let error = start("e", &["true"], Some("no-such-user")).await;
    assert!(matches!(&error, RuntimeError::NoSuchUser(user) if user == "no-such-user"), "{error}");
    let error = node.start_container(container("no-pod", "x", "true")).await.expect_err("no pod");
    assert!(matches!(error, RuntimeError::NotFound(_)), "{error}");
    node.stop().await;
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for_and_a_home() {
    let node = node().await;
    let mut config = container("one", "one-1", "");
    config.argv = vec!["env".to_owned()];
    config.env.push(("GREETING".to_owned(), "hello world".to_owned()));
    let path = config.env[0].1.clone();
    let outcome = run(&node, config.clone()).await.unwrap();
    let mut lines: Vec<&str> = outcome.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["GREETING=hello world", "HOME=/run/home", &format!("PATH={path}")]);
    config.env = vec![("HOME".to_owned(), "/elsewhere".to_owned())];
    assert_eq!(run(&node, config).await.unwrap().out, "HOME=/elsewhere");
    node.stop().await;
}

#[tokio::test]
async fn it_is_at_home_where_it_was_told_to_start() {
    let node = node().await;
    let mut config = container("one", "one-1", "pwd; cd; touch x && ls -A; umask; ls /proc/self/fd | wc -l");
    config.working_dir = PathBuf::from("/made/for/it");
    let outcome = run(&node, config).await.unwrap();
    // Four descriptors: the standard streams and the directory that `ls` lists.
    assert_eq!(outcome.out, "/made/for/it\nx\n0022\n4", "{outcome:?}");
    node.stop().await;
}

#[tokio::test]
async fn standard_input_is_read_to_its_end() {
    let node = node().await;
    pod(&node, "p").await;
    let mut config = container("p", "c", "cat; echo end");
    config.stdin = true;
    let mut process = node.start_container(config).await.unwrap();
    let mut input = std::fs::File::from(process.stdin.take().unwrap());
    input.write_all(b"one two\n").unwrap();
    drop(input);
    assert_eq!(finish(process).await.out, "one two\nend");
    let closed = node.start_container(container("p", "d", "cat; echo end")).await.unwrap();
    assert_eq!(finish(closed).await.out, "end");
    node.stop().await;
}

#[tokio::test]
async fn a_terminal_is_one() {
    let node = node().await;
    pod(&node, "p").await;
    let mut config =
        container("p", "c", "test -t 0 && test -t 1 && test -t 2 && read line </dev/tty && echo got $line; tty");
    (config.tty, config.stdin) = (true, true);
    let mut process = node.start_container(config).await.unwrap();
    assert!(process.stderr.is_none());
    std::fs::File::from(process.stdin.take().unwrap()).write_all(b"typed\n").unwrap();
    let outcome = finish(process).await;
    assert!(outcome.out.contains("got typed\r\n/dev/pts/0"), "{outcome:?}");
    assert_eq!(outcome.status, ExitStatus::Code(0));
    let idle = node.start_container(container("p", "idle", "exec sleep 1000")).await.unwrap();
    let mut config = script("test -t 1 && stty size && exit 4");
    config.tty = true;
    let outcome = finish(node.exec("idle", config).await.unwrap()).await;
    assert_eq!(outcome.status, ExitStatus::Code(4), "{outcome:?}");
    drop(idle);
    node.stop().await;
}

#[tokio::test]
async fn an_exec_is_in_the_container() {
    let node = node().await;
    pod(&node, "p").await;
    let mut config = container("p", "c", "touch /tmp/mark; echo up; exec sleep 1000");
    config.env.push(("SEEN".to_owned(), "yes".to_owned()));
    let mut main = node.start_container(config).await.unwrap();
    read_line(&mut main.stdout).await;
    let seen = "ls /tmp; echo $SEEN; hostname; grep -c . /proc/1/comm; ls -d /proc/[0-9]* | wc -l; exit 5";
    let outcome = finish(node.exec("c", script(seen)).await.unwrap()).await;
    assert!(outcome.out.starts_with("mark\nyes\np\n1\n"), "{outcome:?}");
    assert_eq!(outcome.status, ExitStatus::Code(5));
    let missing = node.exec(
        "c",
        envctl::embedded::kubelet::runtime::ExecConfig {
            argv: vec!["no-such-program".to_owned()],
            stdin: false,
            tty: false,
        },
    );
    assert!(matches!(missing.await, Err(RuntimeError::CommandNotFound { .. })));
    for signal in [15, 9] {
        let mut running = node.exec("c", script("echo up; exec sleep 1000")).await.unwrap();
        read_line(&mut running.stdout).await;
        running.signals.send(signal);
        assert_eq!(ended(running.exit).await, ExitStatus::Signal(signal));
    }
    let last = node.exec("c", script("exec sleep 1000")).await.unwrap();
    main.signals.send(9);
    assert_eq!(ended(last.exit).await, ExitStatus::Signal(9));
    assert_eq!(ended(main.exit).await, ExitStatus::Signal(9));
    assert!(matches!(node.exec("c", script("true")).await, Err(RuntimeError::NotFound(_))));
    node.stop().await;
}

#[tokio::test]
async fn whatever_a_program_leaves_running_ends_with_it() {
    let node = node().await;
    // The daemon holds standard output open: its end is seen as the pipe's end.
    let outcome = run_script(&node, "setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & wait' & echo gone; exit 2").await;
    assert_eq!((outcome.out.as_str(), outcome.status), ("gone", ExitStatus::Code(2)));
    node.stop().await;
}

#[tokio::test]
async fn removing_a_pod_ends_its_containers_and_can_be_repeated() {
    let node = node().await;
    pod(&node, "p").await;
    let one = node.start_container(container("p", "c1", "exec sleep 1000")).await.unwrap();
    let two = node.start_container(container("p", "c2", "trap '' TERM; sleep 1000 & wait")).await.unwrap();
    node.remove_pod_sandbox("p").await.unwrap();
    assert_eq!(ended(one.exit).await, ExitStatus::Signal(9));
    assert_eq!(ended(two.exit).await, ExitStatus::Signal(9));
    assert_eq!(read_all(one.stdout).await, "");
    node.remove_pod_sandbox("p").await.unwrap();
    pod(&node, "p").await;
    node.stop().await;
}

#[tokio::test]
async fn many_start_at_once() {
    let node = node().await;
    let starts = (0..20).map(|number| {
        let node = node.clone();
        tokio::spawn(async move {
            let (uid, id) = (format!("pod-{number}"), format!("c-{number}"));
            run(&node, container(&uid, &id, &format!("exit {number}"))).await.unwrap().status
        })
    });
    for (number, start) in starts.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(start.await.unwrap(), ExitStatus::Code(number as i32));
    }
    node.stop().await;
}

#[tokio::test]
async fn an_environment_of_any_size_arrives() {
    let node = node().await;
    let mut config = container("one", "one-1", "echo ${#LONG}");
    config.env.push(("LONG".to_owned(), "x".repeat(100_000)));
    assert_eq!(run(&node, config).await.unwrap().out, "100000");
    node.stop().await;
}
