//! The cluster's own certificate authority and serving certificate, and kubeconfigs.
//!
//! Everything is made anew for each server and lives as long as it; the keys never leave memory.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::PrivateKeyDer;

use super::{ApiServerError, Config};

/// What proves to clients that they speak with this server.
pub struct Pki {
    /// The authority's certificate, PEM.
    pub authority_pem: String,
    /// For the listener.
    pub tls: Arc<rustls::ServerConfig>,
}

impl Pki {
    /// An authority, and a certificate for every name by which this server is reached.
    pub fn new(config: &Config) -> Result<Self, ApiServerError> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "envctl");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let authority_certificate = authority.self_signed(&authority_key)?;
        let issuer = Issuer::from_params(&authority, &authority_key);

        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names(config))?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { authority_pem: authority_certificate.pem(), tls: Arc::new(tls) })
    }
}

fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> =
        ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec();
    names.push(format!("kubernetes.default.svc.{}", config.cluster_domain));
    let first = u32::from(config.service_cidr.0).wrapping_add(1);
    names.push(std::net::Ipv4Addr::from(first).to_string());
    names.extend(config.extra_sans.iter().cloned());
    names
}

/// A kubeconfig with one cluster, one user and one context, all called `envctl`.
pub fn kubeconfig(authority_pem: &str, server: &str, token: &str, namespace: &str) -> String {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority_pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: envctl\nclusters:\n- name: envctl\n  cluster:\n    server: {server}\n    certificate-authority-data: {authority}\ncontexts:\n- name: envctl\n  context:\n    cluster: envctl\n    user: envctl\n    namespace: {namespace}\nusers:\n- name: envctl\n  user:\n    token: {token}\n"
    )
}
