//! What a pod asks for that this node accepts without enforcing: for one Event per pod, and for the API server's warnings.
//!
//! A field that nothing in the kubelet reads belongs here, unless leaving it out is all there is to it on one node that
//! pulls no images and weighs no requests.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The fields, as the API names them.
pub fn not_enforced(spec: &PodSpec) -> Vec<&'static str> {
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let any = |asks: fn(&Container) -> bool| containers().any(asks);
    let pod = spec.security_context.as_ref();
    let secured = |asks: fn(&k8s_openapi::api::core::v1::SecurityContext) -> bool| {
        containers().any(|container| container.security_context.as_ref().is_some_and(asks))
    };
    let volumes = || spec.volumes.iter().flatten();
    let emptied = |volume: &k8s_openapi::api::core::v1::Volume| {
        volume.empty_dir.as_ref().is_some_and(|directory| {
            directory.medium.as_deref().is_some_and(|medium| !medium.is_empty()) || directory.size_limit.is_some()
        })
    };
    [
        (any(limited), "resources.limits"),
        (any(|container| container.resources.as_ref().is_some_and(|own| filled(&own.claims))), "resources.claims"),
        (any(on_host_ports), "ports.hostPort"),
        (volumes().any(emptied), "emptyDir.medium and sizeLimit (a plain directory)"),
        (any(propagates), "volumeMounts.mountPropagation"),
        (any(|container| filled(&container.volume_devices)), "volumeDevices"),
        (secured(|own| own.capabilities.is_some()), "securityContext.capabilities"),
        (secured(|own| own.privileged == Some(true)), "securityContext.privileged"),
        (secured(|own| own.allow_privilege_escalation == Some(false)), "securityContext.allowPrivilegeEscalation"),
        (secured(|own| own.proc_mount.as_deref() == Some("Unmasked")), "securityContext.procMount"),
        (
            secured(|own| own.seccomp_profile.is_some()) || pod.is_some_and(|own| own.seccomp_profile.is_some()),
            "securityContext.seccompProfile",
        ),
        (
            secured(|own| own.app_armor_profile.is_some()) || pod.is_some_and(|own| own.app_armor_profile.is_some()),
            "securityContext.appArmorProfile",
        ),
        (
            secured(|own| own.se_linux_options.is_some()) || pod.is_some_and(|own| own.se_linux_options.is_some()),
            "securityContext.seLinuxOptions",
        ),
        (spec.host_pid == Some(true), "hostPID"),
        (spec.host_ipc == Some(true), "hostIPC"),
        (spec.host_users == Some(false), "hostUsers"),
        (spec.share_process_namespace == Some(true), "shareProcessNamespace"),
        (spec.set_hostname_as_fqdn == Some(true), "setHostnameAsFQDN"),
        (spec.runtime_class_name.is_some(), "runtimeClassName"),
        (filled(&spec.resource_claims), "resourceClaims"),
        (filled(&spec.ephemeral_containers), "ephemeralContainers"),
    ]
    .into_iter()
    .filter_map(|(asked, name)| asked.then_some(name))
    .collect()
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

fn limited(container: &Container) -> bool {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    limits.is_some_and(|limits| !limits.is_empty())
}

fn on_host_ports(container: &Container) -> bool {
    container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port > 0))
}

fn propagates(container: &Container) -> bool {
    let mut mounts = container.volume_mounts.iter().flatten();
    mounts.any(|mount| mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(container: Value, pod: Value) -> Vec<&'static str> {
        let mut spec = pod;
        let mut container = container;
        container["name"] = "c".into();
        spec["containers"] = json!([container]);
        not_enforced(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn every_field_that_is_ignored_is_named() {
        for (container, name) in [
            (json!({"resources": {"limits": {"memory": "1Gi"}}}), "resources.limits"),
            (json!({"resources": {"claims": [{"name": "gpu"}]}}), "resources.claims"),
            (json!({"ports": [{"containerPort": 80, "hostPort": 80}]}), "ports.hostPort"),
            (
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}),
                "volumeMounts.mountPropagation",
            ),
            (json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]}), "volumeDevices"),
            (json!({"securityContext": {"capabilities": {"drop": ["ALL"]}}}), "securityContext.capabilities"),
            (json!({"securityContext": {"privileged": true}}), "securityContext.privileged"),
            (
                json!({"securityContext": {"allowPrivilegeEscalation": false}}),
                "securityContext.allowPrivilegeEscalation",
            ),
            (json!({"securityContext": {"procMount": "Unmasked"}}), "securityContext.procMount"),
            (
                json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}),
                "securityContext.seccompProfile",
            ),
            (
                json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
                "securityContext.appArmorProfile",
            ),
            (json!({"securityContext": {"seLinuxOptions": {"level": "s0"}}}), "securityContext.seLinuxOptions"),
        ] {
            assert_eq!(said(container, json!({})), [name]);
        }
        for (pod, name) in [
            (
                json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}),
                "emptyDir.medium and sizeLimit (a plain directory)",
            ),
            (
                json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]}),
                "emptyDir.medium and sizeLimit (a plain directory)",
            ),
            (json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}), "securityContext.seccompProfile"),
            (json!({"securityContext": {"seLinuxOptions": {}}}), "securityContext.seLinuxOptions"),
            (json!({"hostPID": true}), "hostPID"),
            (json!({"hostIPC": true}), "hostIPC"),
            (json!({"hostUsers": false}), "hostUsers"),
            (json!({"shareProcessNamespace": true}), "shareProcessNamespace"),
            (json!({"setHostnameAsFQDN": true}), "setHostnameAsFQDN"),
            (json!({"runtimeClassName": "gvisor"}), "runtimeClassName"),
            (json!({"resourceClaims": [{"name": "gpu"}]}), "resourceClaims"),
            (json!({"ephemeralContainers": [{"name": "debug"}]}), "ephemeralContainers"),
        ] {
            assert_eq!(said(json!({}), pod), [name]);
        }
    }

    #[test]
    fn what_is_enforced_or_asks_for_nothing_is_not() {
        let container = json!({
            "resources": {"requests": {"memory": "1Gi"}, "limits": {}},
            "securityContext": {"readOnlyRootFilesystem": true, "runAsNonRoot": true, "privileged": false},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "None"}],
        });
        let pod = json!({"volumes": [{"name": "v", "emptyDir": {}}], "hostPID": false, "hostUsers": true});
        assert_eq!(said(container, pod), Vec::<&str>::new());
    }
}
