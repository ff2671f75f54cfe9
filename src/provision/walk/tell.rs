//! What the display is told: each state once, and each change of what a node waits for.

use super::super::event::{Event, NodeState};
use super::{Run, Stage, Walk};
use crate::plan::{Node, NodeId};

impl<'a> Run<'a> {
    /// A node of which nothing is known yet; one that this `up` is not about counts as ready.
    pub(super) fn new(node: &'a Node, is_concerned: bool) -> Self {
        Self {
            node,
            stage: if is_concerned { Stage::Waiting } else { Stage::Ready },
            detail: String::new(),
            objects: Vec::new(),
            finding: None,
            steady: None,
            started: false,
            changed: false,
            replaced: false,
            unmet: Vec::new(),
            told: false,
        }
    }
}

impl Walk<'_> {
    /// Milliseconds since `up` began.
    pub(super) fn at(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A node's state, unless it has been told.
    pub(super) fn tell_run(&mut self, index: usize) {
        let run = &mut self.runs[index];
        if run.told {
            return;
        }
        run.told = true;
        let state = match run.stage {
            Stage::Waiting => NodeState::Waiting { needs: run.unmet.clone() },
            Stage::Building => NodeState::Building,
            Stage::Applying => NodeState::Applying,
            Stage::Expected | Stage::Starting => NodeState::Starting,
            Stage::Ready => NodeState::Ready { unchanged: !run.changed },
        };
        let run = &self.runs[index];
        self.tell(&run.node.id, state, &run.detail);
    }

    /// What a starting node is doing, when that changed.
    pub(super) fn detail(&mut self, index: usize, detail: String) {
        let run = &mut self.runs[index];
        if run.detail != detail {
            (run.detail, run.told) = (detail, false);
        }
        self.tell_run(index);
    }

    pub(super) fn tell(&self, node: &NodeId, state: NodeState, detail: &str) {
        self.around.events.send(Event::Node { node: node.clone(), state, detail: detail.to_owned(), at: self.at() });
    }

    pub(super) fn warn(&self, node: Option<&NodeId>, warnings: Vec<String>) {
        for message in warnings {
            self.around.events.send(Event::Warning { node: node.cloned(), message, at: self.at() });
        }
    }
}
