//! Services and jobs as they stand in the file.

use super::choice::{EnvSetting, HttpCheck, NeedList, PortSetting, TcpCheck, UserSetting};
use crate::envfile::TimeSpan;
use crate::envfile::decode::{Map, Number, Spanned};
use crate::envfile::names::{
    AnyText, Command, CommandTemplate, ContainerPath, FileName, ImageName, Name, PortName, Quantity, VariableName,
};
use crate::envfile::record::{record, words};
use crate::envfile::template::Template;

record! {
    /// What runs until the session ends: a Deployment, and a Service if it has ports.
    pub struct ServiceFile, "a service" {
        /// The image's name: one under `images`, or any that the cluster can pull.
        image("image"): Spanned<Name<ImageName>>,
        /// Overrides the image's entrypoint; no shell reads it.
        command("command"): Option<CommandTemplate>,
        /// The program's arguments; they override the image's.
        args("args"): Vec<Spanned<Template>>,
        /// What it listens on: a name and a number, the same in every session. The first one is the service's own.
        ports("ports"): Map<PortName, PortSetting>,
        /// Its variables; never the caller's.
        env("env"): Map<VariableName, EnvSetting>,
        /// What is mounted, by its absolute path in the container. `{}` is an empty directory.
        volumes("volumes"): Map<ContainerPath, VolumeFile>,
        /// What must be ready (a job: completed) before it starts: a list, or a mapping from names to `ready`, `started` or `completed`.
        needs("needs"): NeedList,
        /// When a replica works. Without it: as soon as it runs.
        ready("ready"): Option<ReadyFile>,
        /// How many pods; 1 unless it says so.
        replicas("replicas"): Option<Number<0, 1000>>,
        /// What each pod is guaranteed, and the most that it gets.
        resources("resources"): Option<ResourcesFile>,
        /// What it may do in the session's namespace: the rules of a Role. It gets a service account of its own.
        rbac("rbac"): Vec<Rule>,
        /// Where it starts, absolute in the container; the image's own unless it says so.
        workdir("workdir"): Option<Spanned<String>>,
        /// The uid, or `uid:gid`, that it runs as; the image's own unless it says so.
        user("user"): Option<UserSetting>,
        /// From SIGTERM to SIGKILL when it is stopped; 30s unless it says so.
        grace("grace"): Option<TimeSpan>,
    }
}

record! {
    /// What runs once, to success: a Job. It runs again when it has changed.
    pub struct JobFile, "a job" {
        /// The image's name: one under `images`, or any that the cluster can pull.
        image("image"): Spanned<Name<ImageName>>,
        /// Overrides the image's entrypoint; no shell reads it.
        command("command"): Option<CommandTemplate>,
        /// The program's arguments; they override the image's.
        args("args"): Vec<Spanned<Template>>,
        /// Its variables; never the caller's.
        env("env"): Map<VariableName, EnvSetting>,
        /// What is mounted, by its absolute path in the container. `{}` is an empty directory.
        volumes("volumes"): Map<ContainerPath, VolumeFile>,
        /// What must be ready (a job: completed) before it starts: a list, or a mapping from names to `ready`, `started` or `completed`.
        needs("needs"): NeedList,
        /// How often a failed run is tried again; twice unless it says so, after 10 and 20 seconds.
        retries("retries"): Option<Number<0, 1000>>,
        /// How long all its runs may take together.
        timeout("timeout"): Option<TimeSpan>,
        /// Whether a failed container is started again in its pod (`onFailure`) or in a new pod (`never`, the default: the failed one keeps its logs).
        restart("restart"): Option<RestartWord>,
        /// What the pod is guaranteed, and the most that it gets.
        resources("resources"): Option<ResourcesFile>,
        /// What it may do in the session's namespace: the rules of a Role. It gets a service account of its own.
        rbac("rbac"): Vec<Rule>,
        /// Where it starts, absolute in the container; the image's own unless it says so.
        workdir("workdir"): Option<Spanned<String>>,
        /// The uid, or `uid:gid`, that it runs as; the image's own unless it says so.
        user("user"): Option<UserSetting>,
        /// From SIGTERM to SIGKILL when it is stopped; 30s unless it says so.
        grace("grace"): Option<TimeSpan>,
    }
}

words! {
    /// A job's restart policy.
    pub enum RestartWord {
        /// A new pod for each try.
        Never = "never",
        /// The same pod.
        OnFailure = "onFailure",
    }
}

words! {
    /// What a needed node must have reached.
    pub enum NeedCondition {
        /// It works.
        Ready = "ready",
        /// Its containers run.
        Started = "started",
        /// It has ended successfully.
        Completed = "completed",
    }
}

words! {
    /// A transport protocol.
    pub enum ProtocolWord {
        /// The default.
        Tcp = "TCP",
        /// Datagrams.
        Udp = "UDP",
    }
}

words! {
    /// The scheme of a readiness request.
    pub enum SchemeWord {
        /// The default.
        Http = "http",
        /// The certificate isn't checked.
        Https = "https",
    }
}

record! {
    /// A port in its long form.
    pub struct PortFields, "a port" {
        /// The port that others use.
        port("port"): Number<1, 65535>,
        /// The port that the program listens on; the same unless it says so.
        target_port("targetPort"): Option<Number<1, 65535>>,
        /// `TCP` (the default) or `UDP`.
        protocol("protocol"): Option<ProtocolWord>,
        /// The application's protocol, which is also the scheme of the port's URLs. Not needed for ports called `http…` or `https…`.
        app_protocol("appProtocol"): Option<Spanned<String>>,
    }
}

record! {
    /// A variable that comes from somewhere else: exactly one of these.
    pub struct EnvSource, "a variable", span {
        /// A key of this file.
        key("key"): Option<Spanned<String>>,
        /// An entry of a Secret.
        secret("secret"): Option<EntryOf>,
        /// An entry of a ConfigMap.
        config_map("configMap"): Option<EntryOf>,
        /// A field of the pod, such as `metadata.name` or `status.podIP`.
        field_ref("fieldRef"): Option<Spanned<String>>,
    }
}

record! {
    /// One entry of a Secret or ConfigMap in the session's namespace.
    pub struct EntryOf, "an entry's reference" {
        /// The object's name.
        name("name"): Name<AnyText>,
        /// The entry's key.
        key("key"): Name<FileName>,
    }
}

record! {
    /// What is mounted: at most one of `name`, `hostPath`, `configMap`, `secret` and `files`; an empty directory with none of them.
    pub struct VolumeFile, "a volume", span {
        /// A volume of the session that outlives pods, shared by all that give the same name.
        name("name"): Option<Spanned<Name<super::DnsLabel>>>,
        /// A directory or file of this machine, relative to the project root.
        host_path("hostPath"): Option<Spanned<Name<AnyText>>>,
        /// Every entry of a ConfigMap, as a file.
        config_map("configMap"): Option<Spanned<Name<AnyText>>>,
        /// Every entry of a Secret, as a file.
        secret("secret"): Option<Spanned<Name<AnyText>>>,
        /// Files, by their names, from right here.
        files("files"): Option<Map<FileName, Spanned<Template>>>,
        /// The size of a named volume (1Gi unless it says so) or the limit of an empty one.
        size("size"): Option<Spanned<Quantity>>,
        /// Whether writes fail.
        read_only("readOnly"): bool,
    }
}

record! {
    /// When a replica works: exactly one of `http`, `tcp` and `exec`, tried as soon as it runs.
    pub struct ReadyFile, "a readiness check", span {
        /// A GET that answers 200–399: a path, or its long form.
        http("http"): Option<HttpCheck>,
        /// A port that accepts connections: its name, or `{ port: NAME }`.
        tcp("tcp"): Option<TcpCheck>,
        /// A command in the container that exits 0.
        exec("exec"): Option<Command>,
        /// Between two tries, in whole seconds; 1s unless it says so.
        interval("interval"): Option<Spanned<TimeSpan>>,
        /// For one try, in whole seconds; 1s unless it says so.
        timeout("timeout"): Option<Spanned<TimeSpan>>,
        /// Failed tries in a row after which a replica is no longer ready; 3 unless it says so.
        failures("failures"): Option<Number<1, 1000>>,
        /// How long it may take to start, after which it is killed and started again; as long as it takes unless it says so.
        startup("startup"): Option<Spanned<TimeSpan>>,
    }
}

record! {
    /// A readiness request in its long form.
    pub struct HttpFields, "an HTTP check", span {
        /// The path; `/` unless it says so.
        path("path"): Option<Spanned<String>>,
        /// The port's name; the service's first `http…` port, else its first, unless it says so.
        port("port"): Option<Spanned<String>>,
        /// `http` or `https`; by the port unless it says so.
        scheme("scheme"): Option<SchemeWord>,
        /// Headers of the request.
        headers("headers"): Map<AnyText, Spanned<String>>,
    }
}

record! {
    /// What a pod is guaranteed, and the most that it gets: Kubernetes' requests and limits at once.
    pub struct ResourcesFile, "resources" {
        /// Memory, such as `256Mi`.
        memory("memory"): Option<Spanned<Quantity>>,
        /// Processors, such as `500m` or `2`.
        cpu("cpu"): Option<Spanned<Quantity>>,
    }
}

record! {
    /// One rule of a Role.
    pub struct Rule, "an rbac rule" {
        /// API groups; `""` is the core group, and the default.
        api_groups("apiGroups"): Option<Vec<String>>,
        /// Resources by their plural names, subresources as `pods/log`.
        resources("resources"): Spanned<Vec<String>>,
        /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, … or `*`.
        verbs("verbs"): Spanned<Vec<String>>,
        /// Only the objects of these names.
        resource_names("resourceNames"): Vec<String>,
    }
}
