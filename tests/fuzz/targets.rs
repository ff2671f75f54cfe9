//! What must never fail, whatever it is given: one function each, driven by `tests/fuzz.rs` on every run and by
//! cargo-fuzz (`fuzz/`) for as long as one likes. A panic is the finding.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use envctl::embedded::apiserver::schema::{Gvk, managed_fields, protobuf, strategic_merge};
use envctl::embedded::kubelet::process::read_packet;
use envctl::embedded::kubelet::server::channels;
use envctl::envfile::{Files, Request};
use envctl::plan;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

/// The kinds that clients send and change most, with lists that merge by keys.
const KINDS: [Gvk<'static>; 6] = [
    Gvk::new("apps", "v1", "Deployment"),
    Gvk::new("", "v1", "Pod"),
    Gvk::new("", "v1", "Service"),
    Gvk::new("", "v1", "ConfigMap"),
    Gvk::new("batch", "v1", "Job"),
    Gvk::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
];

/// One file, and nothing else on the disk.
struct Only<'a>(&'a str);

impl Files for Only<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        let known = path == Path::new("/project/envctl.yaml") || path == Path::new("/project/other.yaml");
        if known { Ok(self.0.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn list(&self, _directory: &Path) -> io::Result<Vec<PathBuf>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn exists(&self, _path: &Path) -> bool {
        false
    }
}

/// An environment file is read, or its problems are told, each with its place in the text.
pub fn env_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let variables = BTreeMap::from([("HOST".to_owned(), "value".to_owned())]);
    let planned = plan::validate(&Request {
        file: Path::new("/project/envctl.yaml"),
        root: Path::new("/project"),
        profiles: &["ci".to_owned()],
        cluster: None,
        variables: &variables,
        engine: false,
        files: &Only(&text),
        shown_from: Path::new("/project"),
    });
    if let Err(problems) = planned {
        assert!(!problems.to_string().is_empty(), "refused without a word: {text:?}");
    }
}

/// A request's body in protobuf: as it is, and as the content of each kind.
pub fn protobuf_body(data: &[u8]) {
    let _ = protobuf::decode(data);
    for kind in KINDS {
        let _ = protobuf::decode(&envelope(kind, data));
    }
}

/// `k8s.io/apimachinery/pkg/runtime/generated.proto`, `Unknown`: what stands around every body.
fn envelope(kind: Gvk<'_>, raw: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(bytes);
        out
    };
    let mut meta = field(1, kind.api_version().as_bytes());
    meta.extend(field(2, kind.kind.as_bytes()));
    let mut out = b"k8s\0".to_vec();
    out.extend(field(1, &meta));
    out.extend(field(2, raw));
    out
}

/// Two JSON documents with a zero byte between them: one is a patch of the other by strategic merge, and both are
/// applied by two managers, one after the other.
pub fn patches(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let mut document = || parts.next().and_then(|part| serde_json::from_slice::<Value>(part).ok());
    let (Some(one), Some(other)) = (document(), document()) else { return };
    for kind in KINDS {
        let _ = strategic_merge(kind, one.clone(), other.clone());
        apply(kind, &one, &other);
    }
}

fn apply(kind: Gvk<'_>, one: &Value, other: &Value) {
    const NOW: &str = "2026-01-01T00:00:00Z";
    if !one.is_object() || !other.is_object() {
        return;
    }
    let named = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        object["metadata"] = json!({"name": "a"});
        object
    };
    let (one, other) = (named(one), named(other));
    let Ok(first) = managed_fields::apply(kind, None, &one, "one", false, "", NOW) else { return };
    // Applying the same again is nothing new.
    let again = managed_fields::apply(kind, Some(&first), &one, "one", false, "", NOW);
    assert_eq!(again.ok().as_ref(), Some(&first), "{one}");
    let Ok(both) = managed_fields::apply(kind, Some(&first), &other, "two", true, "", NOW) else { return };
    let _ = managed_fields::update(kind, Some(&both), one, "three", "", NOW);
}

/// What comes over an exec's connection: a WebSocket's bytes, and each frame's content.
pub fn exec_frames(data: &[u8]) {
    let _ = channels::input(data);
    let mut socket = WebSocket::from_raw_socket(ReadOnly(data), Role::Server, None);
    while let Ok(message) = socket.read() {
        let _ = channels::input(&message.into_data());
    }
}

/// Bytes that come; what is answered goes nowhere.
struct ReadOnly<'a>(&'a [u8]);

impl io::Read for ReadOnly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for ReadOnly<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A packet between agent and node, with and without a descriptor.
pub fn node_packet(data: &[u8]) {
    let file = tempfile::tempfile().expect("a file");
    for fds in [&[][..], &[file.as_fd()]] {
        read_packet(data, fds).expect("a socket");
    }
}
