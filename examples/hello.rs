//! A small HTTP service: answers every request with its own name, listens at once, ends on SIGTERM.
//!
//! `hello [NAME]`; `PORT` says where it listens (default 8080). Only the standard library, so that what
//! is measured around it is not its own start.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

fn main() -> std::io::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "hello".to_owned());
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080_u16);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    writeln!(std::io::stdout(), "{name} listens on {port}")?;
    for stream in listener.incoming() {
        let name = name.clone();
        std::thread::spawn(move || stream.and_then(|stream| answer(stream, &name)));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        line.clear();
    }
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{name}\n", name.len() + 1)
}
