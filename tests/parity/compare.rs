//! Plays a scene on both clusters and compares what was seen, against the table of known differences.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::ScopedJoinHandle;

use crate::kind::kind;
use crate::stage::{Side, Stage, Step, real};

const DIFFERENCES: &str = include_str!("differences.txt");
/// The reason of differences that aren't there in every run.
const SOMETIMES: &str = "depends on timing";

/// Plays `scene` on the embedded cluster and on the real ones at the same time. Nothing where there is no real cluster.
pub fn both(case: &str, scene: impl Fn(&Stage) + Sync) {
    let real = real();
    let (kind, _turn) = kind(case).unzip();
    if real.is_none() && kind.is_none() {
        return;
    }
    let play = |side: Side| {
        let stage = Stage::new(side);
        scene(&stage);
        let left = stage.down();
        assert_eq!(left.code, Some(0), "{case}: {left:?}");
        assert_eq!(stage.left(), Vec::<String>::new(), "{case}: what is left");
        stage.seen()
    };
    let (ours, theirs, in_kind) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| play(Side::Embedded));
        let theirs = real.map(|real| scope.spawn(|| play(real.clone())));
        let in_kind = kind.map(|kind| scope.spawn(|| play(Side::Kind(kind))));
        (ours.join(), theirs.map(ScopedJoinHandle::join), in_kind.map(ScopedJoinHandle::join))
    });
    let seen = |side: &str, outcome: std::thread::Result<Vec<Step>>| {
        outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            panic!("{case}, {side}: {text}")
        })
    };
    let ours = seen("embedded", ours);
    if let Some(theirs) = theirs {
        compare(case, &ours, &seen("context", theirs), "context");
    }
    if let Some(in_kind) = in_kind {
        compare(case, &ours, &seen("kind", in_kind), "kind");
    }
}

/// `STEP :: WHAT` of a case → the reason. A line with `kind: ` or `context: ` is about that cluster alone, one with `real: ` about both.
fn known(case: &str, cluster: &str) -> BTreeMap<String, &'static str> {
    let lines = DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mine = lines.filter_map(|line| line.strip_prefix(case)?.strip_prefix(' '));
    let others = if cluster == "kind" { " :: context: " } else { " :: kind: " };
    let here = mine.filter(|line| !line.contains(others));
    here.map(|line| {
        let (difference, reason) = line.rsplit_once(" :: ").unwrap_or_else(|| panic!("no reason: {line}"));
        let what = difference.split_once(" :: ").map_or("", |(_, what)| what);
        if let Some(start) = what.strip_suffix('*') {
            let words = ["embedded: ", "real: ", "context: ", "kind: ", "out ", "err "]
                .iter()
                .fold(start, |rest, word| rest.trim_start_matches(word));
            assert!(words.trim().len() > 3, "what may end anyhow begins with what it is: {line}");
        }
        (difference.replace(" :: kind: ", " :: real: ").replace(" :: context: ", " :: real: "), reason)
    })
    .collect()
}

fn compare(case: &str, ours: &[Step], theirs: &[Step], cluster: &str) {
    let steps = |steps: &[Step]| steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>();
    assert_eq!(steps(ours), steps(theirs), "{case}: the same steps were played");
    let known = known(case, cluster);
    let (mut found, mut unexplained) = (BTreeSet::new(), Vec::new());
    for (mine, real) in ours.iter().zip(theirs) {
        for difference in differences(mine, real) {
            let entry = known.keys().find(|entry| match entry.strip_suffix('*') {
                Some(start) => difference.starts_with(start.trim_end()),
                None => **entry == difference.lines().next().unwrap_or_default(),
            });
            match entry {
                Some(entry) => _ = found.insert(entry.clone()),
                None => unexplained.push(format!("{case} {difference}")),
            }
        }
    }
    let gone: Vec<_> =
        known.iter().filter(|(entry, reason)| !found.contains(*entry) && **reason != SOMETIMES).collect();
    assert!(
        unexplained.is_empty() && gone.is_empty(),
        "{cluster}: {} differences that tests/parity/differences.txt doesn't explain:\n{}\nlines of it that no longer differ: {gone:#?}",
        unexplained.len(),
        unexplained.join("\n"),
    );
}

/// `STEP :: WHAT`, with both values on further lines where both have one.
fn differences(mine: &Step, real: &Step) -> Vec<String> {
    let mut all = Vec::new();
    for name in mine.fields.keys().chain(real.fields.keys()).collect::<BTreeSet<_>>() {
        let (mine_is, real_is) = (mine.fields.get(name), real.fields.get(name));
        if mine_is != real_is {
            let show = |of: Option<&String>| of.map_or("(absent)".to_owned(), Clone::clone);
            all.push(format!("{} :: {name}\n    embedded: {}\n    real: {}", mine.name, show(mine_is), show(real_is)));
        }
    }
    for (which, mine_is, real_is) in [("out", &mine.out, &real.out), ("err", &mine.err, &real.err)] {
        // Nodes that don't wait for each other report in any order.
        let sequence = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| !line.starts_with("[TIME]")).cloned().collect()
        };
        let (few, many) = (only(mine_is, real_is), only(real_is, mine_is));
        if few.is_empty() && many.is_empty() && sequence(mine_is) != sequence(real_is) {
            all.push(format!("{} :: order of {which}\n    embedded: {mine_is:#?}\n    real: {real_is:#?}", mine.name));
        }
        all.extend(few.into_iter().map(|line| format!("{} :: embedded: {which} {line}", mine.name)));
        all.extend(many.into_iter().map(|line| format!("{} :: real: {which} {line}", mine.name)));
    }
    all
}

/// The lines that `one` has more often than `other`.
fn only(one: &[String], other: &[String]) -> Vec<String> {
    let mut left: Vec<&String> = other.iter().collect();
    let extra = one.iter().filter(|line| match left.iter().position(|found| found == line) {
        Some(at) => {
            left.swap_remove(at);
            false
        }
        None => true,
    });
    extra.cloned().collect()
}
