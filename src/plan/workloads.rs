//! Services and jobs: what they run, with everything that the file says about it checked.

use std::collections::BTreeMap;

use super::load::{Builder, Draft, Edge};
use super::references::Reader;
use super::{
    Cluster, EntryRef, EnvValue, EnvVar, Job, JobRestart, NodeId, NodeKind, NodeSpec, PolicyRule, Port, Resources,
    Service, User, VolumeMount, VolumeSource, Workload, ports, ready,
};
use crate::envfile::model::{
    EntryOf, EnvSetting, ImageText, JobFile, NeedList, Quantity, ResourcesFile, RestartWord, Rule, ServiceFile,
    UserSetting, VolumeFile,
};
use crate::envfile::{Map, Problem, Spanned, Template, TimeSpan, nearest};

/// The size of a named volume that says none.
const CLAIM_SIZE: &str = "1Gi";

/// The fields that services and jobs share, wherever they stand.
struct Common<'a> {
    image: &'a Spanned<ImageText>,
    command: &'a [Spanned<Template>],
    args: &'a [Spanned<Template>],
    env: Vec<(&'a Spanned<String>, &'a EnvSetting)>,
    volumes: Vec<(&'a Spanned<String>, &'a VolumeFile)>,
    needs: &'a NeedList,
    resources: Option<&'a ResourcesFile>,
    rbac: &'a [Rule],
    workdir: Option<&'a Spanned<String>>,
    user: Option<UserSetting>,
    grace: Option<TimeSpan>,
}

macro_rules! common {
    ($file:expr) => {
        Common {
            image: &$file.image,
            command: $file.command.as_ref().map_or(&[][..], |command| &command.0),
            args: &$file.args,
            env: $file.env.iter().collect(),
            volumes: $file.volumes.iter().collect(),
            needs: &$file.needs,
            resources: $file.resources.as_ref(),
            rbac: &$file.rbac,
            workdir: $file.workdir.as_ref(),
            user: $file.user,
            grace: $file.grace,
        }
    };
}

/// A service's node.
pub(super) fn service(
    builder: &mut Builder<'_>,
    name: &str,
    file: &ServiceFile,
    claims: &BTreeMap<String, String>,
) -> Draft {
    let (workload, edges) = workload(builder, name, &common!(file), claims);
    let ports: Vec<Port> = file.ports.iter().map(|(name, setting)| ports::port(&name.value, &setting.0)).collect();
    clashing_ports(builder, file, &ports);
    let ready = file.ready.as_ref().and_then(|ready| ready::ready(builder, name, ready, &ports));
    let replicas = file.replicas.map_or(1, |replicas| replicas.0);
    let spec = NodeSpec::Service(Box::new(Service { workload, ports, ready, replicas }));
    Draft { id: NodeId::new(NodeKind::Service, name), edges, spec }
}

/// A job's node.
pub(super) fn job(builder: &mut Builder<'_>, name: &str, file: &JobFile, claims: &BTreeMap<String, String>) -> Draft {
    let (workload, edges) = workload(builder, name, &common!(file), claims);
    let restart = match file.restart {
        None | Some(RestartWord::Never) => JobRestart::Never,
        Some(RestartWord::OnFailure) => JobRestart::OnFailure,
    };
    let retries = file.retries.map(|retries| retries.0);
    let spec = NodeSpec::Job(Box::new(Job { workload, retries, timeout: file.timeout, restart }));
    Draft { id: NodeId::new(NodeKind::Job, name), edges, spec }
}

fn clashing_ports(builder: &mut Builder<'_>, file: &ServiceFile, ports: &[Port]) {
    for (at, port) in ports.iter().enumerate() {
        let twin = ports[..at].iter().position(|other| other.port == port.port && other.protocol == port.protocol);
        if let Some(twin) = twin {
            let (span, first) = (file.ports.entries[at].0.span, file.ports.entries[twin].0.span);
            let message = format!("two ports of one service have the number {}", port.port);
            builder.problem(Problem::at(span, message).related(first, "the other one"));
        }
    }
}

fn workload(
    builder: &mut Builder<'_>,
    name: &str,
    common: &Common<'_>,
    claims: &BTreeMap<String, String>,
) -> (Workload, Vec<Edge>) {
    let mut edges = builder.needs(common.needs, name);
    image(builder, common);
    let line = |builder: &mut Builder<'_>, words: &[Spanned<Template>]| -> Vec<Template> {
        words.iter().map(|word| builder.check(word, Reader::PodPlain).clone()).collect()
    };
    let command = line(builder, common.command);
    let args = line(builder, common.args);
    let env = common.env.iter().filter_map(|(name, setting)| variable(builder, name, setting, &mut edges)).collect();
    let volumes = common.volumes.iter().filter_map(|(path, file)| volume(builder, path, file, claims)).collect();
    if let Some(Spanned { span, value }) = common.workdir
        && !value.starts_with('/')
    {
        let hint =
            "it is a directory in the container; a process image's `workdir` starts at the project root".to_owned();
        builder.problem(Problem::at(*span, format!("`{value}` is not an absolute path")).hint(Some(hint)));
    }
    let workload = Workload {
        image: common.image.value.text.clone(),
        command,
        args,
        env,
        workdir: common.workdir.map(|path| path.value.clone().into()),
        user: common.user.map(|user| User { uid: user.uid, gid: user.gid }),
        volumes,
        resources: common.resources.map(|file| resources(builder, file)).unwrap_or_default(),
        rbac: common.rbac.iter().map(|rule| policy_rule(builder, rule)).collect(),
        grace: common.grace,
    };
    (workload, edges)
}

/// The embedded cluster runs what the file maps to a process and, where there is an engine, other images; something must run.
fn image(builder: &mut Builder<'_>, common: &Common<'_>) {
    let Spanned { span, value } = common.image;
    let name = &value.text;
    let known = builder.images.get(name).cloned();
    if builder.cluster != Cluster::Embedded || builder.file.images.failed.iter().any(|failed| failed == name) {
        return;
    }
    let problem = match known.as_ref().map(|image| image.process.as_ref()) {
        // The engine's to run, and to refuse.
        None | Some(None) if builder.request.engine => return,
        None => {
            let near = nearest(name, builder.file.images.names()).map(|near| format!("did you mean `{near}`?"));
            let how = format!(
                "say what runs it here: `images: {{ {name}: {{ process: {{ entrypoint: [PROGRAM] }} }} }}`, or start Docker, which runs any image"
            );
            Problem::at(*span, format!("the embedded cluster doesn't know the image `{name}`")).hint(near.or(Some(how)))
        }
        Some(None) => {
            Problem::at(*span, format!("the image `{name}` has no `process`, so the embedded cluster can't run it"))
                .hint(Some(
                    "add `process:` to it under `images`, start Docker, or choose another cluster (`--cluster kind`)"
                        .to_owned(),
                ))
        }
        Some(Some(process)) => {
            if !process.entrypoint.is_empty()
                || !common.command.is_empty()
                || !common.args.is_empty()
                || !builder.complete
            {
                return;
            }
            Problem::at(
                *span,
                format!(
                    "nothing to run: the image `{name}` has no entrypoint, and there is no `command` and no `args`"
                ),
            )
            .hint(Some("give the image an `entrypoint`, or a `command` to what uses it".to_owned()))
        }
    };
    builder.problem(problem);
}

fn variable(
    builder: &mut Builder<'_>,
    name: &Spanned<String>,
    setting: &EnvSetting,
    edges: &mut Vec<Edge>,
) -> Option<EnvVar> {
    let value = match setting {
        EnvSetting::Text(text) => {
            edges.extend(builder.key_edges(text));
            EnvValue::Value(builder.check(text, Reader::PodVariable).clone())
        }
        EnvSetting::From(source) => match (&source.key, &source.secret, &source.config_map, &source.field_ref) {
            (Some(key), None, None, None) => {
                edges.push(builder.key_named(key)?);
                EnvValue::Key(key.value.clone())
            }
            (None, Some(entry), None, None) => EnvValue::Secret(entry_ref(entry)),
            (None, None, Some(entry), None) => EnvValue::ConfigMap(entry_ref(entry)),
            (None, None, None, Some(field)) => {
                field_path(builder, field);
                EnvValue::FieldRef(field.value.clone())
            }
            _ => {
                let message = "a variable comes from exactly one of `key`, `secret`, `configMap` and `fieldRef`";
                builder.problem(Problem::at(source.span, message));
                return None;
            }
        },
    };
    Some(EnvVar { name: name.value.clone(), value })
}

fn entry_ref(entry: &EntryOf) -> EntryRef {
    EntryRef { name: entry.name.text.clone(), key: entry.key.text.clone() }
}

/// The fields that the downward API gives to variables: `validEnvDownwardAPIFieldPathExpressions` in
/// kubernetes/pkg/apis/core/validation/validation.go.
const POD_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn field_path(builder: &mut Builder<'_>, field: &Spanned<String>) {
    let subscript = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|prefix| field.value.strip_prefix(prefix).is_some_and(|rest| rest.len() > 2 && rest.ends_with("']")));
    if !subscript && !POD_FIELDS.contains(&field.value.as_str()) {
        let hint = crate::envfile::suggestion(&field.value, POD_FIELDS, "the fields are");
        builder.problem(Problem::at(field.span, format!("a pod's variables can't be `{}`", field.value)).hint(hint));
    }
}

fn volume(
    builder: &mut Builder<'_>,
    path: &Spanned<String>,
    file: &VolumeFile,
    claims: &BTreeMap<String, String>,
) -> Option<VolumeMount> {
    let given = [
        file.name.is_some(),
        file.host_path.is_some(),
        file.config_map.is_some(),
        file.secret.is_some(),
        file.files.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        let message = "a volume is at most one of `name`, `hostPath`, `configMap`, `secret` and `files`";
        builder.problem(Problem::at(file.span, message));
        return None;
    }
    if let Some(size) = &file.size
        && given.contains(&true)
        && file.name.is_none()
    {
        builder.problem(Problem::at(size.span, "only named and empty volumes have a `size`"));
    }
    let source = if let Some(name) = &file.name {
        let name = name.value.text.clone();
        let size = claims.get(&name).cloned().unwrap_or_else(|| CLAIM_SIZE.to_owned());
        VolumeSource::Claim { name, size }
    } else if let Some(path) = &file.host_path {
        VolumeSource::HostPath(builder.absolute(&path.value.text))
    } else if let Some(name) = &file.config_map {
        VolumeSource::ConfigMap(name.value.text.clone())
    } else if let Some(name) = &file.secret {
        VolumeSource::Secret(name.value.text.clone())
    } else if let Some(files) = &file.files {
        VolumeSource::Files(inline_files(builder, files))
    } else {
        VolumeSource::Empty { size: file.size.as_ref().map(|size| size.value.0.clone()) }
    };
    Some(VolumeMount { path: path.value.clone(), read_only: file.read_only, source })
}

fn inline_files<K>(builder: &mut Builder<'_>, files: &Map<K, Spanned<Template>>) -> BTreeMap<String, Template> {
    files.iter().map(|(name, text)| (name.value.clone(), builder.check(text, Reader::PodPlain).clone())).collect()
}

/// The size of each named volume: what the uses that give one agree on.
pub(super) fn claim_sizes(builder: &mut Builder<'_>) -> BTreeMap<String, String> {
    let file = builder.file;
    let volumes = (file.services.iter().flat_map(|(_, service)| service.volumes.iter()))
        .chain(file.jobs.iter().flat_map(|(_, job)| job.volumes.iter()));
    let mut sizes: BTreeMap<String, (String, crate::envfile::Span)> = BTreeMap::new();
    for (_, volume) in volumes {
        let (Some(name), Some(size)) = (&volume.name, &volume.size) else { continue };
        match sizes.get(&name.value.text) {
            None => {
                sizes.insert(name.value.text.clone(), (size.value.0.clone(), size.span));
            }
            Some((first, _)) if *first == size.value.0 => {}
            Some((first, span)) => {
                let message = format!("the volume `{}` has two sizes, {first} and {}", name.value.text, size.value.0);
                let problem = Problem::at(size.span, message).related(*span, "the other one");
                builder.problem(problem);
            }
        }
    }
    sizes.into_iter().map(|(name, (size, _))| (name, size)).collect()
}

fn resources(builder: &mut Builder<'_>, file: &ResourcesFile) -> Resources {
    if let Some(memory) = &file.memory
        && memory.value.0.ends_with('m')
    {
        let hint = format!("did you mean `{}Mi`?", memory.value.0.trim_end_matches('m'));
        let message = format!("`{}` is thousandths of a byte", memory.value.0);
        builder.problem(Problem::at(memory.span, message).hint(Some(hint)));
    }
    let text = |quantity: &Option<Spanned<Quantity>>| quantity.as_ref().map(|quantity| quantity.value.0.clone());
    Resources { memory: text(&file.memory), cpu: text(&file.cpu) }
}

fn policy_rule(builder: &mut Builder<'_>, rule: &Rule) -> PolicyRule {
    for (field, list) in [("resources", &rule.resources), ("verbs", &rule.verbs)] {
        if list.value.is_empty() {
            builder.problem(Problem::at(list.span, format!("`{field}` must not be empty")));
        }
    }
    PolicyRule {
        api_groups: rule.api_groups.clone().unwrap_or_else(|| vec![String::new()]),
        resources: rule.resources.value.clone(),
        verbs: rule.verbs.value.clone(),
        resource_names: rule.resource_names.clone(),
    }
}
