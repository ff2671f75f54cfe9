//! The user's Docker configuration, read only: where the engine is, and what opens which registry.
//!
//! As the docker CLI reads it (docker/cli, `cli/config`): `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; credentials are in
//! `auths`, or with a helper program `docker-credential-NAME` that `credHelpers` (for one registry) or `credsStore` names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::DockerError;

/// Where an engine is by default.
const USUAL: &str = "unix:///var/run/docker.sock";
/// What Docker calls its own registry in the configuration.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
    current_context: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What a helper answers (docker/docker-credential-helpers, `credentials`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

fn directory(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))
}

fn read<T: serde::de::DeserializeOwned + Default>(path: &Path) -> Result<T, DockerError> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|source| DockerError::Config { file: path.display().to_string(), source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(source) => Err(DockerError::File { what: format!("reading {}", path.display()), source }),
    }
}

fn config(variables: &BTreeMap<String, String>) -> Result<Config, DockerError> {
    directory(variables).map_or_else(|| Ok(Config::default()), |directory| read(&directory.join("config.json")))
}

/// Where the engine is: `DOCKER_HOST`, else the current Docker context (`DOCKER_CONTEXT`, or the configuration's), else the usual socket.
///
/// # Errors
/// When the configuration cannot be read.
pub fn address(variables: &BTreeMap<String, String>) -> Result<String, DockerError> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
    if let Some(host) = set("DOCKER_HOST") {
        return Ok(host);
    }
    let context = match set("DOCKER_CONTEXT") {
        Some(name) => Some(name),
        None => config(variables)?.current_context,
    };
    let Some((name, directory)) = context.filter(|name| name != "default").zip(directory(variables)) else {
        return Ok(USUAL.to_owned());
    };
    // The CLI keeps a context under the digest of its name (`cli/context/store`).
    let digest: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let meta: serde_json::Value = read(&directory.join("contexts/meta").join(digest).join("meta.json"))?;
    Ok(meta["Endpoints"]["docker"]["Host"].as_str().unwrap_or(USUAL).to_owned())
}

/// The registry that an image's name begins with, as the configuration calls it (distribution/reference, `normalize.go`: a first part
/// with a dot, a colon or `localhost` is a host).
pub fn registry(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "docker.io" | "index.docker.io" => DOCKER_HUB.to_owned(),
            host => host.to_owned(),
        },
        _ => DOCKER_HUB.to_owned(),
    }
}

/// What opens one registry; `None` where the user has nothing for it.
///
/// # Errors
/// When the configuration cannot be read. A helper that fails is as good as none.
pub async fn credentials(
    registry: &str,
    variables: &BTreeMap<String, String>,
) -> Result<Option<DockerCredentials>, DockerError> {
    let config = config(variables)?;
    Ok(one(&config, registry, variables).await)
}

/// The user's credentials for the registries of these images, as Kubernetes reads them (`kubernetes.io/dockerconfigjson`).
///
/// # Errors
/// When the configuration cannot be read, or has nothing for one of them that a kubelet could use.
pub async fn pull_secret(
    images: &[String],
    variables: &BTreeMap<String, String>,
) -> Result<serde_json::Value, DockerError> {
    let mut auths = serde_json::Map::new();
    for image in images {
        let registry = registry(image);
        if auths.contains_key(&registry) {
            continue;
        }
        let found = credentials(&registry, variables).await?.unwrap_or_default();
        let token = found.identitytoken.is_some_and(|token| !token.is_empty());
        // Beside a token Docker writes the user with an empty password.
        let password = found.password.filter(|password| !password.is_empty() && !token);
        let Some((username, password)) = found.username.zip(password) else {
            let registry = host(&registry).to_owned();
            return Err(DockerError::NoLogin { image: image.clone(), registry, token });
        };
        auths.insert(registry, serde_json::json!({ "username": username, "password": password }));
    }
    Ok(serde_json::json!({ "auths": auths }))
}

/// What opens every registry that the user has something for: a build may need any of them for what it is `FROM`.
///
/// # Errors
/// As [`credentials`].
pub async fn all_credentials(
    variables: &BTreeMap<String, String>,
) -> Result<HashMap<String, DockerCredentials>, DockerError> {
    let config = config(variables)?;
    let mut found = HashMap::new();
    let registries: BTreeSet<&String> = config.auths.keys().chain(config.cred_helpers.keys()).collect();
    for registry in registries {
        if let Some(credentials) = one(&config, registry, variables).await {
            found.insert(registry.clone(), credentials);
        }
    }
    Ok(found)
}

async fn one(config: &Config, registry: &str, variables: &BTreeMap<String, String>) -> Option<DockerCredentials> {
    let helper = config.cred_helpers.get(registry).or(config.creds_store.as_ref()).filter(|name| !name.is_empty());
    let serveraddress = Some(registry.to_owned());
    if let Some(helper) = helper {
        let Helped { username, secret } = ask(helper, registry, variables).await?;
        // A helper marks an identity token so.
        return Some(if username == "<token>" {
            DockerCredentials { identitytoken: Some(secret), serveraddress, ..DockerCredentials::default() }
        } else {
            DockerCredentials {
                username: Some(username),
                password: Some(secret),
                serveraddress,
                ..DockerCredentials::default()
            }
        });
    }
    // Docker writes hosts with and without a scheme.
    let auth = config.auths.iter().find(|(key, _)| host(key) == host(registry)).map(|(_, auth)| auth)?;
    let decoded = auth.auth.as_deref().and_then(|auth| STANDARD.decode(auth.trim()).ok());
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) = match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => (Some(user.to_owned()), Some(password.trim_end_matches('\0').to_owned())),
        None => (auth.username.clone(), auth.password.clone()),
    };
    (username.is_some() || auth.identitytoken.is_some()).then(|| DockerCredentials {
        username,
        password,
        identitytoken: auth.identitytoken.clone(),
        serveraddress,
        ..DockerCredentials::default()
    })
}

/// The same credentials under the names by which BuildKit asks for them: hosts, and of Docker's own registry another one (moby/buildkit,
/// `session/auth/authprovider`).
#[cfg(any(feature = "buildkit", test))]
pub fn by_host(credentials: HashMap<String, DockerCredentials>) -> HashMap<String, DockerCredentials> {
    let renamed =
        |registry: &str| if registry == DOCKER_HUB { "registry-1.docker.io" } else { host(registry) }.to_owned();
    credentials.into_iter().map(|(registry, found)| (renamed(&registry), found)).collect()
}

fn host(registry: &str) -> &str {
    let host = registry.trim_start_matches("https://").trim_start_matches("http://");
    if registry == DOCKER_HUB { host } else { host.split('/').next().unwrap_or(host) }
}

async fn ask(helper: &str, registry: &str, variables: &BTreeMap<String, String>) -> Option<Helped> {
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .env_clear()
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut input = child.stdin.take()?;
    input.write_all(registry.as_bytes()).await.ok()?;
    drop(input);
    let output = child.wait_with_output().await.ok().filter(|output| output.status.success())?;
    serde_json::from_slice(&output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(directory: &Path, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> =
            [("DOCKER_CONFIG", directory.to_str().expect("UTF-8"))].iter().chain(more).map(own).collect();
        variables.entry("PATH".to_owned()).or_insert_with(|| std::env::var("PATH").unwrap_or_default());
        variables
    }

    fn own(pair: &(&str, &str)) -> (String, String) {
        (pair.0.to_owned(), pair.1.to_owned())
    }

    #[test]
    fn the_engine_is_where_docker_would_look() {
        let directory = tempfile::tempdir().expect("a directory");
        let of = |more: &[(&str, &str)]| address(&variables(directory.path(), more)).expect("an address");
        assert_eq!(of(&[]), USUAL);
        let digest: String = Sha256::digest(b"colima").iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = directory.path().join("contexts/meta").join(digest);
        std::fs::create_dir_all(&meta).expect("made");
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints": {"docker": {"Host": "unix:///c.sock"}}}"#)
            .expect("written");
        std::fs::write(directory.path().join("config.json"), r#"{"currentContext": "colima"}"#).expect("written");
        assert_eq!(of(&[]), "unix:///c.sock");
        assert_eq!(of(&[("DOCKER_CONTEXT", "default")]), USUAL);
        assert_eq!(of(&[("DOCKER_HOST", "tcp://h:1")]), "tcp://h:1");
    }

    #[test]
    fn a_registry_is_told_from_a_name() {
        assert_eq!(registry("postgres:17"), DOCKER_HUB);
        assert_eq!(registry("team/api"), DOCKER_HUB);
        assert_eq!(registry("docker.io/team/api"), DOCKER_HUB);
        assert_eq!(registry("localhost:5000/api"), "localhost:5000");
        assert_eq!(registry("ghcr.io/team/api:1"), "ghcr.io");
    }

    #[tokio::test]
    async fn credentials_come_from_the_file_or_a_helper() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let helper = directory.path().join("docker-credential-vault");
        // It answers for one registry only, as `docker-credential-pass` does.
        let script = "#!/bin/sh\nread -r host\n[ \"$host\" = b.example ] || exit 1\necho '{\"Username\": \"u\", \"Secret\": \"s\"}'\n";
        std::fs::write(&helper, script).expect("written");
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let text = format!(
            r#"{{"auths": {{"https://a.example": {{"auth": "{}"}}}}, "credHelpers": {{"b.example": "vault", "c.example": "vault"}}}}"#,
            STANDARD.encode("me:pass:word")
        );
        std::fs::write(directory.path().join("config.json"), text).expect("written");
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap_or_default());
        let variables = variables(directory.path(), &[("PATH", &path)]);
        let of = async |registry: &str| {
            let found = credentials(registry, &variables).await.expect("readable");
            found.map(|found| (found.username.unwrap_or_default(), found.password.unwrap_or_default()))
        };
        assert_eq!(of("a.example").await, Some(("me".to_owned(), "pass:word".to_owned())));
        assert_eq!(of("b.example").await, Some(("u".to_owned(), "s".to_owned())));
        assert_eq!(of("c.example").await, None);
        assert_eq!(of("d.example").await, None);
        assert_eq!(all_credentials(&variables).await.expect("readable").len(), 2);
    }

    #[tokio::test]
    async fn nodes_get_what_opens_the_registries_of_their_images() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = serde_json::json!({ "auths": {
            "https://a.example": { "auth": STANDARD.encode("me:word") },
            DOCKER_HUB: { "username": "hub", "password": "hubs" },
            // As `docker login` writes it.
            "b.example": { "auth": STANDARD.encode("me:"), "identitytoken": "t" },
            "e.example": { "username": "me" },
            "c.example": { "auth": STANDARD.encode("other:registrys") },
        }});
        std::fs::write(directory.path().join("config.json"), text.to_string()).expect("written");
        let variables = variables(directory.path(), &[]);
        let of = async |images: &[&str]| {
            pull_secret(&images.iter().map(|&image| image.to_owned()).collect::<Vec<_>>(), &variables).await
        };
        assert_eq!(
            of(&["a.example/x", "a.example/y:1", "postgres"]).await.expect("both"),
            serde_json::json!({ "auths": {
                "a.example": { "username": "me", "password": "word" },
                DOCKER_HUB: { "username": "hub", "password": "hubs" },
            }})
        );
        for (image, words) in [
            ("b.example/x", "a token that Kubernetes cannot use for b.example"),
            ("d.example/x", "no credentials for d.example: there is nothing for `imagePullSecret` of \"d.example/x\""),
            ("e.example/x", "no credentials for e.example"),
        ] {
            let error = of(&["a.example/x", image]).await.expect_err("nothing to give");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn buildkit_finds_credentials_under_its_own_names() {
        let configured = [DOCKER_HUB, "https://a.example/v2/", "localhost:5000"];
        let configured = configured.map(|registry| (registry.to_owned(), DockerCredentials::default()));
        let mut names: Vec<String> = by_host(configured.into()).into_keys().collect();
        names.sort();
        assert_eq!(names, ["a.example", "localhost:5000", "registry-1.docker.io"]);
    }
}
