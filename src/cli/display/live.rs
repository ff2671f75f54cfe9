//! The live table: one line per node, drawn over the last picture in one write, so that nothing flickers.
//!
//! Only what changed is written: each picture is a list of lines, and a line that is as it was is skipped.
//! A picture never has more lines than the terminal, or moving the cursor up would not reach its start.

use std::fmt::Write as _;
use std::time::Instant;

use console::Style;

use super::super::duration::human;
use super::super::output::Output;
use super::{Model, Row, doing, word};
use crate::provision::NodeState;

/// What the terminal shows of us.
#[derive(Debug)]
pub struct Screen {
    drawn: Vec<String>,
    began: Instant,
}

/// How much room there is.
#[derive(Debug, Clone, Copy)]
struct Room {
    lines: usize,
    columns: usize,
}

impl Screen {
    /// Nothing drawn yet.
    pub fn new(_out: &Output) -> Self {
        Self { drawn: Vec::new(), began: Instant::now() }
    }

    /// Draws the picture over the last one.
    pub fn draw(&mut self, out: &mut Output, model: &Model) {
        let picture = picture(model, Instant::now(), self.began, room(), out);
        out.raw_err(&difference(&self.drawn, &picture));
        self.drawn = picture;
    }

    /// Writes a line above the picture, where it scrolls away.
    pub fn above(&mut self, out: &mut Output, model: &Model, line: &str) {
        let picture = picture(model, Instant::now(), self.began, room(), out);
        let mut text = String::new();
        if !self.drawn.is_empty() {
            let _infallible = write!(text, "\x1b[{}A\r\x1b[J", self.drawn.len());
        }
        let _infallible = writeln!(text, "{line}");
        text.push_str(&difference(&[], &picture));
        out.raw_err(&text);
        self.drawn = picture;
    }

    /// Leaves the picture; the cursor is below it already.
    pub fn close(&mut self) {
        self.drawn.clear();
    }
}

fn room() -> Room {
    let (lines, columns) = console::Term::stderr().size();
    Room { lines: usize::from(lines).max(4), columns: usize::from(columns).max(20) }
}

/// The bytes that turn one picture into the other. The cursor is below the picture before and after.
fn difference(old: &[String], new: &[String]) -> String {
    if old == new {
        return String::new();
    }
    // The terminal shows what is between these two at once, if it knows them; others ignore them.
    let mut text = "\x1b[?2026h".to_owned();
    if !old.is_empty() {
        let _infallible = write!(text, "\x1b[{}A\r", old.len());
    }
    for (index, line) in new.iter().enumerate() {
        if old.get(index) == Some(line) {
            text.push('\n');
        } else {
            let _infallible = writeln!(text, "{line}\x1b[K");
        }
    }
    if new.len() < old.len() {
        text.push_str("\x1b[J");
    }
    text.push_str("\x1b[?2026l");
    text
}

fn picture(model: &Model, now: Instant, began: Instant, room: Room, out: &Output) -> Vec<String> {
    let elapsed = human(now.saturating_duration_since(began));
    let note = if model.note.is_empty() { "starting the cluster" } else { &model.note };
    let bold = out.err_style(Style::new().bold());
    let mut lines = vec![fit(&format!("{}  {elapsed}  {note}", bold.apply_to(&model.title)), room.columns)];
    let width = model.rows.iter().map(|row| console::measure_text_width(&row.node.name)).max().unwrap_or(0);
    // One for the title, one for the cursor's own line.
    let space = room.lines - 2;
    let shown: Vec<&Row> = if model.rows.len() <= space {
        model.rows.iter().collect()
    } else {
        // What is done needs no watching.
        model.rows.iter().filter(|row| !row.state.is_ready()).take(space - 1).collect()
    };
    let hidden = model.rows.len() - shown.len();
    for row in shown {
        lines.push(fit(&row_line(row, now, width, out), room.columns));
    }
    if hidden > 0 {
        let ready = model.rows.iter().filter(|row| row.state.is_ready()).count();
        lines.push(fit(&format!("  … {hidden} more, {ready} of {} ready", model.rows.len()), room.columns));
    }
    lines
}

fn row_line(row: &Row, now: Instant, width: usize, out: &Output) -> String {
    let (mark, style) = match row.state {
        NodeState::Waiting { .. } => ("·", Style::new().dim()),
        NodeState::Building | NodeState::Applying | NodeState::Starting | NodeState::Removing => {
            ("•", Style::new().yellow())
        }
        NodeState::Ready { .. } => ("✓", Style::new().green()),
        NodeState::Failed => ("✗", Style::new().red().bold()),
        NodeState::Removed => ("-", Style::new().dim()),
    };
    let style = out.err_style(style);
    let time = match (row.done_at, row.since) {
        (Some(at), _) => human(at),
        (None, Some(since)) => human(now.saturating_duration_since(since)),
        (None, None) => String::new(),
    };
    let name = &row.node.name;
    let pad = width - console::measure_text_width(name).min(width);
    let state = word(&row.state);
    let doing = doing(&row.state, &row.detail);
    // A detail may be an error of several lines; the table has one.
    let doing = doing.split_whitespace().collect::<Vec<_>>().join(" ");
    format!(
        "  {} {name}{:pad$}  {}  {time:>6}  {doing}",
        style.apply_to(mark),
        "",
        style.apply_to(format!("{state:<9}"))
    )
    .trim_end()
    .to_owned()
}

/// Cut to the terminal's width: a wrapped line would take two.
fn fit(line: &str, columns: usize) -> String {
    console::truncate_str(line, columns - 1, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;
    use crate::plan::{NodeId, NodeKind};
    use crate::provision::Event;
    use std::time::Duration;

    fn service(name: &str) -> NodeId {
        NodeId::new(NodeKind::Service, name)
    }

    fn model() -> (Model, Instant) {
        let began = Instant::now();
        let mut model = Model::new("platform", [service("db"), service("api"), service("worker")].into_iter());
        let at = |milliseconds| began + Duration::from_millis(milliseconds);
        model.happened(&Event::ClusterReady { cluster: "embedded".to_owned(), at: 40 }, at(40));
        let node = |name: &str, state, detail: &str, at| Event::Node {
            node: service(name),
            state,
            detail: detail.to_owned(),
            at,
        };
        model.happened(
            &node("worker", NodeState::Waiting { needs: vec![service("db"), service("api")] }, "", 41),
            at(41),
        );
        model.happened(&node("api", NodeState::Starting, "0 of 2 ready:\n  connection refused", 100), at(100));
        model.happened(&node("db", NodeState::Ready { unchanged: false }, "", 350), at(350));
        (model, began)
    }

    #[test]
    fn a_line_says_what_a_node_waits_for_and_for_how_long() {
        let (model, began) = model();
        let out = Output::new(Format::Text);
        let lines = picture(&model, began + Duration::from_millis(2100), began, Room { lines: 24, columns: 80 }, &out);
        insta::assert_snapshot!(lines.join("\n"), @r"
        platform  2.1s  embedded
          ✓ db      ready        0.3s
          • api     starting     2.0s  0 of 2 ready: connection refused
          · worker  waiting      2.1s  for db, api
        ");
    }

    #[test]
    fn a_small_terminal_shows_what_is_not_done_and_no_line_wraps() {
        let (mut model, began) = model();
        model.rows[2].detail = "x".repeat(200);
        let out = Output::new(Format::Text);
        let lines = picture(&model, began, began, Room { lines: 4, columns: 30 }, &out);
        assert!(lines.len() <= 3, "{lines:?}");
        assert!(lines.iter().all(|line| console::measure_text_width(line) < 30), "{lines:?}");
        assert!(lines[1].contains("api"), "{lines:?}");
        assert!(lines[2].contains("2 more, 1 of 3 ready"), "{lines:?}");
    }

    #[test]
    fn only_changed_lines_are_written_again() {
        let old = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let new = ["a".to_owned(), "B".to_owned()];
        assert_eq!(difference(&old, &old), "");
        assert_eq!(difference(&old, &new), "\x1b[?2026h\x1b[3A\r\nB\x1b[K\n\x1b[J\x1b[?2026l");
    }
}
