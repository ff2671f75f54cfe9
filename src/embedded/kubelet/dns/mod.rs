//! Cluster DNS: a small responder on UDP and TCP in the node's network.
//!
//! [`zone`] answers for the cluster; everything else is passed to the host's resolvers, from the agent, which is in the
//! host's network, and is SERVFAIL at once where there are none.

pub mod zone;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::zone::{Answer, Data, Kind};
use super::error::KubeletError;
use super::runtime::NodeNetwork;
use super::services::Table;

/// Seconds that answers, also negative ones, may be kept: short, since pods come and go.
const TTL: u32 = 2;
/// For one of the host's resolvers.
const FORWARD: Duration = Duration::from_secs(2);
/// Queries answered at once; more wait.
const AT_ONCE: usize = 256;

/// The responder, not yet running.
pub struct Dns {
    zone: Arc<Zone>,
    udp: UdpSocket,
    tcp: TcpListener,
}

struct Zone {
    table: watch::Receiver<Arc<Table>>,
    domain: String,
    resolvers: Vec<SocketAddr>,
}

impl Dns {
    /// Takes its addresses.
    ///
    /// # Errors
    /// [`KubeletError::Dns`].
    pub async fn bind(
        network: &dyn NodeNetwork,
        ip: Ipv4Addr,
        domain: String,
        table: watch::Receiver<Arc<Table>>,
    ) -> Result<Self, KubeletError> {
        let address = SocketAddrV4::new(ip, 53);
        let failed = |source| KubeletError::Dns { address, source };
        let udp = network.bind_udp(address).await.map_err(failed)?;
        let tcp = network.listen(address).await.map_err(failed)?;
        let resolvers = host_resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        Ok(Self { zone: Arc::new(Zone { table, domain, resolvers }), udp, tcp })
    }

    /// Answers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { zone, udp, tcp } = self;
        let udp = Arc::new(udp);
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; 4096];
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                received = udp.recv_from(&mut buffer), if tasks.len() < AT_ONCE => if let Ok((count, client)) = received {
                    let query = buffer[..count].to_vec();
                    // What the zone knows is answered here and now; only forwarding needs a task.
                    match zone.local(&query, true) {
                        Reply::Done(Some(reply)) => drop(udp.send_to(&reply, client).await),
                        Reply::Done(None) => {}
                        Reply::Forward(asked) => {
                            let (zone, udp) = (Arc::clone(&zone), Arc::clone(&udp));
                            tasks.spawn(async move {
                                let reply = zone.forward_udp(&query, &asked).await;
                                // A client that has gone asks again.
                                let _ = udp.send_to(&reply, client).await;
                            });
                        }
                    }
                },
                accepted = tcp.accept(), if tasks.len() < AT_ONCE => if let Ok((client, _)) = accepted {
                    let zone = Arc::clone(&zone);
                    tasks.spawn(async move {
                        let _ = tokio::time::timeout(Duration::from_secs(30), zone.serve_tcp(client)).await;
                    });
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
        tasks.shutdown().await;
    }
}

enum Reply {
    /// The whole answer; none for what isn't a query.
    Done(Option<Vec<u8>>),
    /// Somebody else's.
    Forward(Box<Message>),
}

impl Zone {
    fn local(&self, query: &[u8], udp: bool) -> Reply {
        let Ok(asked) = Message::from_vec(query) else {
            // Only an id can be read from it.
            let id = query.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
            return Reply::Done(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok());
        };
        let Some(question) = asked.queries.first() else { return Reply::Done(None) };
        let name = question.name.to_lowercase().to_ascii();
        let kind = match question.query_type {
            RecordType::A => Kind::A,
            RecordType::SRV => Kind::Srv,
            RecordType::PTR => Kind::Ptr,
            RecordType::CNAME => Kind::Cname,
            _ => Kind::Other,
        };
        let table = Arc::clone(&self.table.borrow());
        let answer = zone::answer(&table, &self.domain, name.trim_end_matches('.'), kind);
        if answer == Answer::Outside {
            return Reply::Forward(Box::new(asked));
        }
        let mut reply = response_to(&asked);
        reply.metadata.authoritative = true;
        let records = match answer {
            Answer::Records(records) => records,
            _ => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                Vec::new()
            }
        };
        if records.is_empty()
            && let Some(soa) = self.soa()
        {
            reply.add_authority(soa);
        }
        for data in records {
            if let Some(data) = rdata(data) {
                reply.add_answer(Record::from_rdata(question.name.clone(), TTL, data));
            }
        }
        let limit = if udp {
            asked.edns.as_ref().map_or(512, |edns| usize::from(edns.max_payload()).max(512))
        } else {
            usize::MAX
        };
        Reply::Done(match reply.to_vec() {
            Ok(bytes) if bytes.len() > limit => {
                let mut short = response_to(&asked);
                short.metadata.truncation = true;
                short.to_vec().ok()
            }
            Ok(bytes) => Some(bytes),
            Err(_) => failure(&asked),
        })
    }

    fn soa(&self) -> Option<Record> {
        let name = |text: String| Name::from_ascii(text).ok();
        let zone = name(format!("{}.", self.domain))?;
        let soa = SOA::new(
            name(format!("ns.dns.{}.", self.domain))?,
            name(format!("hostmaster.{}.", self.domain))?,
            1,
            7200,
            1800,
            86400,
            TTL,
        );
        Some(Record::from_rdata(zone, TTL, RData::SOA(soa)))
    }

    async fn forward_udp(&self, query: &[u8], asked: &Message) -> Vec<u8> {
        for resolver in &self.resolvers {
            let exchange = async {
                let any: SocketAddr = if resolver.is_ipv4() {
                    (Ipv4Addr::UNSPECIFIED, 0).into()
                } else {
                    (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(resolver).await?;
                socket.send(query).await?;
                let mut buffer = vec![0; 4096];
                loop {
                    let count = socket.recv(&mut buffer).await?;
                    if buffer.get(..2) == query.get(..2) {
                        buffer.truncate(count);
                        return Ok::<_, std::io::Error>(buffer);
                    }
                }
            };
            if let Ok(Ok(reply)) = tokio::time::timeout(FORWARD, exchange).await {
                return reply;
            }
        }
        failure(asked).unwrap_or_default()
    }

    async fn forward_tcp(&self, query: &[u8], asked: &Message) -> Vec<u8> {
        for resolver in &self.resolvers {
            let exchange = async {
                let mut stream = TcpStream::connect(resolver).await?;
                write_framed(&mut stream, query).await?;
                read_framed(&mut stream).await
            };
            if let Ok(Ok(reply)) = tokio::time::timeout(FORWARD, exchange).await {
                return reply;
            }
        }
        failure(asked).unwrap_or_default()
    }

    async fn serve_tcp(&self, mut client: TcpStream) -> std::io::Result<()> {
        loop {
            let query = read_framed(&mut client).await?;
            let reply = match self.local(&query, false) {
                Reply::Done(Some(reply)) => reply,
                Reply::Done(None) => return Ok(()),
                Reply::Forward(asked) => self.forward_tcp(&query, &asked).await,
            };
            write_framed(&mut client, &reply).await?;
        }
    }
}

async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}

fn response_to(asked: &Message) -> Message {
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_queries(asked.queries.iter().cloned());
    reply
}

fn failure(asked: &Message) -> Option<Vec<u8>> {
    let mut reply = response_to(asked);
    reply.metadata.response_code = ResponseCode::ServFail;
    reply.to_vec().ok()
}

fn rdata(data: Data) -> Option<RData> {
    let name = |text: String| Name::from_ascii(format!("{text}.")).ok();
    Some(match data {
        Data::A(ip) => RData::A(A(ip)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Srv(port, target) => RData::SRV(SRV::new(0, 100, port, name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
    })
}

/// The host's resolvers, as glibc reads them: the first three.
fn host_resolvers(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|server| server.trim().parse().ok()).map(|ip| SocketAddr::new(ip, 53)).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;

    fn zone() -> Zone {
        let (_, table) = watch::channel(Arc::new(Table::default()));
        Zone { table, domain: "cluster.local".to_owned(), resolvers: Vec::new() }
    }

    fn query(name: &str) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message.to_vec().unwrap()
    }

    #[tokio::test]
    async fn unknown_names_are_negative_with_an_soa_and_others_fail_at_once() {
        let zone = zone();
        let Reply::Done(Some(reply)) = zone.local(&query("Nope.ns.svc.Cluster.Local."), true) else { panic!("ours") };
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert!(reply.metadata.authoritative);
        assert_eq!(reply.authorities.len(), 1);
        let outside = query("example.com.");
        let Reply::Forward(asked) = zone.local(&outside, true) else { panic!("not ours") };
        let reply = Message::from_vec(&zone.forward_udp(&outside, &asked).await).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }

    #[test]
    fn reads_the_hosts_resolvers() {
        assert_eq!(host_resolvers("# x\nnameserver 127.0.0.53\noptions a\nnameserver ::1\n").len(), 2);
    }
}
