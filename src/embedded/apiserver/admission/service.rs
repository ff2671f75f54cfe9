//! The addresses and ports of services.
//!
//! Follows `pkg/registry/core/service/{storage/alloc.go,ipallocator,portallocator}` and
//! `validation.go` for what an update may not change. An address is taken before the service
//! is stored and given back if that fails.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::super::ApiServerError;
use super::super::context::Context;
use super::super::meta;
use super::super::status::{FieldError, Status};

const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// Which addresses and ports services have.
#[derive(Debug)]
pub struct ServiceNumbers {
    first: u32,
    size: u32,
    taken: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    addresses: HashSet<u32>,
    ports: HashSet<u16>,
    next: u32,
}

/// Numbers that a service got and doesn't have yet.
#[derive(Debug)]
pub struct Taken<'a> {
    numbers: &'a ServiceNumbers,
    addresses: Vec<u32>,
    ports: Vec<u16>,
}

impl Taken<'_> {
    /// The service was stored.
    pub fn keep(mut self) {
        self.addresses.clear();
        self.ports.clear();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut taken = self.numbers.lock();
        for address in &self.addresses {
            taken.addresses.remove(address);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
    }
}

impl ServiceNumbers {
    /// For a range of addresses. The first is the API server's, the tenth the cluster's DNS.
    ///
    /// # Errors
    /// [`ApiServerError::ServiceRange`] when they don't fit.
    pub fn new((base, prefix): (Ipv4Addr, u8)) -> Result<Self, ApiServerError> {
        if !(8..=27).contains(&prefix) {
            return Err(ApiServerError::ServiceRange(base, prefix));
        }
        let size = 1_u32 << (32 - u32::from(prefix));
        let first = u32::from(base) & !(size - 1);
        let numbers = Numbers { addresses: HashSet::from([1]), ports: HashSet::new(), next: 16 };
        Ok(Self { first, size, taken: Mutex::new(numbers) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server's own address, and the cluster's DNS.
    pub fn well_known(&self) -> (Ipv4Addr, Ipv4Addr) {
        (Ipv4Addr::from(self.first + 1), Ipv4Addr::from(self.first + 10))
    }

    /// An unused address. The first sixteen are given only to who asks for them by number.
    fn address(&self) -> Option<u32> {
        let mut taken = self.lock();
        let usable = self.size - 17;
        for _ in 0..usable {
            let offset = taken.next;
            taken.next = if offset + 1 >= self.size - 1 { 16 } else { offset + 1 };
            if taken.addresses.insert(offset) {
                return Some(offset);
            }
        }
        None
    }

    fn port(&self) -> Option<u16> {
        let mut taken = self.lock();
        NODE_PORTS.into_iter().find(|port| taken.ports.insert(*port))
    }

    /// Gives back what a removed service had.
    pub fn release(&self, service: &Value) {
        let mut taken = self.lock();
        for address in addresses(service) {
            taken.addresses.remove(&u32::from(address).wrapping_sub(self.first));
        }
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            if let Some(port) = port["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok()) {
                taken.ports.remove(&port);
            }
        }
    }
}

fn addresses(service: &Value) -> Vec<Ipv4Addr> {
    let spec = &service["spec"];
    let listed = spec["clusterIPs"].as_array().into_iter().flatten().chain(std::iter::once(&spec["clusterIP"]));
    let mut found: Vec<Ipv4Addr> = listed.filter_map(|value| value.as_str()?.parse().ok()).collect();
    found.dedup();
    found
}

/// Gives a new service its address and ports.
pub fn admit_create<'a>(context: &mut Context<'a>, service: &mut Value) -> Result<Taken<'a>, Status> {
    let numbers = &context.server.services;
    let mut taken = Taken { numbers, addresses: Vec::new(), ports: Vec::new() };
    allocate(context, service, &mut taken)?;
    Ok(taken)
}

fn allocate(context: &mut Context<'_>, service: &mut Value, taken: &mut Taken<'_>) -> Result<(), Status> {
    let row = context.row;
    let numbers = taken.numbers;
    let name = meta::text(service, "name").to_owned();
    let invalid = |error: FieldError| Status::invalid(row.group_kind(), &name, vec![error]);
    let spec = meta::child(service, "spec");
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    let asked = spec
        .get("clusterIP")
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .or_else(|| spec.get("clusterIPs").and_then(|list| list[0].as_str()))
        .map(str::to_owned);
    let address = match asked.as_deref() {
        Some("None") => "None".to_owned(),
        Some(text) => {
            let address: Ipv4Addr = text.parse().map_err(|_| {
                invalid(FieldError::invalid(
                    "spec.clusterIPs[0]",
                    text,
                    "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ))
            })?;
            let offset = u32::from(address).wrapping_sub(numbers.first);
            let refuse = |why: &str| {
                invalid(FieldError::invalid(
                    "spec.clusterIPs",
                    json!([text]),
                    &format!("failed to allocate IP {text}: {why}"),
                ))
            };
            if offset == 0 || offset >= numbers.size - 1 {
                let range = format!("{}/{}", Ipv4Addr::from(numbers.first), numbers.size.leading_zeros() + 1);
                return Err(refuse(&format!(
                    "the provided IP ({text}) is not in the valid range. The range of valid IPs is {range}"
                )));
            }
            if !numbers.lock().addresses.insert(offset) {
                return Err(refuse("provided IP is already allocated"));
            }
            taken.addresses.push(offset);
            address.to_string()
        }
        None => {
            let offset =
                numbers.address().ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?;
            taken.addresses.push(offset);
            Ipv4Addr::from(numbers.first + offset).to_string()
        }
    };
    spec.insert("clusterIP".to_owned(), Value::String(address.clone()));
    spec.insert("clusterIPs".to_owned(), json!([address]));
    spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        node_ports(context, service, taken, &name)?;
    }
    Ok(())
}

fn node_ports(context: &mut Context<'_>, service: &mut Value, taken: &mut Taken<'_>, name: &str) -> Result<(), Status> {
    let row = context.row;
    let numbers = taken.numbers;
    let ports = service["spec"]["ports"].as_array_mut().into_iter().flatten();
    for (at, port) in ports.enumerate() {
        let field = format!("spec.ports[{at}].nodePort");
        let refuse = |value: u64, why: &str| {
            Status::invalid(row.group_kind(), name, vec![FieldError::invalid(&field, value, why)])
        };
        let number = match port["nodePort"].as_u64().filter(|&number| number != 0) {
            Some(number) => {
                let valid = u16::try_from(number).ok().filter(|number| NODE_PORTS.contains(number));
                let valid = valid.ok_or_else(|| {
                    refuse(number, "provided port is not in the valid range. The range of valid ports is 30000-32767")
                })?;
                if !numbers.lock().ports.insert(valid) && !taken.ports.contains(&valid) {
                    return Err(refuse(number, "provided port is already allocated"));
                }
                valid
            }
            None => numbers.port().ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?,
        };
        taken.ports.push(number);
        port["nodePort"] = number.into();
    }
    context
        .warnings
        .push("spec.ports[*].nodePort: recorded, but not enforced: this cluster opens no ports on the host".to_owned());
    Ok(())
}

/// Keeps a service's address; gives and takes where its type changes.
pub fn admit_update(context: &mut Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
    let kind = |service: &Value| service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let (new_kind, old_kind) = (kind(new), kind(old));
    let name = meta::text(old, "name").to_owned();
    let row = context.row;
    let external = |kind: &str| kind == "ExternalName";
    if external(&new_kind) && !external(&old_kind) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            meta::child(new, "spec").remove(field);
        }
        return Ok(());
    }
    if !external(&new_kind) && !external(&old_kind) {
        // What is left out stays (patchAllocatedValues).
        let spec = meta::child(new, "spec");
        let given = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
        if given.is_empty() {
            spec.insert("clusterIP".to_owned(), old["spec"]["clusterIP"].clone());
            spec.insert("clusterIPs".to_owned(), old["spec"]["clusterIPs"].clone());
        } else if old["spec"]["clusterIP"] != *given {
            let error = FieldError::invalid("spec.clusterIPs[0]", json!([given]), "may not change once set");
            return Err(Status::invalid(row.group_kind(), &name, vec![error]));
        } else {
            spec.insert("clusterIPs".to_owned(), old["spec"]["clusterIPs"].clone());
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if spec.get(field).is_none_or(Value::is_null) && !old["spec"][field].is_null() {
                spec.insert(field.to_owned(), old["spec"][field].clone());
            }
        }
    }
    if matches!(new_kind.as_str(), "NodePort" | "LoadBalancer") {
        keep_node_ports(new, old);
        let missing = |port: &Value| port["nodePort"].as_u64().unwrap_or(0) == 0;
        if new["spec"]["ports"].as_array().is_some_and(|ports| ports.iter().any(missing)) {
            let numbers = &context.server.services;
            for port in new["spec"]["ports"].as_array_mut().into_iter().flatten().filter(|port| missing(port)) {
                let number =
                    numbers.port().ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
                port["nodePort"] = number.into();
            }
        }
    }
    if external(&old_kind) && !external(&new_kind) {
        let numbers = &context.server.services;
        let mut taken = Taken { numbers, addresses: Vec::new(), ports: Vec::new() };
        allocate(context, new, &mut taken)?;
        taken.keep();
    }
    Ok(())
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let old_ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        if port["nodePort"].as_u64().unwrap_or(0) == 0
            && let Some(old) = old_ports.iter().find(same).filter(|old| old["nodePort"].is_u64())
        {
            port["nodePort"] = old["nodePort"].clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_once_and_come_back() {
        let numbers = ServiceNumbers::new((Ipv4Addr::new(10, 96, 0, 0), 28)).err();
        assert!(numbers.is_some());
        let numbers = ServiceNumbers::new((Ipv4Addr::new(10, 96, 0, 0), 27)).expect("a range");
        assert_eq!(numbers.well_known().0, Ipv4Addr::new(10, 96, 0, 1));
        let given: Vec<u32> = std::iter::from_fn(|| numbers.address()).collect();
        assert_eq!(given, (16..31).collect::<Vec<_>>());
        numbers.release(&json!({"spec": {"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"]}}));
        assert_eq!(numbers.address(), Some(20));
    }
}
