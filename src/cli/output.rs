//! The only writer to stdout and stderr: data goes to stdout, everything else to stderr.
//!
//! A closed stdout (`envctl logs | head`) ends the process quietly instead of panicking.

use std::io::{self, IsTerminal, Write};
use std::time::SystemTime;

use console::Style;

use crate::cli::exit::Exit;
use crate::error::Error;
use crate::redact::{Redactor, Shared};
use crate::session::state::SessionDirectory;

/// What `-o` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables and sentences for people.
    #[default]
    Text,
    /// One versioned JSON document.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names only, one a line.
    Name,
    /// Kubernetes YAML (`envctl config`).
    Objects,
}

/// Where a verb's words go.
#[derive(Debug)]
pub struct Output {
    /// What `-o` asked for.
    pub format: Format,
    colour_out: bool,
    colour_err: bool,
    live: bool,
    hidden: Shared,
    /// When the keys were written that [`Output::hide_new`] knows.
    keys_of: Option<SystemTime>,
}

impl Output {
    /// For this process: colours and live tables only on a terminal, colours not under `NO_COLOR`.
    pub fn new(format: Format) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            format,
            colour_out: wanted && out && !dumb,
            colour_err: wanted && err && !dumb,
            live: err && !dumb,
            hidden: Shared::default(),
            keys_of: None,
        }
    }

    /// From now on, without the keys of this session: everything on stderr, and on stdout what a verb passes through
    /// [`Output::hidden`]. Keys that cannot be read are told where they are asked for.
    pub fn hide(&self, directory: &SessionDirectory) {
        if let Ok(redactor) = directory.redactor() {
            self.hidden.set(redactor);
        }
    }

    /// The same again where keys were issued since.
    pub fn hide_new(&mut self, directory: &SessionDirectory) {
        let written = std::fs::metadata(directory.keys_path()).and_then(|file| file.modified()).ok();
        if written != self.keys_of {
            self.keys_of = written;
            self.hide(directory);
        }
    }

    /// Another one with the same keys hidden.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self { hidden: self.hidden.clone(), ..*self }
    }

    /// Takes the session's keys out of what is shown.
    pub fn hidden(&self) -> Redactor {
        self.hidden.get()
    }

    /// Whether stderr takes colours.
    pub fn colours(&self) -> bool {
        self.colour_err
    }

    /// Whether stderr can be redrawn.
    pub fn live(&self) -> bool {
        self.live
    }

    /// Writes a line of data to stdout.
    pub fn data(&mut self, line: impl AsRef<str>) {
        self.bytes(format!("{}\n", line.as_ref()).as_bytes());
    }

    /// Writes bytes of data to stdout as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        quiet_if_closed(stdout.write_all(bytes).and_then(|()| stdout.flush()));
    }

    /// Writes a document to stdout in the format asked for (`text` and `name` give JSON too: the verb prints those itself).
    ///
    /// # Errors
    /// When it cannot be serialized.
    pub fn document<T: serde::Serialize>(&mut self, document: &T) -> Result<(), Error> {
        let text = match self.format {
            Format::Yaml => serde_yaml::to_string(document).map_err(|error| io::Error::other(error.to_string())),
            Format::Json | Format::Text | Format::Name | Format::Objects => {
                serde_json::to_string_pretty(document).map_err(io::Error::other)
            }
        }
        .map_err(Error::io("write the result"))?;
        self.data(text.trim_end());
        Ok(())
    }

    /// Writes a line for people to stderr.
    pub fn say(&mut self, line: impl AsRef<str>) {
        self.raw_err(&format!("{}\n", line.as_ref()));
    }

    /// Writes text to stderr as it is. A stderr that is gone is no reason to fail.
    pub fn raw_err(&mut self, text: &str) {
        self.bytes_err(self.hidden().text(text).as_bytes());
    }

    /// Writes bytes to stderr as they are.
    pub fn bytes_err(&mut self, bytes: &[u8]) {
        let mut stderr = io::stderr().lock();
        let _gone = stderr.write_all(bytes).and_then(|()| stderr.flush());
    }

    /// A `hint:` line.
    pub fn hint(&mut self, hint: &str) {
        let label = self.err_style(Style::new().cyan().bold()).apply_to("hint:").to_string();
        self.say(format!("{label} {hint}"));
    }

    /// A `warning:` line.
    pub fn warn(&mut self, what: &str) {
        let label = self.err_style(Style::new().yellow().bold()).apply_to("warning:").to_string();
        self.say(format!("{label} {what}"));
    }

    /// Prints a failure and its hint.
    pub fn error(&mut self, error: &Error) {
        if let Error::Report { text, .. } = error {
            self.say(text);
            return;
        }
        let label = self.err_style(Style::new().red().bold()).apply_to("error:").to_string();
        self.say(format!("{label} {error}"));
        if let Some(hint) = error.hint() {
            self.hint(&hint);
        }
    }

    /// A style that only shows where stderr takes colours.
    pub fn err_style(&self, style: Style) -> Style {
        style.force_styling(self.colour_err)
    }

    /// A style that only shows where stdout takes colours.
    pub fn out_style(&self, style: Style) -> Style {
        style.force_styling(self.colour_out)
    }

    /// Prints rows under headings, columns aligned, to stdout.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) {
        for line in aligned(headings, rows) {
            self.data(line);
        }
    }
}

/// Columns padded to their widest cell, three spaces between, no trailing blanks.
pub fn aligned(headings: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(console::measure_text_width(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width + 3 - console::measure_text_width(cell).min(*width)));
        }
        text.trim_end().to_owned()
    };
    std::iter::once(line(&mut headings.iter().copied()))
        .chain(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))))
        .collect()
}

fn quiet_if_closed(written: io::Result<()>) {
    if let Err(error) = written {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Ok } else { Exit::Failed };
        if exit == Exit::Failed {
            let _gone = writeln!(io::stderr(), "error: cannot write to standard output: {error}");
        }
        std::process::exit(i32::from(exit.code()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_without_trailing_blanks() {
        let rows = vec![vec!["api".into(), "ready".into()], vec!["database".into(), "-".into()]];
        assert_eq!(aligned(&["NAME", "STATE"], &rows), ["NAME       STATE", "api        ready", "database   -"]);
    }
}
