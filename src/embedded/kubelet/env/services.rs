//! The variables by which a pod finds services, as `pkg/kubelet/envvars/envvars.go` makes them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// Variables for services that exist: those of the pod's namespace if `enableServiceLinks`, and
/// `default/kubernetes` always.
pub fn service_variables<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        if of == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        } else if of == namespace && links {
            chosen.insert(name, service);
        }
    }
    let mut variables = Vec::new();
    for (name, service) in chosen {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        let prefix = variable_name(name);
        variables.push((format!("{prefix}_SERVICE_HOST"), ip.to_owned()));
        variables.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|port_name| !port_name.is_empty()) {
                variables.push((format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string()));
            }
        }
        for (at, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            let url = format!("{lower}://{ip}:{}", port.port);
            if at == 0 {
                variables.push((format!("{prefix}_PORT"), url.clone()));
            }
            let prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
            variables.push((format!("{prefix}_PROTO"), lower));
            variables.push((format!("{prefix}_PORT"), port.port.to_string()));
            variables.push((format!("{prefix}_ADDR"), ip.to_owned()));
            variables.push((prefix, url));
        }
    }
    variables
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use serde_json::json;

    /// The table of upstream's `envvars_test.go`.
    #[test]
    fn service_variables_as_upstream() {
        let service = |name: &str, ip: &str, ports: serde_json::Value| -> Service {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": ip, "ports": ports}}))
            .unwrap()
        };
        let services = [
            service("foo-bar", "1.2.3.4", json!([{"port": 8080, "protocol": "TCP"}])),
            service(
                "abc-123",
                "5.6.7.8",
                json!([
                {"name": "u-d-p", "port": 8081, "protocol": "UDP"}, {"name": "t-c-p", "port": 8081, "protocol": "TCP"}]),
            ),
            service("svrc-clusterip-none", "None", json!([{"port": 8082}])),
        ];
        let env: HashMap<String, String> = service_variables(&services, "ns", true).into_iter().collect();
        for (name, value) in [
            ("FOO_BAR_SERVICE_HOST", "1.2.3.4"),
            ("FOO_BAR_SERVICE_PORT", "8080"),
            ("FOO_BAR_PORT", "tcp://1.2.3.4:8080"),
            ("FOO_BAR_PORT_8080_TCP", "tcp://1.2.3.4:8080"),
            ("FOO_BAR_PORT_8080_TCP_PROTO", "tcp"),
            ("FOO_BAR_PORT_8080_TCP_PORT", "8080"),
            ("FOO_BAR_PORT_8080_TCP_ADDR", "1.2.3.4"),
            ("ABC_123_SERVICE_PORT", "8081"),
            ("ABC_123_SERVICE_PORT_U_D_P", "8081"),
            ("ABC_123_SERVICE_PORT_T_C_P", "8081"),
            ("ABC_123_PORT", "udp://5.6.7.8:8081"),
            ("ABC_123_PORT_8081_TCP_ADDR", "5.6.7.8"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(env.len(), 7 + 13);
        assert!(service_variables(&services, "other", true).is_empty());
        assert!(service_variables(&services, "ns", false).is_empty());
    }
}
