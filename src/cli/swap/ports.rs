//! Which ports of this machine stand in for a service's.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::cli::exit::Exit;
use crate::error::Error;
use crate::plan::{NodeKind, NodeSpec, Plan, PortId, Protocol, Service};
use crate::session::record::Record;
use crate::session::state::SessionDirectory;

/// The plan of a session's last `up`.
///
/// # Errors
/// When it cannot be read.
pub fn plan(directory: &SessionDirectory, record: &Record) -> Result<Plan, Error> {
    let read = std::fs::read(directory.plan()).map_err(|error| error.to_string());
    read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string())).map_err(|why| {
        Error::Failed {
            what: format!("the plan of session {} cannot be read: {why}", record.id),
            hint: Some("`envctl up` writes it anew".to_owned()),
            exit: Exit::Failed,
        }
    })
}

/// Where each service's ports are forwarded, as the record has it.
pub fn addresses(record: &Record) -> BTreeMap<PortId, SocketAddr> {
    let of = |(name, address): (&String, &String)| {
        let (service, port) = name.split_once('.')?;
        Some((PortId { service: service.to_owned(), port: port.to_owned() }, address.parse().ok()?))
    };
    record.addresses.iter().filter_map(of).collect()
}

/// A service of the plan.
///
/// # Errors
/// When there is none of that name.
pub fn service<'a>(plan: &'a Plan, name: &str) -> Result<&'a Service, Error> {
    let services = || {
        plan.nodes.iter().filter_map(|node| match &node.spec {
            NodeSpec::Service(service) if node.id.kind == NodeKind::Service => {
                Some((node.id.name.as_str(), &**service))
            }
            _ => None,
        })
    };
    services().find(|(known, _)| *known == name).map(|(_, service)| service).ok_or_else(|| {
        let names: Vec<&str> = services().map(|(name, _)| name).collect();
        Error::Usage {
            what: format!("no service {name:?} in this environment"),
            hint: (!names.is_empty()).then(|| format!("there are: {}", names.join(", "))),
        }
    })
}

/// The port on loopback for each TCP port of a service: its own, unless `given` as `NUMBER` (its first) or `NAME=NUMBER`.
///
/// # Errors
/// When there is no such service or port.
pub fn host_ports(plan: &Plan, name: &str, given: &[String]) -> Result<BTreeMap<String, u16>, Error> {
    let spec = service(plan, name)?;
    let tcp: Vec<_> = spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp).collect();
    let mut ports: BTreeMap<String, u16> = tcp.iter().map(|port| (port.name.clone(), port.target_port)).collect();
    for given in given {
        let (port, number) = match given.split_once('=') {
            Some((port, number)) => (tcp.iter().find(|known| known.name == port), number),
            None => (tcp.first(), given.as_str()),
        };
        let names: Vec<&str> = tcp.iter().map(|port| port.name.as_str()).collect();
        let Some(port) = port else {
            return Err(Error::Usage {
                what: format!("service {name} has no TCP port for {given:?}"),
                hint: (!names.is_empty()).then(|| format!("it has: {}", names.join(", "))),
            });
        };
        let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(|| Error::Usage {
            what: format!("{number:?} is not a port: a number from 1 to 65535"),
            hint: None,
        })?;
        ports.insert(port.name.clone(), number);
    }
    Ok(ports)
}

/// The services of `up --swap SERVICE[:PORT][=NUMBER]`, each with its ports.
///
/// # Errors
/// As [`host_ports`].
pub fn expected(plan: &Plan, given: &[String]) -> Result<BTreeMap<String, BTreeMap<String, u16>>, Error> {
    let mut services: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for given in given.iter().filter(|given| !given.is_empty()) {
        let (place, number) =
            given.split_once('=').map_or((given.as_str(), None), |(place, number)| (place, Some(number)));
        let (service, port) = place.split_once(':').map_or((place, None), |(service, port)| (service, Some(port)));
        let flags = services.entry(service).or_default();
        match (port, number) {
            (Some(port), Some(number)) => flags.push(format!("{port}={number}")),
            (None, Some(number)) => flags.push(number.to_owned()),
            (Some(_), None) => {
                return Err(Error::Usage {
                    what: format!("--swap {given} names a port but no number"),
                    hint: Some(format!("--swap {service}, or --swap {given}=NUMBER")),
                });
            }
            (None, None) => {}
        }
    }
    services.into_iter().map(|(name, flags)| Ok((name.to_owned(), host_ports(plan, name, &flags)?))).collect()
}
