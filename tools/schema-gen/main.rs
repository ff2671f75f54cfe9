//! Generates `src/embedded/apiserver/schema/generated.rs` from a folder of Kubernetes' published facts.
//!
//! Usage: `schema-gen FOLDER OUTPUT [--check]`. FOLDER holds `definitions.json`, `paths.json`, `discovery.json` and
//! `protobuf-fields.json`; `go-shapes.txt` beside this file says what those don't: which fields are pointers (`*`),
//! which are written even when empty (`!`), which disappear when zero (`0`), and the Go names of scalar types, which
//! decoding errors quote. With `--check` nothing is written and a difference ends with status 1.
//!
//! Invariant: the output depends on the inputs alone, byte for byte.

mod emit;
mod intern;
mod protobuf;
mod resources;
mod types;

use std::process::ExitCode;

use serde_json::Value;

/// Everything that is read.
pub struct Input {
    /// OpenAPI v2 definitions by name.
    pub definitions: Value,
    /// `[path, verb, action, gvk, consumes]` rows.
    pub paths: Value,
    /// The aggregated discovery document, without the core group.
    pub discovery: Value,
    /// `message → [tag, name, cardinality, type]`.
    pub protobuf: Value,
}

fn read(folder: &str, name: &str) -> Result<Value, String> {
    let path = format!("{folder}/{name}");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{path}: {e}"))
}

fn run() -> Result<bool, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, output, rest @ ..] = arguments.as_slice() else {
        return Err("usage: schema-gen FOLDER OUTPUT [--check]".into());
    };
    let input = Input {
        definitions: read(folder, "definitions.json")?,
        paths: read(folder, "paths.json")?,
        discovery: read(folder, "discovery.json")?,
        protobuf: read(folder, "protobuf-fields.json")?,
    };
    let text = emit::emit(&input)?;
    if rest.first().is_some_and(|flag| flag == "--check") {
        let current = std::fs::read_to_string(output).map_err(|e| format!("{output}: {e}"))?;
        return Ok(current == text);
    }
    std::fs::write(output, text).map_err(|e| format!("{output}: {e}"))?;
    Ok(true)
}

#[expect(clippy::print_stderr, reason = "a command-line tool")]
fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("the generated tables are not up to date: run `make generate`");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("schema-gen: {error}");
            ExitCode::from(2)
        }
    }
}
