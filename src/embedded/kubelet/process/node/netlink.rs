//! The pod network, by synchronous rtnetlink: one veth pair per pod, routed by the node (as Kubernetes' `ptp` plugin does it,
//! `containernetworking/plugins/plugins/main/ptp/ptp.go`).
//!
//! A pod that is gone takes its interface along, and with that its route; what is left of the pods' network is unreachable, so whoever
//! still connects to it is told at once. On a bridge, packets to it would be dropped in silence until its hardware address is forgotten.
//!
//! Services need no packet rules: the whole service range is local to the node (`AnyIP`), so the agent's
//! proxy binds a socket to a service's address and pods reach it by their default route.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::super::addresses::{NODE_IP, POD_NETWORK, POD_PREFIX, SERVICE_NETWORK, SERVICE_PREFIX};

/// The loopback interface is always the first.
const LOOPBACK: u32 = 1;
/// `RT_TABLE_LOCAL`.
const TABLE_LOCAL: u8 = 255;
/// Interface numbers of pods begin here; each is this and the last two bytes of the pod's address.
const POD_INDEX: u32 = 0x10000;
/// The prefix length of one address.
const HOST: u8 = 32;

/// A connection to the network namespace that the caller was in when it was opened.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens it.
    ///
    /// # Errors
    /// What `socket` and `connect` answer.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request and waits for the kernel's answer to it.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (answer, _) = self.socket.recv_from_full()?;
            let answer: NetlinkMessage<RouteNetlinkMessage> = NetlinkMessage::deserialize(&answer)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(io::Error::from_raw_os_error(-error.raw_code()));
                }
                NetlinkPayload::Error(_) => return Ok(()),
                _ => {}
            }
        }
    }

    fn create_link(&mut self, message: LinkMessage) -> io::Result<()> {
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Switches the loopback interface on.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn loopback_up(&mut self) -> io::Result<()> {
        self.link_up(LOOPBACK)
    }

    fn link_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = up(LinkMessage::default());
        message.header.index = index;
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives the node its address and its routes, and has it forward between pods.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_up_node(&mut self) -> io::Result<()> {
        self.loopback_up()?;
        self.add_address(LOOPBACK, NODE_IP)?;
        self.add_route(service_route())?;
        self.add_route(no_such_pod_route())?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
    }

    /// Makes a pod's veth pair, one end here, the other as `eth0` in the namespace `pod`, and the route to it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn add_pod_link(&mut self, pod: BorrowedFd<'_>, ip: Ipv4Addr) -> io::Result<()> {
        // Not up yet: the kernel opens it before it has joined the two, and fails (ENOTCONN).
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::Address(mac(ip)),
            LinkAttribute::NetNsFd(pod.as_raw_fd()),
        ];
        let octets = ip.octets();
        let mut link = up(LinkMessage::default());
        // Chosen here, so that the kernel need not be asked: what it chooses itself are small numbers.
        let index = POD_INDEX + u32::from(u16::from_be_bytes([octets[2], octets[3]]));
        link.header.index = index;
        link.attributes = vec![
            LinkAttribute::IfName(format!("veth{}-{}", octets[2], octets[3])),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.create_link(link)?;
        let mut route = route(RouteType::Unicast, RouteScope::Link, Some((ip, HOST)));
        let source = RouteAttribute::PrefSource(RouteAddress::Inet(NODE_IP));
        route.attributes.extend([RouteAttribute::Oif(index), source]);
        self.add_route(route)
    }

    /// Gives the pod's `eth0` its address and default route, in the namespace of this connection, which must
    /// also be the caller's.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_up_pod(&mut self, ip: Ipv4Addr) -> io::Result<()> {
        self.loopback_up()?;
        let index = nix::net::if_::if_nametoindex("eth0")?;
        self.link_up(index)?;
        self.add_address(index, ip)?;
        let mut route = route(RouteType::Unicast, RouteScope::Universe, None);
        // The node is there, though the pod's own network is only itself.
        route.header.flags = RouteFlags::Onlink;
        route.attributes.extend([RouteAttribute::Gateway(RouteAddress::Inet(NODE_IP)), RouteAttribute::Oif(index)]);
        self.add_route(route)
    }

    fn add_route(&mut self, route: RouteMessage) -> io::Result<()> {
        self.request(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn add_address(&mut self, index: u32, ip: Ipv4Addr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = HOST;
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(IpAddr::V4(ip)), AddressAttribute::Address(IpAddr::V4(ip))];
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }
}

fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn route(kind: RouteType, scope: RouteScope, destination: Option<(Ipv4Addr, u8)>) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: destination.map_or(0, |(_, prefix)| prefix),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope,
        kind,
        ..RouteHeader::default()
    };
    route.attributes =
        destination.map(|(ip, _)| RouteAttribute::Destination(RouteAddress::Inet(ip))).into_iter().collect();
    route
}

/// `ip route add local 10.96.0.0/16 dev lo`: every service address is the node's own.
fn service_route() -> RouteMessage {
    let mut route = route(RouteType::Local, RouteScope::Host, Some((SERVICE_NETWORK, SERVICE_PREFIX)));
    route.header.table = TABLE_LOCAL;
    route.attributes.push(RouteAttribute::Oif(LOOPBACK));
    route
}

/// `ip route add unreachable 10.244.0.0/16`: for addresses that no pod has; each pod's own route is narrower.
fn no_such_pod_route() -> RouteMessage {
    route(RouteType::Unreachable, RouteScope::Universe, Some((POD_NETWORK, POD_PREFIX)))
}

/// An address for the interface that carries `ip`: a pod that gets the address later is found at once.
fn mac(ip: Ipv4Addr) -> Vec<u8> {
    let octets = ip.octets();
    vec![0x0a, 0x58, octets[0], octets[1], octets[2], octets[3]]
}
