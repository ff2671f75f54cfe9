//! A container's last words.

use std::path::Path;

use super::super::logs::line::parse;

/// Upstream's `MaxContainerTerminationMessageLength` and its `…LogLength`, `…LogLines`.
const MAX_MESSAGE: usize = 4096;
const MAX_LOG: usize = 2048;
const MAX_LOG_LINES: usize = 80;

/// The termination message: the file's end, or with `FallbackToLogsOnError` the log's, if it failed and said nothing
/// (`kuberuntime_container.go`, `getTerminationMessage`).
pub fn last_words(file: &Path, log: &Path, fall_back: bool, failed: bool) -> Option<String> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let message = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MAX_MESSAGE)..]).into_owned();
    if !message.is_empty() || !fall_back || !failed {
        return Some(message).filter(|message| !message.is_empty());
    }
    let length = std::fs::metadata(log).ok()?.len();
    let mut tail = Vec::new();
    let mut open = std::fs::File::open(log).ok()?;
    // Every line carries at most some forty bytes of its own besides its text.
    std::io::Seek::seek(&mut open, std::io::SeekFrom::Start(length.saturating_sub(64 * 1024))).ok()?;
    std::io::Read::read_to_end(&mut open, &mut tail).ok()?;
    let lines: Vec<&[u8]> = tail.split(|byte| *byte == b'\n').collect();
    let mut text = String::new();
    for line in lines[lines.len().saturating_sub(MAX_LOG_LINES + 1)..].iter().filter_map(|line| parse(line)) {
        text.push_str(&String::from_utf8_lossy(line.content));
        if !line.partial {
            text.push('\n');
        }
    }
    let mut start = text.len().saturating_sub(MAX_LOG);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    Some(text[start..].to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_the_file_or_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let (file, log) = (directory.path().join("t"), directory.path().join("l"));
        std::fs::write(
            &log,
            "2026-01-01T00:00:00.000000000Z stderr F boom\n2026-01-01T00:00:00.000000000Z stderr P tail\n",
        )
        .unwrap();
        assert_eq!(last_words(&file, &log, false, true), None);
        assert_eq!(last_words(&file, &log, true, false), None);
        assert_eq!(last_words(&file, &log, true, true).as_deref(), Some("boom\ntail"));
        std::fs::write(&file, "because").unwrap();
        assert_eq!(last_words(&file, &log, true, true).as_deref(), Some("because"));
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        assert_eq!(last_words(&file, &log, true, true).unwrap().len(), 4096);
    }
}
