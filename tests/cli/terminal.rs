//! On a real terminal: the live table, colours, `exec -it`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::fcntl::{OFlag, open};
use nix::pty::{Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;

use super::context::Context;

/// A program on a terminal of its own.
struct Terminal {
    master: File,
    child: Child,
    seen: String,
}

fn set_size(terminal: &impl AsRawFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one winsize.
    let set = unsafe { nix::libc::ioctl(terminal.as_raw_fd(), nix::libc::TIOCSWINSZ, &size) };
    assert_eq!(set, 0);
}

impl Terminal {
    fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        // Closed in what other tests start meanwhile: whoever has it open keeps it from ending.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = open(ptsname_r(&master).unwrap().as_str(), flags, Mode::empty()).unwrap();
        set_size(&master, rows, columns);
        let stream = || std::process::Stdio::from(slave.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(stream()).stdout(stream()).stderr(stream());
        // SAFETY: setsid and ioctl are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        drop(command);
        Self { master: OwnedFd::from(master).into(), child, seen: String::new() }
    }

    /// Reads until it shows `words`.
    fn until(&mut self, words: &str) {
        while !self.seen.contains(words) {
            assert!(self.read(), "never showed {words:?}: {:?}", self.seen);
        }
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        // EIO: the last one on the other side has gone.
        let count = self.master.read(&mut bytes).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }

    fn end(mut self) -> (Option<i32>, String) {
        while self.read() {}
        (self.child.wait().unwrap().code(), self.seen)
    }

    fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.master, rows, columns);
    }
}

fn serving() -> Context {
    let context = Context::new();
    context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", "    ready: { exec: [\"true\"] }\n");
    context
}

/// Escape sequences that set colours or weight.
fn is_coloured(text: &str) -> bool {
    text.split("\x1b[")
        .skip(1)
        .any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
}

#[test]
fn up_draws_a_table_in_place() {
    let context = serving();
    let (code, seen) = Terminal::start(context.command(&["up"]), 24, 80).end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("\x1b[?2026h") && seen.contains("✓") && is_coloured(&seen), "{seen:?}");
    assert!(seen.contains("demo is ready in "), "{seen:?}");
    // Nothing of the lines for elsewhere.
    assert!(!seen.contains("service web: ready"), "{seen:?}");
    let (code, seen) = Terminal::start(context.command(&["ps"]), 24, 80).end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("NAME   KIND"), "{seen:?}");
}

#[test]
fn no_color_is_respected() {
    let context = serving();
    let mut command = context.command(&["up"]);
    command.env("NO_COLOR", "1");
    let (code, seen) = Terminal::start(command, 24, 80).end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("\x1b[?2026h") && seen.contains("✓") && !is_coloured(&seen), "{seen:?}");
    let mut command = context.command(&["doctor"]);
    command.env("NO_COLOR", "1");
    let (_, seen) = Terminal::start(command, 24, 80).end();
    assert!(!is_coloured(&seen), "{seen:?}");
}

#[test]
fn ctrl_c_on_a_terminal_takes_the_session_down() {
    let context = Context::new();
    context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", "    ready: { exec: [\"false\"] }\n");
    let mut terminal = Terminal::start(context.command(&["up"]), 24, 80);
    terminal.until("0 of 1 ready");
    terminal.master.write_all(b"\x03").unwrap();
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(130), "{seen}");
    assert!(seen.contains("the session was removed"), "{seen:?}");
    assert_eq!(context.processes(), Vec::<String>::new());
}

#[test]
fn exec_on_a_terminal_follows_its_size_and_keys() {
    let context = serving();
    assert_eq!(context.run(&["up"]).code, Some(0));
    let script = "trap 'stty size' WINCH; trap 'echo interrupted; exit 5' INT
        test -t 0 && test -t 1 && echo on a terminal
        stty size; while :; do sleep 1000 & wait; done";
    let command = context.command(&["exec", "-it", "web", "--", "sh", "-c", script]);
    let mut terminal = Terminal::start(command, 33, 77);
    terminal.until("on a terminal");
    terminal.until("33 77");
    terminal.resize(50, 132);
    terminal.until("50 132");
    // A key, not a signal to the command line: its terminal is raw.
    terminal.master.write_all(b"\x03").unwrap();
    terminal.until("interrupted");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(5), "{seen:?}");
}
