//! `envctl port`: prints where a service's ports are on this machine, or holds one at a port of the user's choice.
//!
//! The agent forwards every TCP port for the session's life and finds ready pods anew for each connection; what is held
//! here leads there, so that it outlives the pods as well.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;
use serde::Serialize;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::conversation::{Conversation, runtime};
use super::exit::Exit;
use super::output::Format;
use super::swap::{addresses, plan, service};
use super::{Context, FileFlag};
use crate::error::Error;
use crate::plan::{PortId, Protocol};
use crate::session::record::Record;
use crate::session::state::StateDirectory;
use crate::session::{launch, touch};
use crate::suite::run::Interrupts;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// The service, and which of its ports, by name or number (default: all)
    #[arg(value_name = "SERVICE[:PORT]")]
    pub service: String,
    /// Hold it at this port of 127.0.0.1, until Ctrl-C (0: any)
    #[arg(value_name = "LOCAL")]
    pub local: Option<u16>,
}

/// One port.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    /// In the cluster.
    port: u16,
    /// On this machine.
    address: SocketAddr,
}

/// `-o json`.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    service: &'a str,
    ports: &'a [Row],
}

/// Runs the verb.
///
/// # Errors
/// When there is no such session, service or port, or LOCAL is taken.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    touch(&state, &record.id);
    let (name, wanted) = match arguments.service.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (arguments.service.as_str(), None),
    };
    let rows = rows(&state, &record, name, wanted)?;
    let Some(local) = arguments.local else {
        match context.out.format {
            Format::Json | Format::Yaml => {
                context.out.document(&Document { version: 1, service: name, ports: &rows })?
            }
            _ if rows.len() == 1 => context.out.data(rows[0].address.to_string()),
            _ => rows.iter().for_each(|row| context.out.data(format!("{}  {}", row.name, row.address))),
        }
        return Ok(Exit::Ok);
    };
    let [row] = rows.as_slice() else {
        let names: Vec<String> = rows.iter().map(|row| format!("{name}:{}", row.name)).collect();
        return Err(Error::Usage {
            what: format!("{name} has {} ports: say which is to be at {local}", rows.len()),
            hint: Some(names.join(", ")),
        });
    };
    runtime()?.block_on(hold(context, &state, &record, name, row, local))
}

fn rows(state: &StateDirectory, record: &Record, name: &str, wanted: Option<&str>) -> Result<Vec<Row>, Error> {
    let plan = plan(&state.session(&record.id), record)?;
    let service = service(&plan, name)?;
    let is_wanted =
        |port: &crate::plan::Port| wanted.is_none_or(|wanted| port.name == wanted || port.port.to_string() == wanted);
    let ports: Vec<_> = service.ports.iter().filter(|port| is_wanted(port)).collect();
    if ports.is_empty() {
        let known: Vec<String> = service.ports.iter().map(|port| format!("{} ({})", port.name, port.port)).collect();
        return Err(Error::Usage {
            what: match wanted {
                Some(wanted) => format!("service {name} has no port {wanted:?}"),
                None => format!("service {name} has no ports"),
            },
            hint: (!known.is_empty()).then(|| format!("it has: {}", known.join(", "))),
        });
    }
    let addresses = addresses(record);
    let rows: Vec<Row> = ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp)
        .filter_map(|port| {
            let address = *addresses.get(&PortId { service: name.to_owned(), port: port.name.clone() })?;
            Some(Row { name: port.name.clone(), port: port.port, address })
        })
        .collect();
    if rows.is_empty() {
        let udp = ports.iter().all(|port| port.protocol == Protocol::Udp);
        let (why, hint) = match udp {
            true => ("datagrams are not forwarded to the host", None),
            false => ("the session is not ready", Some("`envctl wait` waits until it is".to_owned())),
        };
        return Err(Error::Failed {
            what: format!("{name} cannot be reached from here: {why}"),
            hint,
            exit: Exit::NotReady,
        });
    }
    Ok(rows)
}

/// Leads connections to where the agent forwards the port, until Ctrl-C.
async fn hold(
    context: &mut Context,
    state: &StateDirectory,
    record: &Record,
    service: &str,
    row: &Row,
    local: u16,
) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::new().map_err(Error::io("receive signals"))?;
    // Held open: a session that is connected to is in use, and its end is seen.
    let directory = state.session(&record.id);
    let mut presence = Conversation::new(launch::connect(&directory)?, directory)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local)).await.map_err(|source| Error::Failed {
        what: format!("cannot listen on 127.0.0.1:{local}: {source}"),
        hint: Some("another port, or 0 for any that is free".to_owned()),
        exit: Exit::Failed,
    })?;
    let address = listener.local_addr().map_err(Error::io("listen"))?;
    context.out.data(address.to_string());
    context.out.say(format!("{address} leads to {service}:{} until Ctrl-C", row.name));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut from, _)) = accepted else { continue };
                let target = row.address;
                connections.spawn(async move {
                    // Whoever ends first ends it; the agent says in its log why a service cannot be reached.
                    let Ok(mut to) = TcpStream::connect(target).await else { return };
                    let _ = (from.set_nodelay(true), to.set_nodelay(true));
                    let _ended = copy_bidirectional(&mut from, &mut to).await;
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            ended = presence.next_or_end() => {
                ended?;
                return Err(Error::Failed { what: "the session has ended".to_owned(), hint: None, exit: Exit::Failed });
            }
            _ = interrupts.next() => return Ok(Exit::Interrupted),
        }
    }
}
