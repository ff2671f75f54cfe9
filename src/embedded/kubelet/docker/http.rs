//! The few requests to the engine that need neither a runtime nor bollard: listing and removing containers by a label.
//!
//! For [`super::gate`], a small process of one thread, and for the command line's sweep. HTTP/1.0, so that every answer ends with its
//! connection.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Id")]
    id: String,
}

/// The ids of all containers that have `label` (`key=value`), also of those that have ended.
///
/// # Errors
/// When the engine doesn't answer, or not what it should.
pub fn list(engine: &Path, label: &str) -> io::Result<Vec<String>> {
    let filters = serde_json::json!({"label": [label]}).to_string();
    let (status, body) = ask(engine, "GET", &format!("/containers/json?all=1&filters={}", encoded(&filters)))?;
    if status != 200 {
        return Err(io::Error::other(format!("the engine answered {status}")));
    }
    let listed: Vec<Listed> = serde_json::from_slice(&body)?;
    Ok(listed.into_iter().map(|container| container.id).collect())
}

/// Ends and removes a container with its anonymous volumes. One that is gone is no error.
///
/// # Errors
/// When the engine doesn't answer, or refuses.
pub fn remove(engine: &Path, id: &str) -> io::Result<()> {
    match ask(engine, "DELETE", &format!("/containers/{id}?force=1&v=1"))? {
        // 409: somebody else is removing it.
        (200..=299 | 404 | 409, _) => Ok(()),
        (status, body) => Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(&body).trim()))),
    }
}

/// Removes an image that nothing uses.
///
/// # Errors
/// When the engine doesn't answer.
pub fn forget_image(engine: &Path, name: &str) -> io::Result<()> {
    // Others may use it, or have removed it.
    ask(engine, "DELETE", &format!("/images/{name}")).map(drop)
}

fn ask(engine: &Path, method: &str, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(engine)?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the engine's answer is no HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    Some((status, answer[end + 4..].to_vec()))
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n[]"), Some((200, b"[]".to_vec())));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((204, Vec::new())));
        assert_eq!(parse(b"nonsense"), None);
        assert_eq!(parse(b"HTTP/1.0 \xff\r\n\r\n"), None);
    }

    #[test]
    fn a_label_with_a_path_survives_a_query() {
        assert_eq!(encoded("a=/b c\"é"), "a%3D%2Fb%20c%22%C3%A9");
    }
}
