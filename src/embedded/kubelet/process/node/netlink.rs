//! The pod network, by synchronous rtnetlink: a bridge in the node's namespace, one veth pair per pod.
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
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::super::addresses::{NODE_IP, POD_PREFIX, SERVICE_NETWORK, SERVICE_PREFIX};

/// The bridge that pods hang on, named as Kubernetes' own bridge plugin names it.
const BRIDGE: &str = "cni0";
/// The loopback interface is always the first.
const LOOPBACK: u32 = 1;
/// `RT_TABLE_LOCAL`.
const TABLE_LOCAL: u8 = 255;

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

    /// Makes the bridge with the node's address and the local service range. Gives the bridge's index.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_up_node(&mut self) -> io::Result<u32> {
        self.loopback_up()?;
        let mut bridge = up(LinkMessage::default());
        bridge.attributes = vec![
            LinkAttribute::IfName(BRIDGE.to_owned()),
            // Its own, or it would follow its ports' and invalidate what pods have learnt.
            LinkAttribute::Address(mac(NODE_IP)),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.create_link(bridge)?;
        let index = nix::net::if_::if_nametoindex(BRIDGE)?;
        self.add_address(index, NODE_IP)?;
        self.request(RouteNetlinkMessage::NewRoute(service_route()), NLM_F_CREATE | NLM_F_EXCL)?;
        Ok(index)
    }

    /// Makes a pod's veth pair: one end on the bridge here, the other as `eth0` in the namespace `pod`.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn add_pod_link(&mut self, bridge: u32, pod: BorrowedFd<'_>, ip: Ipv4Addr) -> io::Result<()> {
        // Not up yet: the kernel opens it before it has joined the two, and fails (ENOTCONN).
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::Address(mac(ip)),
            LinkAttribute::NetNsFd(pod.as_raw_fd()),
        ];
        let octets = ip.octets();
        let mut link = up(LinkMessage::default());
        link.attributes = vec![
            LinkAttribute::IfName(format!("veth{}-{}", octets[2], octets[3])),
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.create_link(link)
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
        let mut route = RouteMessage::default();
        route.header = RouteHeader {
            address_family: AddressFamily::Inet,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        route.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(NODE_IP)), RouteAttribute::Oif(index)];
        self.request(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn add_address(&mut self, index: u32, ip: Ipv4Addr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = POD_PREFIX;
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

/// `ip route add local 10.96.0.0/16 dev lo`: every service address is the node's own.
fn service_route() -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: SERVICE_PREFIX,
        table: TABLE_LOCAL,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Host,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    route.attributes =
        vec![RouteAttribute::Destination(RouteAddress::Inet(SERVICE_NETWORK)), RouteAttribute::Oif(LOOPBACK)];
    route
}

/// An address for the interface that carries `ip`: a pod that gets the address later is found at once.
fn mac(ip: Ipv4Addr) -> Vec<u8> {
    let octets = ip.octets();
    vec![0x0a, 0x58, octets[0], octets[1], octets[2], octets[3]]
}
