//! Whether somebody listens on a port of this machine, as the kernel's own tables say: nothing is connected to, so that a process
//! which serves one connection, or stands in a debugger, sees nothing of it.
//!
//! The kernel tells nobody when a socket begins to listen (`sock_diag` has an event only for the end of one), so the tables are read
//! again, at the pace at which the kubelet probes: after an eighth of the time that has passed, a second at most.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::OnHostError;

/// The kernel's tables, one line a socket.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: &str = "0A";
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_secs(1);

/// Whether a socket that takes connections to loopback listens on this port now.
///
/// # Errors
/// When the kernel's table cannot be read.
pub fn now(port: u16) -> Result<bool, OnHostError> {
    for table in TABLES {
        match std::fs::read_to_string(table) {
            Ok(text) if lists(&text, port) => return Ok(true),
            Ok(_) => {}
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(OnHostError::Listening { path: PathBuf::from(table), source }),
        }
    }
    Ok(false)
}

/// Returns when somebody does.
///
/// # Errors
/// As [`now`].
pub async fn until(port: u16) -> Result<(), OnHostError> {
    let began = Instant::now();
    while !now(port)? {
        tokio::time::sleep((began.elapsed() / 8).clamp(SHORTEST, LONGEST)).await;
    }
    Ok(())
}

/// `sl local_address rem_address st …`; the address in hexadecimal as the machine has it in memory, then the port.
fn lists(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(local), Some(_), Some(state)) = (fields.next(), fields.next(), fields.next()) else { return false };
        let Some((address, number)) = local.split_once(':') else { return false };
        state == LISTEN && u16::from_str_radix(number, 16) == Ok(port) && takes_loopback(address)
    })
}

/// Any address, `127.0.0.0/8`, `::1`, or the first as IPv6 has it.
fn takes_loopback(address: &str) -> bool {
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|at| u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    match words.as_deref() {
        Some([v4]) => *v4 == [0; 4] || v4[0] == 127,
        Some([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], last]) => *last == [0; 4] || *last == [0, 0, 0, 1],
        Some([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0xff, 0xff], last]) => *last == [0; 4] || last[0] == 127,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_that_take_loopback_count() {
        if cfg!(target_endian = "big") {
            return;
        }
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
            1: 00000000:1F91 00000000:0000 0A 00000000:00000000\n\
            2: 0702A8C0:1F92 00000000:0000 0A 00000000:00000000\n\
            3: 0100007F:1F93 0100007F:9999 01 00000000:00000000\n\
            4: 00000000000000000000000001000000:1F94 00000000000000000000000000000000:0000 0A\n\
            5: 0000000000000000FFFF00000100007F:1F95 00000000000000000000000000000000:0000 0A\n\
            6: 000080FE000000000000000001000000:1F96 00000000000000000000000000000000:0000 0A\n";
        let listed: Vec<bool> = (0x1f90..=0x1f97).map(|port| lists(table, port)).collect();
        assert_eq!(listed, [true, true, false, false, true, true, false, false]);
    }

    #[tokio::test]
    async fn a_listener_is_seen_as_soon_as_it_is_there() {
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = taken.local_addr().expect("its address").port();
        assert!(now(port).expect("readable"));
        drop(taken);
        assert!(!now(port).expect("readable"));
        let waiting = tokio::spawn(until(port));
        let _again = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port again");
        waiting.await.expect("no panic").expect("seen");
    }
}
