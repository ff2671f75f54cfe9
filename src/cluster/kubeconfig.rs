//! The user's kubeconfig: read, cut down to one context, never written.
//!
//! Which files: `KUBECONFIG` (several, separated by `:`, earlier ones win), else `~/.kube/config`, as kubectl has it. What is
//! taken out refers to the same certificates and credential plugins by absolute paths, so credentials that expire are renewed
//! as the user set it up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};

use super::{ClusterError, credentials, multiplexed};

/// The variable that names the files.
const VARIABLE: &str = "KUBECONFIG";

/// A kubeconfig of one context and nothing else, with `namespace` as its default.
///
/// # Errors
/// When there is no such file or context, or what it refers to isn't there.
pub fn of_context(
    name: &str,
    variables: &BTreeMap<String, String>,
    namespace: &str,
) -> Result<Kubeconfig, ClusterError> {
    let (all, files) = read(variables)?;
    cut(all, name, namespace, &files)
}

/// The current context of a file that a cluster's own program wrote, with `namespace` as its default.
///
/// # Errors
/// When it is no kubeconfig.
pub fn of_file(file: &Path, namespace: &str) -> Result<Kubeconfig, ClusterError> {
    let attempt = || format!("reading {}", file.display());
    let all = Kubeconfig::read_from(file).map_err(|source| ClusterError::unavailable(attempt(), source))?;
    let name = all.current_context.clone().unwrap_or_default();
    cut(all, &name, namespace, &[file.to_owned()])
}

/// The files that `variables` name. Relative paths stay what they are: the caller makes them absolute ([`make_absolute`]).
fn files(variables: &BTreeMap<String, String>) -> Vec<PathBuf> {
    match variables.get(VARIABLE).filter(|list| !list.is_empty()) {
        Some(list) => std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => variables.get("HOME").map(|home| Path::new(home).join(".kube/config")).into_iter().collect(),
    }
}

/// Makes `KUBECONFIG` absolute: the agent has another working directory than who started it.
pub fn make_absolute(variables: &mut BTreeMap<String, String>, working_directory: &Path) {
    if let Some(list) = variables.get_mut(VARIABLE) {
        *list = absolute(list, working_directory);
    }
}

fn absolute(list: &str, working_directory: &Path) -> String {
    let paths = std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty());
    let joined = std::env::join_paths(paths.map(|path| working_directory.join(path)));
    joined.map_or_else(|_not_a_list| list.to_owned(), |list| list.to_string_lossy().into_owned())
}

fn read(variables: &BTreeMap<String, String>) -> Result<(Kubeconfig, Vec<PathBuf>), ClusterError> {
    let files = files(variables);
    let mut all = Kubeconfig::default();
    let mut found = false;
    for file in &files {
        // As kubectl does: a file of the list that isn't there is not an error by itself.
        if !file.exists() {
            continue;
        }
        let attempt = || format!("reading {}", file.display());
        let one = Kubeconfig::read_from(file).map_err(|source| ClusterError::unavailable(attempt(), source))?;
        all = all.merge(one).map_err(|source| ClusterError::unavailable(attempt(), source))?;
        found = true;
    }
    if found {
        return Ok((all, files));
    }
    Err(ClusterError::Unsupported {
        what: format!("there is no kubeconfig: looked for {}", listed(&files)),
        cure: format!("set {VARIABLE} to the file that has the context"),
    })
}

fn listed(files: &[PathBuf]) -> String {
    if files.is_empty() {
        return "nothing, since neither KUBECONFIG nor HOME is set".to_owned();
    }
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn cut(all: Kubeconfig, name: &str, namespace: &str, files: &[PathBuf]) -> Result<Kubeconfig, ClusterError> {
    let missing = |what: String| ClusterError::Unsupported { what, cure: contexts(&all) };
    let named = all.contexts.iter().find(|context| context.name == name);
    let Some((mut named, context)) = named.and_then(|named| Some((named.clone(), named.context.clone()?))) else {
        return Err(missing(format!("there is no context {name:?} in {}", listed(files))));
    };
    let cluster = all.clusters.iter().find(|cluster| cluster.name == context.cluster).cloned();
    let Some(cluster) = cluster else {
        return Err(missing(format!("context {name:?} refers to cluster {:?}, which isn't there", context.cluster)));
    };
    let user = context.user.as_deref().unwrap_or_default();
    let auth_infos: Vec<_> = all.auth_infos.iter().filter(|info| info.name == user).cloned().collect();
    if auth_infos.is_empty() && !user.is_empty() {
        return Err(missing(format!("context {name:?} refers to user {user:?}, who isn't there")));
    }
    let mut context = context;
    context.namespace = Some(namespace.to_owned());
    named.context = Some(context);
    Ok(Kubeconfig {
        clusters: vec![cluster],
        auth_infos,
        contexts: vec![named],
        current_context: Some(name.to_owned()),
        api_version: Some("v1".to_owned()),
        kind: Some("Config".to_owned()),
        ..Kubeconfig::default()
    })
}

fn contexts(all: &Kubeconfig) -> String {
    match all.contexts.as_slice() {
        [] => "it has no contexts at all".to_owned(),
        contexts => {
            let names: Vec<&str> = contexts.iter().map(|context| context.name.as_str()).collect();
            format!("there are: {}", names.join(", "))
        }
    }
}

/// The address of a kubeconfig's only cluster, for people.
pub fn server(kubeconfig: &Kubeconfig) -> &str {
    let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref());
    cluster.and_then(|cluster| cluster.server.as_deref()).unwrap_or("(no address)")
}

/// A client by a kubeconfig's current context, in `namespace`. Credential plugins are run here.
///
/// # Errors
/// When it doesn't describe a usable cluster, or its credentials cannot be had.
pub async fn client(kubeconfig: Kubeconfig, namespace: &str) -> Result<kube::Client, ClusterError> {
    let attempt = "making a client from the session's kubeconfig";
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &options)
        .await
        .map_err(|source| ClusterError::unavailable(attempt, source))?;
    namespace.clone_into(&mut config.default_namespace);
    if let Some(exec) = &mut config.auth_info.exec {
        // Nobody is there to answer it: the agent has no terminal. What it complains of is then ours to tell.
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref());
    let proxy = cluster.and_then(|cluster| cluster.proxy_url.clone()).filter(|url| !url.is_empty());
    let made = if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
        // A plugin may take its time.
        let made = tokio::task::spawn_blocking(move || multiplexed::client(config, proxy.as_deref())).await;
        made.map_err(|source| ClusterError::unavailable(attempt, source))?
    } else {
        multiplexed::client(config, proxy.as_deref())
    };
    made.map_err(|error| credentials::explain(&kubeconfig, attempt, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
apiVersion: v1
kind: Config
clusters:
- { name: one, cluster: { server: "https://one:6443" } }
- { name: two, cluster: { server: "https://two:6443" } }
users:
- { name: me, user: { token: secret } }
- { name: you, user: { token: other } }
contexts:
- { name: dev, context: { cluster: one, user: me, namespace: theirs } }
- { name: prod, context: { cluster: two, user: you } }
- { name: broken, context: { cluster: three, user: me } }
- { name: nobody, context: { cluster: one, user: someone } }
current-context: prod
"#;

    fn of(name: &str) -> Result<Kubeconfig, String> {
        let all = Kubeconfig::from_yaml(TWO).expect("a kubeconfig");
        cut(all, name, "mine", &[PathBuf::from("/k")])
            .map_err(|error| format!("{error}; {}", error.hint().unwrap_or_default()))
    }

    #[test]
    fn only_what_the_context_needs_is_taken() {
        let text = serde_json::to_string(&of("dev").expect("a context")).expect("JSON");
        assert!(text.contains("https://one:6443") && text.contains("secret") && text.contains(r#""namespace":"mine""#));
        assert!(!text.contains("two") && !text.contains("other") && !text.contains("theirs"), "{text}");
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is() {
        let there = "there are: dev, prod, broken, nobody";
        assert_eq!(of("stage").expect_err("absent"), format!("there is no context \"stage\" in /k; {there}"));
        let error = of("broken").expect_err("no cluster");
        assert_eq!(error, format!("context \"broken\" refers to cluster \"three\", which isn't there; {there}"));
        let error = of("nobody").expect_err("no user");
        assert_eq!(error, format!("context \"nobody\" refers to user \"someone\", who isn't there; {there}"));
    }

    #[test]
    fn relative_files_are_the_callers() {
        assert_eq!(absolute("a/b:/c", Path::new("/work")), "/work/a/b:/c");
        let variables =
            BTreeMap::from([(VARIABLE.to_owned(), "/a::/b".to_owned()), ("HOME".to_owned(), "/h".to_owned())]);
        assert_eq!(files(&variables), [PathBuf::from("/a"), PathBuf::from("/b")]);
        let variables = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
        assert_eq!(files(&variables), [PathBuf::from("/h/.kube/config")]);
    }
}
