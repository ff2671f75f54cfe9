//! The graph's order: dependencies first, else the file's order; cycles named by their path.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::load::Draft;
use crate::envfile::Problem;

/// Sorts the drafts; those in cycles are reported and put last.
pub(super) fn sort(drafts: Vec<Draft>, problems: &mut Vec<Problem>) -> Vec<Draft> {
    let index: HashMap<_, usize> = drafts.iter().enumerate().map(|(at, draft)| (draft.id.clone(), at)).collect();
    // Edges to what could not be decoded lead nowhere; that has been reported.
    let needs: Vec<BTreeSet<usize>> = drafts
        .iter()
        .map(|draft| draft.edges.iter().filter_map(|edge| index.get(&edge.to).copied()).collect())
        .collect();
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    for (at, needs) in needs.iter().enumerate() {
        for need in needs {
            dependents[*need].push(at);
        }
    }
    let mut waiting: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let mut free: BTreeSet<usize> = (0..drafts.len()).filter(|at| waiting[*at] == 0).collect();
    let mut sorted: Vec<usize> = Vec::with_capacity(drafts.len());
    while let Some(at) = free.pop_first() {
        sorted.push(at);
        for dependent in &dependents[at] {
            waiting[*dependent] -= 1;
            if waiting[*dependent] == 0 {
                free.insert(*dependent);
            }
        }
    }
    let mut left: BTreeSet<usize> = (0..drafts.len()).filter(|at| waiting[*at] > 0).collect();
    let rest: Vec<usize> = left.iter().copied().collect();
    while let Some(first) = left.pop_first() {
        if let Some(cycle) = shortest_cycle(first, &needs) {
            problems.push(describe(&cycle, &drafts));
            left.retain(|at| !cycle.contains(at));
        }
    }
    sorted.extend(rest);
    let mut slots: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    sorted.into_iter().filter_map(|at| slots[at].take()).collect()
}

/// The shortest way from a node back to itself: its nodes, starting with it.
fn shortest_cycle(start: usize, needs: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut from: HashMap<usize, usize> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in &needs[at] {
            if *next == start {
                let mut path = vec![at];
                let mut step = at;
                while step != start {
                    step = *from.get(&step)?;
                    path.push(step);
                }
                path.reverse();
                return Some(path);
            }
            if !from.contains_key(next) {
                from.insert(*next, at);
                queue.push_back(*next);
            }
        }
    }
    None
}

fn describe(cycle: &[usize], drafts: &[Draft]) -> Problem {
    let names: Vec<&str> = cycle.iter().chain(&cycle[..1]).map(|at| drafts[*at].id.name.as_str()).collect();
    let edge = |at: usize| {
        let next = &drafts[cycle[(at + 1) % cycle.len()]].id;
        drafts[cycle[at]].edges.iter().find(|edge| edge.to == *next)
    };
    let message = if cycle.len() == 1 {
        format!("`{}` needs itself", names[0])
    } else {
        format!("these wait for each other for ever: {}", names.join(" → "))
    };
    let mut problem = match edge(0) {
        Some(edge) => Problem::at(edge.span, message),
        None => Problem::nowhere(message),
    };
    for at in 1..cycle.len() {
        if let Some(edge) = edge(at) {
            problem = problem.related(edge.span, format!("{} → {}", names[at], names[at + 1]));
        }
    }
    problem
}
