//! The real programs, and a real API server with etcd for this test binary.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envctl::embedded::apiserver::User;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::Mutex;

use crate::require::require;

/// A place of its own beside `make cluster-up`'s, the same in every run: what a killed run left, the next one removes.
const PLACE: [(&str, &str); 4] = [
    ("ENVCTL_CLUSTER_DIR", "/var/lib/envctl-counterparts"),
    ("ENVCTL_CLUSTER_NAME", "envctl-counterparts"),
    ("ENVCTL_CLUSTER_NUMBER", "1"),
    ("ENVCTL_CLUSTER_ONLY", "etcd,kube-apiserver"),
];

fn run() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/run"))
}

/// Where `kubernetes`, `kubectl` and `cluster` are; built first where everything is required.
pub fn programs() -> Option<&'static Path> {
    static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let all = std::env::var("ENVCTL_REQUIRE").as_deref() == Ok("all");
        let found =
            run().arg(if all { "programs" } else { "built" }).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let found = found.expect("tests/cluster/run starts");
        let path = String::from_utf8(found.stdout).expect("a path");
        require(found.status.success(), "Kubernetes, built by `make cluster-up`,").then(|| path.trim().into())
    };
    PROGRAMS.get_or_init(find).as_deref()
}

/// Held by whoever uses the one API server, with how many have: two sets of controllers would do everything twice, tests of the kubelet
/// share names, and who stands in for a kubelet has pods run that a real one runs.
pub static ONE_AT_A_TIME: Mutex<u32> = Mutex::const_new(0);

/// A real API server. Its controllers are whoever connects.
pub struct RealApi {
    config: kube::Config,
    authority: String,
}

/// The one of this test binary; ends with it.
pub fn api() -> Option<&'static RealApi> {
    static API: OnceLock<Option<RealApi>> = OnceLock::new();
    extern "C" fn down() {
        let ended = run().arg("down").envs(PLACE).stdin(Stdio::null()).status();
        assert!(ended.is_ok_and(|status| status.success()), "the real API server is removed");
    }
    let start = || {
        programs()?;
        // SAFETY: asking for one's own user can't fail.
        let root = unsafe { libc::geteuid() } == 0;
        if !require(root, "root, for namespaces of real Kubernetes,") {
            return None;
        }
        // SAFETY: `down` is an `extern "C" fn()` that lives as long as the program.
        unsafe { libc::atexit(down) };
        down();
        let up = run().arg("up").envs(PLACE).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("it starts");
        assert!(up.status.success(), "the real API server starts: {}", up.status);
        let path = String::from_utf8(up.stdout).expect("a path");
        let kubeconfig = Kubeconfig::read_from(path.trim()).expect("a kubeconfig");
        let encoded = kubeconfig.clusters[0].cluster.as_ref().and_then(|of| of.certificate_authority_data.clone());
        let authority = STANDARD.decode(encoded.expect("an authority")).expect("base64");
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options);
        let config = futures::executor::block_on(config).expect("a configuration");
        Some(RealApi { config, authority: String::from_utf8(authority).expect("PEM") })
    };
    API.get_or_init(start).as_ref()
}

impl RealApi {
    /// The administrator's.
    pub fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config.clone()).expect("a client")
    }

    /// A client with `user`'s rights and no others: the API server's own authorizers decide.
    pub fn client_as(&self, user: &User) -> kube::Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.name.clone());
        let groups = user.groups.iter().cloned().chain(["system:authenticated".to_owned()]);
        config.auth_info.impersonate_groups = Some(groups.collect());
        kube::Client::try_from(config).expect("a client")
    }

    /// A client that shows a token.
    pub fn client_with(&self, token: &str) -> kube::Client {
        let mut config = self.config.clone();
        config.auth_info = kube::config::AuthInfo { token: Some(token.to_owned().into()), ..Default::default() };
        kube::Client::try_from(config).expect("a client")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let (host, port) = (self.config.cluster_url.host(), self.config.cluster_url.port_u16());
        SocketAddr::new(host.and_then(|host| host.parse().ok()).expect("an address"), port.expect("a port"))
    }

    /// This machine's address on the link to it: the one before its own.
    pub fn host(&self) -> Ipv4Addr {
        match self.address().ip() {
            IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) - 1),
            IpAddr::V6(address) => panic!("{address} is no address of the test cluster's"),
        }
    }

    /// The authority of its serving certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}
