//! What a person sees during `up`: a live table on a terminal, one line per event elsewhere.
//!
//! [`Model`] is what is known, fed by the agent's events; [`live`] draws it, pure up to the bytes.

pub mod live;

use std::time::{Duration, Instant};

use super::duration::human;
use super::output::Output;
use crate::plan::NodeId;
use crate::provision::{Event, NodeState};

/// What is known of an `up`.
#[derive(Debug)]
pub struct Model {
    /// The environment's name.
    pub title: String,
    /// What there is to say of the whole: the cluster, a build.
    pub note: String,
    /// In the graph's order.
    pub rows: Vec<Row>,
}

/// One node.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub node: NodeId,
    /// How far it is.
    pub state: NodeState,
    /// What it waits for or what is happening.
    pub detail: String,
    /// Since when it is in this state; `None`: the display has not heard of it.
    pub since: Option<Instant>,
    /// Since the `up` began, when it became ready or failed.
    pub done_at: Option<Duration>,
}

impl Model {
    /// For a plan's nodes, of which nothing is known yet.
    pub fn new(title: &str, nodes: impl Iterator<Item = NodeId>) -> Self {
        let rows = nodes
            .map(|node| Row {
                node,
                state: NodeState::Waiting { needs: Vec::new() },
                detail: String::new(),
                since: None,
                done_at: None,
            })
            .collect();
        Self { title: title.to_owned(), note: String::new(), rows }
    }

    /// Takes in an event that arrived at `now`.
    pub fn happened(&mut self, event: &Event, now: Instant) {
        match event {
            Event::ClusterReady { cluster, .. } => cluster.clone_into(&mut self.note),
            Event::BuildStarted { command, .. } => self.note = format!("building: {command}"),
            Event::ClusterProgress { doing, .. } => doing.clone_into(&mut self.note),
            Event::ImageProgress { image, doing, .. } => self.note = format!("{image}: {doing}"),
            Event::BuildFinished { took, .. } => {
                self.note = format!("built in {}", human(Duration::from_millis(*took)))
            }
            Event::Node { node, state, detail, at } => {
                let index = match self.rows.iter().position(|row| row.node == *node) {
                    Some(index) => index,
                    None => {
                        let state = NodeState::Waiting { needs: Vec::new() };
                        self.rows.push(Row {
                            node: node.clone(),
                            state,
                            detail: String::new(),
                            since: None,
                            done_at: None,
                        });
                        self.rows.len() - 1
                    }
                };
                let row = &mut self.rows[index];
                if row.since.is_none() || std::mem::discriminant(&row.state) != std::mem::discriminant(state) {
                    row.since = Some(now);
                }
                row.done_at = matches!(state, NodeState::Ready { .. } | NodeState::Failed | NodeState::Removed)
                    .then(|| Duration::from_millis(*at));
                row.state = state.clone();
                detail.clone_into(&mut row.detail);
            }
            Event::Expected { .. } | Event::Warning { .. } | Event::Ready { .. } => {}
        }
    }
}

/// A node's state in one word.
pub fn word(state: &NodeState) -> &'static str {
    match state {
        NodeState::Waiting { .. } => "waiting",
        NodeState::Building => "building",
        NodeState::Applying => "applying",
        NodeState::Starting => "starting",
        NodeState::Ready { unchanged: true } => "unchanged",
        NodeState::Ready { unchanged: false } => "ready",
        NodeState::Failed => "failed",
        NodeState::Removing => "removing",
        NodeState::Removed => "removed",
    }
}

/// What a node waits for, or what is happening to it.
pub fn doing(state: &NodeState, detail: &str) -> String {
    match state {
        NodeState::Waiting { needs } if !needs.is_empty() && detail.is_empty() => {
            let names: Vec<_> = needs.iter().map(ToString::to_string).collect();
            format!("for {}", names.join(", "))
        }
        _ => detail.to_owned(),
    }
}

/// An event as one line.
pub fn line(event: &Event) -> String {
    let (at, text) = match event {
        Event::ClusterReady { cluster, at } => (at, format!("cluster {cluster}: reachable")),
        Event::BuildStarted { command, image, at } => (at, format!("image {image}: building: {command}")),
        Event::ClusterProgress { doing, at } => (at, format!("cluster: {doing}")),
        Event::ImageProgress { image, doing, at } => (at, format!("image {image}: {doing}")),
        Event::BuildFinished { command, at, took } => {
            (at, format!("built in {}: {command}", human(Duration::from_millis(*took))))
        }
        Event::Node { node, state, detail, at } => {
            let doing = doing(state, detail);
            let doing = if doing.is_empty() { doing } else { format!(" ({doing})") };
            (at, format!("{} {node}: {}{doing}", node.kind.word(), word(state)))
        }
        Event::Expected { node, addresses, environment, command, at } => {
            let place = if addresses.is_empty() { String::new() } else { format!(" on {}", addresses.join(", ")) };
            let command = if command.is_empty() { "COMMAND" } else { command };
            let environment = environment.display();
            (at, format!("service {node}: expected{place}; run it, for example: . '{environment}' && {command}"))
        }
        Event::Warning { node: Some(node), message, at } => (at, format!("warning: {node}: {message}")),
        Event::Warning { node: None, message, at } => (at, format!("warning: {message}")),
        Event::Ready { at } => (at, "everything is ready".to_owned()),
    };
    format!("[{:>8.3}s] {text}", Duration::from_millis(*at).as_secs_f64())
}

/// How events are shown.
#[derive(Debug)]
pub enum Display {
    /// Redrawn in place.
    Live {
        /// What is drawn.
        model: Model,
        /// What is on the screen now.
        screen: live::Screen,
    },
    /// A line an event.
    Lines,
}

impl Display {
    /// As the output allows.
    pub fn new(out: &Output, title: &str, nodes: impl Iterator<Item = NodeId>) -> Self {
        if out.live() {
            Self::Live { model: Model::new(title, nodes), screen: live::Screen::new(out) }
        } else {
            Self::Lines
        }
    }

    /// Shows an event.
    pub fn event(&mut self, out: &mut Output, event: &Event) {
        match self {
            Self::Live { model, screen } => {
                if let Event::Warning { .. } | Event::Expected { .. } = event {
                    screen.above(out, model, &line(event));
                }
                model.happened(event, Instant::now());
                screen.draw(out, model);
            }
            Self::Lines => out.say(line(event)),
        }
    }

    /// Shows that time has passed.
    pub fn tick(&mut self, out: &mut Output) {
        if let Self::Live { model, screen } = self {
            screen.draw(out, model);
        }
    }

    /// Shows a sentence.
    pub fn say(&mut self, out: &mut Output, text: &str) {
        match self {
            Self::Live { model, screen } => screen.above(out, model, text),
            Self::Lines => out.say(text),
        }
    }

    /// Leaves the last picture where it is; what follows goes below it.
    pub fn close(&mut self) {
        if let Self::Live { screen, .. } = self {
            screen.close();
        }
    }
}
