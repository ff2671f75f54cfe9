//! `receivers.py` as a process, and certificates for it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use crate::require::require;

/// A receiver that ends when it is dropped.
pub struct Receiver {
    child: Child,
    lines: BufReader<ChildStdout>,
    pub port: u16,
}

impl Receiver {
    /// For HTTP, which any Python can.
    pub fn start(kind: &str, tls: Option<(&Path, &Path)>) -> Option<Self> {
        Self::start_with(Path::new("python3"), kind, tls)
    }

    pub fn start_with(python: &Path, kind: &str, tls: Option<(&Path, &Path)>) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/notify/receivers.py");
        let mut command = Command::new(python);
        command.arg(script).arg(kind).args(tls.iter().flat_map(|(certificate, key)| [certificate, key]));
        // It tells of refused handshakes with its whole stack.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        if !require(child.is_ok(), "python3") {
            return None;
        }
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        lines.read_line(&mut port).unwrap();
        Some(Self { child, lines, port: port.trim().parse().unwrap() })
    }

    /// The next thing that it received.
    pub fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// It received nothing else.
    pub fn has_no_more(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.lines.read_line(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

/// A Python that has aiosmtpd: Debian's, or a virtual environment with the package index's.
pub fn aiosmtpd() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON.get_or_init(find_aiosmtpd).clone()
}

fn find_aiosmtpd() -> Option<PathBuf> {
    let has = |python: &Path| {
        let asked = Command::new(python).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let known = ["/usr/bin/python3", "python3"].into_iter().map(PathBuf::from).find(|python| has(python));
    let python = known.unwrap_or_else(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aiosmtpd");
        let python = home.join("bin/python");
        if !has(&python) {
            let _without = Command::new("python3").args(["-m", "venv"]).arg(&home).output();
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "aiosmtpd"]);
            let _told_below = pip.output();
        }
        python
    });
    require(has(&python), "aiosmtpd (Debian: python3-aiosmtpd)").then_some(python)
}

/// A certificate authority that nobody trusts who isn't told to.
pub struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub root: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let root = directory.path().join("root.pem");
        fs::write(&root, issuer.pem()).unwrap();
        Self { directory, issuer, root }
    }

    /// Certificate and key for a server of this name.
    pub fn certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let paths = (self.directory.path().join("certificate.pem"), self.directory.path().join("key.pem"));
        fs::write(&paths.0, certificate.pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}
