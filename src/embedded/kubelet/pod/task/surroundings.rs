//! What a pod's containers live in: sandbox, volumes, files.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::super::events::Kind as EventKind;
use super::super::super::logs;
use super::super::super::resolv;
use super::super::super::runtime::SandboxConfig;
use super::super::super::runtimes::images;
use super::super::super::volumes::keeper::Keeper;
use super::super::messages::Message;
use super::{Actor, Sandbox, Why};

impl Actor {
    /// Sandbox and volumes at once.
    pub(super) fn begin(&mut self) {
        if self.terminal || self.pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        let ignored = self.context.runtime.not_enforced(self.spec());
        if !ignored.is_empty() {
            self.event(
                None,
                EventKind::Warning,
                "NotEnforced",
                format!("this node accepts but doesn't enforce: {}", ignored.join(", ")),
            );
        }
        self.make_sandbox();
        let keeper = Keeper {
            client: self.context.client.clone(),
            objects: Arc::clone(&self.context.objects),
            recorder: self.context.recorder.clone(),
            pod: self.versions.subscribe(),
            directory: self.directory.clone(),
            facts: self.facts(),
        };
        if self.spec().volumes.as_ref().is_none_or(Vec::is_empty) {
            self.volumes = Some(Arc::default());
            return;
        }
        let (tell, work) = (self.tell.clone(), self.work.clone());
        self.jobs.spawn(async move {
            let (ready, prepared) = oneshot::channel();
            let told = async {
                if let Ok(prepared) = prepared.await {
                    let _ = tell.send(Message::Volumes(prepared)).await;
                }
            };
            // Content is kept current until the pod's containers have ended.
            tokio::select! {
                _ = async { tokio::join!(keeper.keep(ready), told) } => {}
                () = work.cancelled() => {}
            }
        });
    }

    pub(super) fn make_sandbox(&mut self) {
        self.sandbox = Sandbox::Creating;
        let spec = self.spec();
        let config = SandboxConfig {
            pod_uid: self.uid(),
            pod_name: format!("{}/{}", self.pod.metadata.namespace.as_deref().unwrap_or_default(), self.name()),
            hostname: resolv::hostname(&self.pod),
            host_network: spec.host_network.unwrap_or(false),
            resolv_conf: resolv::resolv_conf(&self.pod, &self.context.cluster_domain, self.context.dns_ip),
            extra_hosts: spec
                .host_aliases
                .iter()
                .flatten()
                .map(|alias| (alias.ip.clone(), alias.hostnames.clone().unwrap_or_default()))
                .collect(),
            sysctls: spec
                .security_context
                .as_ref()
                .and_then(|context| context.sysctls.as_ref())
                .into_iter()
                .flatten()
                .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
                .collect(),
            images: images(spec).cloned().collect(),
        };
        let (context, tell) = (Arc::clone(&self.context), self.tell.clone());
        self.jobs.spawn(async move {
            let _ = tell.send(Message::Sandbox(context.runtime.run_pod_sandbox(config).await)).await;
        });
    }

    pub(super) fn remove_sandbox(&mut self) {
        self.sandbox = Sandbox::Removing;
        let (context, tell, uid, directory) =
            (Arc::clone(&self.context), self.tell.clone(), self.uid(), self.directory.clone());
        let keep_files = self.ending == Some(Why::Stop);
        let log = logs::pod_directory(&self.context.state_dir, &self.pod);
        let keep_log = self.ending.is_none() || self.ending == Some(Why::Deadline);
        self.jobs.spawn(async move {
            let result = context.runtime.remove_pod_sandbox(&uid).await;
            // At the session's end the whole state directory goes at once.
            if result.is_ok() && !keep_files {
                let _ = tokio::task::spawn_blocking(move || {
                    remove(&directory);
                    if !keep_log {
                        remove(&log);
                    }
                })
                .await;
            }
            let _ = tell.send(Message::SandboxRemoved(result)).await;
        });
    }
}

fn remove(directory: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, directory = %directory.display(), "a pod's files could not be removed");
    }
}
