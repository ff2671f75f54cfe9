//! The node's address plan, and who has which pod address.

use std::collections::HashMap;
use std::net::Ipv4Addr;

/// The node, as pods see it: their gateway.
pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Every pod address is in this network.
pub const POD_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 0);
/// Its prefix length.
pub const POD_PREFIX: u8 = 16;
/// Every service address is in this network.
pub const SERVICE_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// Its prefix length.
pub const SERVICE_PREFIX: u8 = 16;

/// The most pods that a node can have: nine times what upstream's kubelet has unless told otherwise (`maxPods`).
pub const MAX_PODS: usize = 1023;

/// Gives pods their addresses. A freed address is used again as late as possible, so that what still
/// talks to a pod that is gone is refused rather than misdirected.
#[derive(Debug, Default)]
pub struct PodAddresses {
    taken: HashMap<String, Ipv4Addr>,
    last: u16,
}

impl PodAddresses {
    /// The address of a new pod; the same again for a pod that has one. `None` when there are too many pods.
    pub fn assign(&mut self, pod_uid: &str) -> Option<Ipv4Addr> {
        if let Some(ip) = self.taken.get(pod_uid) {
            return Some(*ip);
        }
        if self.taken.len() >= MAX_PODS {
            return None;
        }
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let [high, low] = self.last.to_be_bytes();
            let ip = Ipv4Addr::new(10, 244, high, low);
            let usable = ip != NODE_IP && low != 0 && low != 255;
            if usable && !self.taken.values().any(|taken| *taken == ip) {
                self.taken.insert(pod_uid.to_owned(), ip);
                return Some(ip);
            }
        }
    }

    /// Frees a pod's address.
    pub fn release(&mut self, pod_uid: &str) {
        self.taken.remove(pod_uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_address_is_not_the_next_one_given() {
        let mut addresses = PodAddresses::default();
        let first = addresses.assign("a").unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 244, 0, 2));
        assert_eq!(addresses.assign("a"), Some(first));
        addresses.release("a");
        assert_eq!(addresses.assign("b"), Some(Ipv4Addr::new(10, 244, 0, 3)));
    }

    #[test]
    fn there_are_as_many_as_a_node_may_have() {
        let mut addresses = PodAddresses::default();
        let mut given: Vec<_> = (0..MAX_PODS).map(|pod| addresses.assign(&pod.to_string()).unwrap()).collect();
        assert_eq!(addresses.assign("one more"), None);
        given.sort();
        given.dedup();
        assert_eq!(given.len(), MAX_PODS);
        addresses.release("0");
        assert!(addresses.assign("one more").is_some());
    }

    #[test]
    fn numbering_starts_again_past_the_end() {
        let mut addresses = PodAddresses { last: u16::MAX - 1, ..PodAddresses::default() };
        assert_eq!(addresses.assign("a"), Some(Ipv4Addr::new(10, 244, 0, 2)));
    }
}
