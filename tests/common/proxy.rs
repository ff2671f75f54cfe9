//! A proxy that makes tunnels (`CONNECT`), each a thread that ends with its connection.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;

/// One proxy; it accepts until the test's process ends.
pub struct Proxy {
    pub port: u16,
    asked: mpsc::Receiver<String>,
}

impl Proxy {
    /// Leads every tunnel to `to` on this machine, or where it is asked to.
    pub fn start(to: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, asked) = mpsc::channel();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let sender = sender.clone();
                std::thread::spawn(move || tunnel(client.unwrap(), to, &sender));
            }
        });
        Self { port, asked }
    }

    /// The head of the next request that it got.
    pub fn asked(&self) -> String {
        self.asked.recv().unwrap()
    }
}

fn tunnel(client: TcpStream, to: Option<u16>, sender: &mpsc::Sender<String>) {
    let mut lines = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head).unwrap() == 0 {
            return;
        }
    }
    let asked_for = head.split(' ').nth(1).unwrap();
    let server = match to {
        Some(port) => TcpStream::connect(("127.0.0.1", port)),
        None => TcpStream::connect(asked_for),
    };
    let _nobody_asks = sender.send(head);
    let server = server.unwrap();
    (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (from, towards) = (server.try_clone().unwrap(), client);
    let back = std::thread::spawn(move || {
        let _server_is_gone = std::io::copy(&mut &from, &mut &towards);
        let _told = towards.shutdown(Shutdown::Both);
    });
    let _client_is_gone = std::io::copy(&mut lines, &mut &server);
    let _told = server.shutdown(Shutdown::Both);
    back.join().unwrap();
}
