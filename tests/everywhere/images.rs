//! Images made on this machine: nothing can be pulled.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::hello;

/// What Dockerfiles start from, as `BASE_IMAGE`.
pub const BASE: &str = "envctl.test/base:1";

/// This machine's, as images name it.
const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// An archive in the form of `docker save`, in a directory that goes with it.
pub struct Archive {
    directory: tempfile::TempDir,
}

impl Archive {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("image.tar")
    }
}

/// `tests/cluster/run`.
fn run() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/run"))
}

/// The demo platform and the libraries it needs.
pub fn platform(name: &str) -> Archive {
    hello::build("platform");
    let archive = Archive::new();
    let mut make = run();
    make.args(["image", "--entrypoint", "/usr/bin/platform", "--name", name, "--file"]);
    make.arg(hello::directory().join("platform")).arg("--output").arg(archive.path());
    assert!(make.status().expect("it runs").success(), "the image is made");
    archive
}

/// Debian with PostgreSQL, Python and the codespace's packages.
pub struct Base(PathBuf);

impl Base {
    /// Made once per machine (`base`).
    pub fn codespace() -> Self {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let base = Command::new(project.join("tests/everywhere/base"))
            .arg(project.join("examples/codespace/requirements.txt"))
            .stderr(Stdio::inherit())
            .output()
            .expect("the script runs");
        assert!(base.status.success(), "the base is made");
        Self(PathBuf::from(String::from_utf8(base.stdout).expect("UTF-8").trim_end()))
    }

    /// The archive of its files.
    pub fn root(&self) -> PathBuf {
        self.0.join("root.tar")
    }

    /// The images that examples/codespace/Dockerfile makes of it.
    pub fn images(&self) -> Archive {
        let digest = std::fs::read_to_string(self.0.join("digest")).expect("written with the root");
        let project = project();
        let layers =
            [digest.trim().to_owned(), hex(&Sha256::digest(&project))].map(|digest| format!("sha256:{digest}"));
        let image = |name: &str, entrypoint: &str| {
            let configuration = json!({
                "architecture": ARCHITECTURE, "os": "linux", "rootfs": { "type": "layers", "diff_ids": layers },
                "config": {
                    "WorkingDir": "/srv", "Entrypoint": [entrypoint],
                    "Env": ["PATH=/srv/venv/bin:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH=examples/codespace", "PYTHONUNBUFFERED=1"],
                },
            });
            let file = format!("{name}.json");
            let listed = json!({ "Config": file, "RepoTags": [format!("{name}:latest")], "Layers": ["root.tar", "project.tar"] });
            (file, configuration, listed)
        };
        let images = [image("postgres", "examples/codespace/bin/postgres"), image("codespace", "python")];
        let archive = Archive::new();
        let mut whole = tar::Builder::new(File::create(archive.path()).expect("a file"));
        let mut add = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            whole.append_data(&mut header, name, content).expect("written");
        };
        for (file, configuration, _) in &images {
            add(file, configuration.to_string().as_bytes());
        }
        add("manifest.json", Value::from_iter(images.map(|(.., listed)| listed)).to_string().as_bytes());
        add("project.tar", &project);
        whole.append_path_with_name(self.root(), "root.tar").expect("written");
        whole.finish().expect("written");
        archive
    }
}

/// What is copied from examples/codespace.
fn project() -> Vec<u8> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/codespace");
    let mut layer = tar::Builder::new(Vec::new());
    for name in ["bin", "codespace", "serving"] {
        layer.append_dir_all(Path::new("srv/examples/codespace").join(name), from.join(name)).expect("read");
    }
    for name in ["manage.py", "model.py"] {
        let to = Path::new("srv/examples/codespace").join(name);
        layer.append_path_with_name(from.join(name), to).expect("read");
    }
    layer.into_inner().expect("finished")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
