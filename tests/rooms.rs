//! The embedded cluster's three rooms don't know each other: each could be swapped for the real component.
//! Only `src/embedded/mod.rs` may name all three.

use std::path::{Path, PathBuf};

const ROOMS: [&str; 3] = ["apiserver", "controllers", "kubelet"];

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The lines of `code`, without comments, in which `room` is a step of a path: `room::…`, or imported from `embedded`.
fn uses<'a>(code: &'a str, room: &str) -> Vec<&'a str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let names = |line: &str| {
        line.match_indices(room).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = &line[at + room.len()..];
            let whole = !before.is_some_and(is_word) && !after.chars().next().is_some_and(is_word);
            whole
                && (after.starts_with("::")
                    || line.contains("embedded::")
                    || line.trim_start().starts_with("use super::"))
        })
    };
    let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.filter(|line| names(line)).collect()
}

#[test]
fn no_room_names_another() {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/embedded");
    let mut wrong = Vec::new();
    for room in ROOMS {
        let mut sources = Vec::new();
        files(&embedded.join(room), &mut sources);
        assert!(!sources.is_empty(), "{room} has no sources: has it been moved?");
        for path in sources {
            let code = std::fs::read_to_string(&path).expect("readable");
            for other in ROOMS.into_iter().filter(|other| *other != room) {
                wrong.extend(uses(&code, other).into_iter().map(|line| format!("{}: {}", path.display(), line.trim())));
            }
        }
    }
    assert!(wrong.is_empty(), "rooms that name each other:\n{}", wrong.join("\n"));
}

#[test]
fn the_rest_of_the_program_names_no_room_but_through_the_cluster() {
    // What an image means to the node, how it reads `$(NAME)` (which a swapped service's command needs as well), and the entries of the
    // node process and of gates are all that is known of a room outside.
    let allowed = [
        ("images/process.rs", "embedded::kubelet::image"),
        ("on_host/environment.rs", "embedded::kubelet::expansion"),
        ("main.rs", "embedded::kubelet::process::node_main"),
        ("main.rs", "embedded::kubelet::docker::gate::main"),
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    files(&source, &mut sources);
    let mut wrong = Vec::new();
    for path in sources.iter().filter(|path| !path.starts_with(source.join("embedded"))) {
        let code = std::fs::read_to_string(path).expect("readable");
        let relative = path.strip_prefix(&source).expect("below src").to_string_lossy().into_owned();
        for line in ROOMS.into_iter().flat_map(|room| uses(&code, &format!("embedded::{room}"))) {
            if !allowed.iter().any(|(file, what)| relative == *file && line.contains(what)) {
                wrong.push(format!("{relative}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "rooms named from outside:\n{}", wrong.join("\n"));
}

#[test]
fn the_search_finds_what_it_should() {
    assert_eq!(uses("use crate::embedded::{kubelet, x};", "kubelet").len(), 1);
    assert_eq!(uses("use super::super::kubelet::image;", "kubelet").len(), 1);
    assert_eq!(uses("let x = kubelet::start();", "kubelet").len(), 1);
    assert_eq!(uses("self.kubelet.start(); // kubelet::x", "kubelet").len(), 0);
    assert_eq!(uses("my_kubelet::start()", "kubelet").len(), 0);
}
