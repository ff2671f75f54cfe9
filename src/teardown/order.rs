//! The order in which nodes are stopped: each before what it needs.

use super::Needs;
use crate::plan::NodeId;

/// Nodes in waves: all of one wave may stop at once, and nothing in it is needed by what still runs.
pub fn waves(nodes: &[NodeId], needs: &Needs) -> Vec<Vec<NodeId>> {
    let mut left: Vec<NodeId> = nodes.to_vec();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let needed = |node: &NodeId| {
            left.iter().any(|other| other != node && needs.get(other).is_some_and(|needs| needs.contains(node)))
        };
        let (mut wave, rest): (Vec<_>, Vec<_>) = left.iter().cloned().partition(|node| !needed(node));
        if wave.is_empty() {
            // A plan has no cycles; should two plans together have one, all of it goes at once.
            wave.clone_from(&left);
            left.clear();
        } else {
            left = rest;
        }
        waves.push(wave);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::NodeKind;

    fn node(name: &str) -> NodeId {
        NodeId::new(NodeKind::Service, name)
    }

    fn of(edges: &[(&str, &[&str])]) -> Vec<Vec<String>> {
        let needs: Needs =
            edges.iter().map(|(name, needs)| (node(name), needs.iter().map(|name| node(name)).collect())).collect();
        let nodes: Vec<NodeId> = edges.iter().map(|(name, _)| node(name)).collect();
        waves(&nodes, &needs).iter().map(|wave| wave.iter().map(|node| node.name.clone()).collect()).collect()
    }

    #[test]
    fn what_others_need_stops_after_them() {
        assert_eq!(
            of(&[("db", &[]), ("cache", &[]), ("api", &["db", "cache"]), ("worker", &["api", "db"])]),
            [vec!["worker"], vec!["api"], vec!["db", "cache"]]
        );
        assert_eq!(of(&[("a", &[]), ("b", &[])]), [["a", "b"]]);
        assert_eq!(of(&[]), Vec::<Vec<String>>::new());
    }

    #[test]
    fn what_is_no_longer_in_the_file_holds_nothing_up() {
        assert_eq!(of(&[("a", &["gone"])]), [["a"]]);
        assert_eq!(of(&[("a", &["b"]), ("b", &["a"])]), [["a", "b"]]);
    }
}
