//! What a pod has of its own, and what it may not do.

use envctl::embedded::kubelet::runtime::Runtime;

use crate::rig::{container, finish, is_root, node, pod, read_line, run_script, sandbox, script};

#[tokio::test]
async fn it_has_its_own_processes_name_interfaces_and_files_of_the_pod() {
    let node = node().await;
    let mut config = sandbox("web-0");
    config.extra_hosts = vec![("192.0.2.7".to_owned(), vec!["alias".to_owned(), "other".to_owned()])];
    let ip = node.run_pod_sandbox(config).await.unwrap().ip;
    let text = "echo $$; hostname; cat /etc/hostname /etc/resolv.conf; grep -c : /proc/net/dev; tail -n 1 /etc/hosts; getent hosts web-0";
    let outcome = finish(node.start_container(container("web-0", "c", text)).await.unwrap()).await;
    let expected = format!("2\nweb-0\nweb-0\nnameserver 10.96.0.10\n2\n192.0.2.7\talias\tother\n{ip}      web-0");
    assert_eq!(outcome.out, expected, "{outcome:?}");
    node.stop().await;
}

#[tokio::test]
async fn containers_of_a_pod_share_its_network_memory_and_messages_but_not_files_or_processes() {
    let node = node().await;
    pod(&node, "p").await;
    let text = "echo hello >/dev/shm/x; echo x >/tmp/x; touch /usr/x 2>/dev/null; echo up; exec sleep 1000";
    let mut first = node.start_container(container("p", "c1", text)).await.unwrap();
    read_line(&mut first.stdout).await;
    let text = "cat /dev/shm/x; ls /tmp; ls /usr/x 2>/dev/null; ls -d /proc/[0-9]* | wc -l; readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts";
    let second = finish(node.start_container(container("p", "c2", text)).await.unwrap()).await;
    let namespaces = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts";
    let seen_by_first = finish(node.exec("c1", script(namespaces)).await.unwrap()).await;
    let mut lines = second.out.lines();
    assert_eq!(lines.next(), Some("hello"));
    assert!(lines.next().unwrap().parse::<u32>().unwrap() <= 4, "{second:?}");
    assert_eq!(lines.collect::<Vec<_>>().join("\n"), seen_by_first.out);
    node.stop().await;
}

#[tokio::test]
async fn the_kernel_is_shown_but_not_to_be_changed() {
    let node = node().await;
    let text = "test -c /dev/null && test -c /dev/urandom && test -c /dev/ptmx && echo hi >/dev/null && echo devices
        echo 1 2>/dev/null >/proc/sys/kernel/panic || echo sys
        (echo 1 >/proc/sysrq-trigger) 2>/dev/null || echo sysrq
        (mkdir /sys/x) 2>/dev/null || echo sysfs
        head -c 1 /proc/kcore 2>/dev/null | wc -c
        echo via >/dev/stderr; ls -A /dev/mqueue; echo $(( $(ulimit -n) >= 1024 ))";
    let outcome = run_script(&node, text).await;
    assert_eq!(outcome.out, "devices\nsys\nsysrq\nsysfs\n0\n1", "{outcome:?}");
    assert!(outcome.err.ends_with("via"), "{outcome:?}");
    node.stop().await;
}

#[tokio::test]
async fn it_can_see_neither_the_node_nor_its_environment() {
    let node = node().await;
    let text = "ls / | grep -E '^(host|stage|pods)$'; cut -d ' ' -f 5 /proc/self/mountinfo | grep -cE '^/(host|stage|pods)'; cat /proc/1/environ; readlink /proc/1/fd/*; ls /proc/1/root";
    let outcome = run_script(&node, text).await;
    assert_eq!(outcome.out, "0", "{outcome:?}");
    node.stop().await;
}

#[tokio::test]
async fn capabilities_are_a_containers() {
    let node = node().await;
    let outcome = run_script(&node, "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | cut -f 2").await;
    let sets: Vec<&str> = outcome.out.lines().collect();
    let most = "00000000a00425fb";
    let expected = if is_root() { [most, most] } else { ["0000000000000000"; 2] };
    assert_eq!(sets, ["0000000000000000", expected[0], expected[1], most, "0000000000000000"]);
    node.stop().await;
}

#[tokio::test]
async fn the_user_is_the_one_asked_for_or_the_caller_with_a_warning() {
    let node = node().await;
    pod(&node, "p").await;
    let mut config = container("p", "c", "id -u; id -g; id -G; echo ok >/dev/stdout; touch ~/x && echo home");
    // Somebody else, whoever runs the tests.
    let (caller, group) = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
    let other = if caller.as_raw() == 65534 { "daemon" } else { "nobody" };
    config.user.user = Some(other.to_owned());
    config.user.supplemental_groups = vec![2000];
    let process = node.start_container(config).await.unwrap();
    let warnings = process.warnings.clone();
    let outcome = finish(process).await;
    if is_root() {
        assert_eq!(outcome.out, "65534\n65534\n65534 2000\nok\nhome", "{outcome:?}");
        assert!(warnings.is_empty(), "{warnings:?}");
    } else {
        let lines: Vec<&str> = outcome.out.lines().collect();
        let (uid, gid) = (caller.to_string(), group.to_string());
        // Between the two: the caller's own groups, which have no numbers inside.
        assert_eq!([lines[0], lines[1], lines[3], lines[4]], [&uid, &gid, "ok", "home"], "{outcome:?}");
        assert!(lines[2].split(' ').next() == Some(gid.as_str()), "{outcome:?}");
        assert!(warnings.len() == 1 && warnings[0].contains(other), "{warnings:?}");
    }
    let mut config = container("p", "d", "id -u");
    config.user.user = Some(nix::unistd::Uid::effective().to_string());
    let process = node.start_container(config).await.unwrap();
    assert!(process.warnings.is_empty(), "{:?}", process.warnings);
    node.stop().await;
}

#[tokio::test]
async fn sysctls_of_the_pod_are_set_or_refused() {
    let node = node().await;
    let mut config = sandbox("p");
    config.sysctls = [("net.ipv4.ip_local_port_range".to_owned(), "40000 40100".to_owned())].into();
    node.run_pod_sandbox(config).await.unwrap();
    let text = "cat /proc/sys/net/ipv4/ip_local_port_range";
    let outcome = finish(node.start_container(container("p", "c", text)).await.unwrap()).await;
    assert_eq!(outcome.out, "40000\t40100");
    let mut config = sandbox("q");
    config.sysctls = [("net.no.such.thing".to_owned(), "1".to_owned())].into();
    let error = node.run_pod_sandbox(config).await.expect_err("no such sysctl");
    assert!(error.to_string().contains("net.no.such.thing"), "{error}");
    node.run_pod_sandbox(sandbox("q")).await.expect("a refused pod leaves nothing");
    node.stop().await;
}
