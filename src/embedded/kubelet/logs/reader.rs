//! Reads a run's log: tail, since, limit, follow.
//!
//! Options and their meaning follow upstream's `cri-client/pkg/logs/logs.go` (`ReadLogs`).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::line::parse;
use super::rotated;
use super::writer::Progress;

/// What of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Keep going until the container ends.
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail_lines: Option<u64>,
    /// Only lines not older than this.
    pub since: Option<Timestamp>,
    /// Put each line's time before it.
    pub timestamps: bool,
    /// End after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// A log to read.
#[derive(Debug, Clone)]
pub struct Target {
    /// The run's file.
    pub path: PathBuf,
    /// How its writer tells of more; `None` when the run has ended.
    pub progress: Option<watch::Receiver<Progress>>,
}

/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

/// Sends the log to `output`, until its end, the limit, or the receiver is gone.
///
/// # Errors
/// When a file cannot be read; a follower that is outrun by more than one rotation misses what was rotated away.
pub async fn read(target: Target, options: Options, output: mpsc::Sender<Bytes>) -> io::Result<()> {
    let Target { path, mut progress } = target;
    let mut generation = progress.as_mut().map(|progress| progress.borrow_and_update().generation);
    let mut printer = Printer::new(&options);
    let older = rotated(&path);
    let (mut skip_older, mut skip) = (0, 0);
    let mut read_older = older.exists();
    if let Some(lines) = options.tail_lines {
        let (start, found) = tail_start(&path, lines)?;
        skip = start;
        if found >= lines {
            read_older = false;
        } else if read_older {
            skip_older = tail_start(&older, lines - found)?.0;
        }
    }
    if read_older {
        let mut file = open_at(&older, skip_older)?;
        if !drain(&mut file, &mut printer, &output).await? {
            return Ok(());
        }
    }
    let mut file = open_at(&path, skip)?;
    loop {
        if !drain(&mut file, &mut printer, &output).await? {
            return Ok(());
        }
        let Some(progress) = progress.as_mut().filter(|_| options.follow) else { break };
        let ended = progress.has_changed().is_err();
        let seen = progress.borrow_and_update().generation;
        if Some(seen) != generation {
            // What was written to the old file between our last read and its rotation.
            if !drain(&mut file, &mut printer, &output).await? {
                return Ok(());
            }
            file = open_at(&path, 0)?;
            generation = Some(seen);
            continue;
        }
        if ended {
            // The writer may have written between our last read and its end.
            drain(&mut file, &mut printer, &output).await?;
            break;
        }
        tokio::select! {
            _ = progress.changed() => {}
            () = output.closed() => return Ok(()),
        }
    }
    Ok(())
}

fn open_at(path: &Path, at: u64) -> io::Result<File> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    Ok(file)
}

/// Sends on what is there. False when nobody wants more.
async fn drain(file: &mut File, printer: &mut Printer, output: &mpsc::Sender<Bytes>) -> io::Result<bool> {
    loop {
        let mut text = Vec::new();
        let count = printer.read_chunk(file, &mut text)?;
        if !text.is_empty() && output.send(Bytes::from(text)).await.is_err() {
            return Ok(false);
        }
        if printer.done() {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// Turns the file's bytes into what the client asked for. Holds an unfinished line back.
#[derive(Debug)]
struct Printer {
    since: Option<Timestamp>,
    timestamps: bool,
    left: Option<u64>,
    carry: Vec<u8>,
    /// Whether the next content begins a line (after a part, it doesn't).
    at_start: bool,
}

impl Printer {
    fn new(options: &Options) -> Self {
        Self {
            since: options.since,
            timestamps: options.timestamps,
            left: options.limit_bytes,
            carry: Vec::new(),
            at_start: true,
        }
    }

    fn done(&self) -> bool {
        self.left == Some(0)
    }

    fn read_chunk(&mut self, file: &mut File, output: &mut Vec<u8>) -> io::Result<usize> {
        let held = self.carry.len();
        self.carry.resize(held + CHUNK, 0);
        let count = file.read(&mut self.carry[held..])?;
        self.carry.truncate(held + count);
        let carry = std::mem::take(&mut self.carry);
        let mut rest = carry.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            self.print(&rest[..at], output);
            rest = &rest[at + 1..];
        }
        self.carry = rest.to_vec();
        Ok(count)
    }

    fn print(&mut self, raw: &[u8], output: &mut Vec<u8>) {
        let Some(line) = parse(raw) else { return };
        if let Some(since) = self.since {
            let at: Option<Timestamp> = std::str::from_utf8(line.timestamp).ok().and_then(|text| text.parse().ok());
            if at.is_some_and(|at| at < since) {
                return;
            }
        }
        let before = output.len();
        if self.timestamps && self.at_start {
            output.extend_from_slice(line.timestamp);
            output.push(b' ');
        }
        output.extend_from_slice(line.content);
        if !line.partial {
            output.push(b'\n');
        }
        self.at_start = !line.partial;
        if let Some(left) = &mut self.left {
            let allowed = usize::try_from(*left).unwrap_or(usize::MAX);
            output.truncate(before.saturating_add(allowed));
            *left -= (output.len() - before) as u64;
        }
    }
}

/// Where the last `lines` lines begin, and how many there are at most that many.
fn tail_start(path: &Path, lines: u64) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    if lines == 0 {
        return Ok((end, 0));
    }
    let mut found = 0;
    let mut position = end;
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let size = position.min(CHUNK as u64);
        position -= size;
        file.seek(SeekFrom::Start(position))?;
        let part = &mut buffer[..usize::try_from(size).unwrap_or(CHUNK)];
        file.read_exact(part)?;
        for at in (0..part.len()).rev() {
            // The newline at the very end closes the last line, it doesn't begin one.
            if part[at] == b'\n' && position + at as u64 + 1 < end {
                found += 1;
                if found == lines {
                    return Ok((position + at as u64 + 1, found));
                }
            }
        }
    }
    Ok((0, found + u64::from(end > 0)))
}

#[cfg(test)]
mod tests {
    use super::super::line::Source;
    use super::super::writer::Writer;
    use super::*;

    async fn collect(mut from: mpsc::Receiver<Bytes>) -> String {
        let mut text = Vec::new();
        while let Some(bytes) = from.recv().await {
            text.extend_from_slice(&bytes);
        }
        String::from_utf8(text).unwrap()
    }

    async fn all(path: &Path, options: Options) -> String {
        let (send, receive) = mpsc::channel(4);
        let target = Target { path: path.to_owned(), progress: None };
        let (result, text) = tokio::join!(read(target, options, send), collect(receive));
        result.unwrap();
        text
    }

    #[tokio::test]
    async fn tail_limit_since_timestamps() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c/0.log");
        let mut log = Writer::create(path.clone(), 0).unwrap();
        log.write(Source::Stdout, b"one\ntwo\n").unwrap();
        log.write(Source::Stderr, b"three\nfo").unwrap();
        log.finish(Source::Stderr).unwrap();
        assert_eq!(all(&path, Options::default()).await, "one\ntwo\nthree\nfo");
        for (lines, expected) in
            [(0, ""), (1, "fo"), (2, "three\nfo"), (4, "one\ntwo\nthree\nfo"), (9, "one\ntwo\nthree\nfo")]
        {
            assert_eq!(
                all(&path, Options { tail_lines: Some(lines), ..Options::default() }).await,
                expected,
                "{lines}"
            );
        }
        assert_eq!(all(&path, Options { limit_bytes: Some(6), ..Options::default() }).await, "one\ntw");
        let future = Timestamp::now().checked_add(k8s_openapi::jiff::Span::new().hours(1)).unwrap();
        assert_eq!(all(&path, Options { since: Some(future), ..Options::default() }).await, "");
        let stamped = all(&path, Options { timestamps: true, tail_lines: Some(1), ..Options::default() }).await;
        assert!(stamped.ends_with("Z fo"), "{stamped}");
    }

    #[tokio::test]
    async fn follows_through_rotation_until_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c/0.log");
        let mut log = Writer::create(path.clone(), 0).unwrap().with_max_file(200);
        log.write(Source::Stdout, b"first\n").unwrap();
        let (send, mut receive) = mpsc::channel(1);
        let target = Target { path: path.clone(), progress: Some(log.progress()) };
        let reading = tokio::spawn(read(target, Options { follow: true, ..Options::default() }, send));
        assert_eq!(receive.recv().await.unwrap(), "first\n");
        let mut expected = String::new();
        let mut seen = String::new();
        for at in 0..20 {
            let line = format!("line {at}\n");
            log.write(Source::Stdout, line.as_bytes()).unwrap();
            expected.push_str(&line);
            // The reader is never more than one rotation behind.
            while seen.len() < expected.len() {
                seen.push_str(std::str::from_utf8(&receive.recv().await.unwrap()).unwrap());
            }
        }
        assert_eq!(seen, expected);
        assert!(rotated(&path).exists());
        log.write(Source::Stdout, b"last\n").unwrap();
        drop(log);
        assert_eq!(receive.recv().await.unwrap(), "last\n");
        assert_eq!(receive.recv().await, None);
        reading.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn old_runs_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for run in 0..3 {
            Writer::create(directory.path().join(format!("c/{run}.log")), run).unwrap();
        }
        let mut names: Vec<_> =
            std::fs::read_dir(directory.path().join("c")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["1.log", "2.log"]);
    }
}
