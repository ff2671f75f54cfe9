//! Images, manifests, keys and suites as they stand in the file.

use super::choice::{NeedList, UserName};
use crate::envfile::TimeSpan;
use crate::envfile::decode::{Map, Number, Spanned};
use crate::envfile::names::{AnyText, Command, CommandTemplate, Name, VariableName, Word};
use crate::envfile::record::{record, words};
use crate::envfile::template::Template;

record! {
    /// How an image's name becomes runnable, on each kind of cluster.
    pub struct ImageFile, "an image" {
        /// What runs unless a container says otherwise.
        entrypoint("entrypoint"): Option<Command>,
        /// On the embedded cluster: a sandboxed process of this machine.
        process("process"): Option<ProcessFile>,
        /// On kind and minikube: built with Docker and loaded; on a context: built and pushed, if it says `push`. Without it: pulled by its name.
        docker("docker"): Option<DockerBuild>,
        /// On `cluster: context`, where nodes pull it: pods get a Secret with your Docker credentials for its registry. Elsewhere your Docker
        /// engine pulls with them.
        image_pull_secret("imagePullSecret"): bool,
    }
}

record! {
    /// An image that is a sandboxed process of this machine.
    pub struct ProcessFile, "a process image" {
        /// What runs; the image's `entrypoint` unless it says so. A relative path is one in the project.
        entrypoint("entrypoint"): Option<Command>,
        /// Directories put in front of PATH, relative to the project root.
        path("path"): Vec<Name<AnyText>>,
        /// Where it starts, relative to the project root; the project root itself unless it says so.
        workdir("workdir"): Option<Name<AnyText>>,
        /// A user's name, or `uid[:gid]`; the caller's own unless it says so.
        user("user"): Option<UserName>,
        /// A command that builds it, run in the project root before anything that uses it starts.
        build("build"): Option<Command>,
        /// What it consists of besides its program, relative to the project root, such as directories of scripts: a change there is a
        /// difference, as a rebuilt program is. Names in them that begin with a dot, and `__pycache__`, don't count.
        sources("sources"): Vec<Name<AnyText>>,
        /// The image's own variables.
        env("env"): Map<VariableName, Spanned<PlainText>>,
    }
}

pub use super::choice::PlainText;

record! {
    /// An image that is built with Docker.
    pub struct DockerBuild, "a Docker image" {
        /// The directory to build from, relative to the project root.
        context("context"): Name<AnyText>,
        /// The Dockerfile, relative to the project root; `Dockerfile` in the context unless it says so.
        dockerfile("dockerfile"): Option<Name<AnyText>>,
        /// The stage to build; the last unless it says so.
        target("target"): Option<Name<AnyText>>,
        /// Build arguments.
        args("args"): Map<VariableName, Spanned<PlainText>>,
        /// On `cluster: context`, build it and push it under its name with your Docker credentials; pods run exactly what was pushed. Elsewhere,
        /// where images are loaded into the nodes or run by the engine itself, it does nothing.
        push("push"): bool,
    }
}

record! {
    /// Plain Kubernetes YAML.
    pub struct ManifestFile, "a manifest" {
        /// A file, a directory (its `.yaml`, `.yml` and `.json` files) or a pattern with `*`, relative to the project root.
        path("path"): Spanned<Name<AnyText>>,
        /// What it is called in the graph; its path unless it says so.
        name("name"): Option<Spanned<Name<Word>>>,
        /// What must be ready before it is applied.
        needs("needs"): NeedList,
    }
}

record! {
    /// A credential issued for the session: exactly one of `exec`, `http`, `generate` and `fromEnv`.
    pub struct KeyFile, "a key", span {
        /// A command in a service; its output is the key.
        exec("exec"): Option<ExecCall>,
        /// A request to a service; its answer is the key.
        http("http"): Option<HttpRequest>,
        /// Random bytes.
        generate("generate"): Option<Generate>,
        /// A variable of the host, by its name.
        from_env("fromEnv"): Option<Spanned<Name<VariableName>>>,
        /// What else must be ready (a job: completed) before it is issued.
        needs("needs"): NeedList,
        /// How it is taken back.
        revoke("revoke"): Option<Revoke>,
        /// When it is issued anew and the old one revoked; never unless it says so.
        ttl("ttl"): Option<Spanned<TimeSpan>>,
        /// How long issuing or revoking it may take; 30s unless it says so.
        timeout("timeout"): Option<Spanned<TimeSpan>>,
    }
}

record! {
    /// How a key is taken back: exactly one of these. The command reads the key on its standard input.
    pub struct Revoke, "a revocation", span {
        /// A command in a service.
        exec("exec"): Option<ExecCall>,
        /// A request to a service.
        http("http"): Option<HttpRequest>,
    }
}

record! {
    /// A command in a service.
    pub struct ExecCall, "a key's command", span {
        /// The service; for a revocation the issuing one unless it says so.
        service("service"): Option<Spanned<String>>,
        /// Program and arguments; no shell reads them.
        command("command"): CommandTemplate,
    }
}

words! {
    /// A request's method.
    pub enum MethodWord {
        /// Reads.
        Get = "GET",
        /// The default for issuing.
        Post = "POST",
        /// Replaces.
        Put = "PUT",
        /// Changes.
        Patch = "PATCH",
        /// The default for revoking.
        Delete = "DELETE",
    }
}

record! {
    /// A request to a service.
    pub struct HttpRequest, "a key's request", span {
        /// The service; for a revocation the issuing one unless it says so.
        service("service"): Option<Spanned<String>>,
        /// The port's name; the service's first `http…` port, else its first, unless it says so.
        port("port"): Option<Spanned<String>>,
        /// `POST` (to revoke: `DELETE`) unless it says so.
        method("method"): Option<MethodWord>,
        /// The path.
        path("path"): Spanned<Template>,
        /// Headers; `${keys.NAME}` of another key is allowed.
        headers("headers"): Map<AnyText, Spanned<Template>>,
        /// The body.
        body("body"): Option<Spanned<Template>>,
        /// Where the key is in a JSON answer, as a JSON Pointer (`/token`); the whole body unless it says so.
        pointer("pointer"): Option<Spanned<String>>,
    }
}

words! {
    /// How random bytes become text.
    pub enum EncodingWord {
        /// The default.
        Hex = "hex",
        /// Padded.
        Base64 = "base64",
        /// For URLs, not padded.
        Base64Url = "base64url",
    }
}

record! {
    /// Random bytes.
    pub struct Generate, "a generated key" {
        /// How many, before they are encoded; 32 unless it says so.
        bytes("bytes"): Option<Number<1, 4096>>,
        /// `hex` (the default), `base64` or `base64url`.
        encoding("encoding"): Option<EncodingWord>,
    }
}

record! {
    /// A test command.
    pub struct SuiteFile, "a suite" {
        /// Program and arguments, on this machine, in the project root; no shell reads them.
        run("run"): Command,
        /// The stage it belongs to, such as `pre-merge` or `nightly`.
        stage("stage"): Option<Name<Word>>,
        /// How long it may take; as long as it takes unless it says so.
        timeout("timeout"): Option<TimeSpan>,
        /// Where it starts, relative to the project root.
        workdir("workdir"): Option<Name<AnyText>>,
        /// Its variables, on top of the exports.
        env("env"): Map<VariableName, Spanned<Template>>,
        /// The JUnit XML that it writes, relative to the project root.
        junit("junit"): Option<Name<AnyText>>,
    }
}
