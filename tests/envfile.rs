//! The environment file as data: bad ones and everything that is said about them, good ones and the objects they become,
//! damaged ones that must not end the program.
//!
//! `INSTA_UPDATE=always` rewrites the snapshots, `ENVCTL_UPDATE_GOLDEN=1` the golden objects.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use envctl::envfile::{Files, Problems, Request};
use envctl::objects::{self, Content, Context, OnHost, Pods};
use envctl::plan::{self, NodeKind, Plan, PortId, Viewpoint};
use proptest::prelude::*;

/// Files in memory, under `/project`.
#[derive(Default)]
struct Memory(BTreeMap<PathBuf, String>);

impl Memory {
    fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (Path::new("/project").join(path), (*text).to_owned())).collect())
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        if self.0.contains_key(directory) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let found: Vec<PathBuf> = self.0.keys().filter(|path| path.parent() == Some(directory)).cloned().collect();
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.keys().any(|known| known.starts_with(path))
    }
}

fn load_as(
    files: &Memory,
    profiles: &[&str],
    variables: &[(&str, &str)],
    load: fn(&Request<'_>) -> Result<Plan, Problems>,
) -> Result<Plan, Problems> {
    let profiles: Vec<String> = profiles.iter().map(|name| (*name).to_owned()).collect();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Request {
        file: Path::new("/project/envs/test.yaml"),
        root: Path::new("/project"),
        profiles: &profiles,
        cluster: None,
        variables: &variables,
        engine: false,
        files,
        shown_from: Path::new("/project"),
    })
}

fn load(files: &Memory) -> Result<Plan, Problems> {
    load_as(files, &[], &[], plan::load)
}

fn load_text(text: &str) -> Result<Plan, Problems> {
    load(&Memory::of(&[("envs/test.yaml", text)]))
}

fn good(result: Result<Plan, Problems>) -> Plan {
    result.unwrap_or_else(|problems| panic!("{problems}"))
}

const FULL: &str = include_str!("golden/objects/full.yaml");
const EXTRA: &str = include_str!("golden/objects/extra.yaml");

fn full() -> Memory {
    Memory::of(&[("envs/test.yaml", FULL), ("manifests/extra.yaml", EXTRA)])
}

fn context() -> Context {
    Context {
        session: "s-1".to_owned(),
        namespace: "envctl-full".to_owned(),
        images: BTreeMap::from([("platform/api".to_owned(), Content::Stamp("abc123".to_owned()))]),
        on_host: BTreeMap::new(),
    }
}

#[test]
fn every_problem_of_a_bad_file_is_reported_at_its_place() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/envfile/bad"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(names.len() > 15);
    for path in names {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let files = Memory::of(&[("envs/test.yaml", &std::fs::read_to_string(&path).unwrap())]);
        let problems = load_as(&files, &[], &[("HOST_HOME", "/home/me")], plan::validate).unwrap_err();
        insta::with_settings!({ snapshot_suffix => name, omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!("bad", problems.render(false));
        });
    }
}

#[test]
fn problems_for_machines() {
    let problems = load_text("services:\n  web: { image: Ä }\n").unwrap_err();
    let document = problems.to_json();
    assert_eq!(document["valid"], false);
    let first = &document["problems"][0];
    assert_eq!(
        first,
        &serde_json::json!({
            "file": "envs/test.yaml", "line": 2, "column": 17, "endLine": 2, "endColumn": 18,
            "message": "`Ä` is not an image's name: its parts are lower-case letters and digits, with `.`, `_` and `-` between them",
            "hint": null, "source": "  web: { image: Ä }",
        })
    );
}

#[test]
fn every_shorthand_becomes_exact_objects() {
    let plan = good(load(&full()));
    let mut documents = vec![serde_yaml::to_string(&objects::namespace(&plan, &context())).unwrap()];
    for node in &plan.nodes {
        for object in objects::render(&plan, &node.id, &context()).unwrap() {
            documents.push(serde_yaml::to_string(&object).unwrap());
        }
    }
    golden("full.objects.yaml", &documents.join("---\n"));
    golden("full.plan.yaml", &serde_yaml::to_string(&serde_json::to_value(&plan).unwrap()).unwrap());
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/objects").join(name);
    if std::env::var_os("ENVCTL_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((line, (is, should))) =
        text.lines().zip(expected.lines()).enumerate().find(|(_, (is, should))| is != should)
    {
        panic!("{name}:{}: is `{is}`, should be `{should}`", line + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{name} has another length");
}

#[test]
fn a_plan_survives_being_handed_over() {
    let plan = good(load(&full()));
    let text = serde_json::to_string(&plan).unwrap();
    let again: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(again, plan);
}

#[test]
fn dependencies_come_first_and_keys_are_dependencies() {
    let plan = good(load(&full()));
    let order: Vec<&str> = plan.nodes.iter().map(|node| node.id.name.as_str()).collect();
    let at = |name: &str| order.iter().position(|known| *known == name).unwrap();
    for (first, then) in [
        ("db", "migrate"),
        ("migrate", "api"),
        ("SIGNING_KEY", "api"),
        ("api", "API_KEY"),
        ("extra", "worker"),
        ("api", "worker"),
    ] {
        assert!(at(first) < at(then), "{first} before {then} in {order:?}");
    }
    let api = plan.find("api").unwrap();
    assert_eq!(api.id.kind, NodeKind::Service);
    let dependents: Vec<&str> = api.dependents.iter().map(|id| id.name.as_str()).collect();
    assert_eq!(dependents, ["worker", "API_KEY"]);
}

#[test]
fn references_are_resolved_for_whoever_reads_them() {
    let plan = good(load(&full()));
    let port = |service: &str, port: &str| PortId { service: service.to_owned(), port: port.to_owned() };
    let addresses: BTreeMap<PortId, SocketAddr> = BTreeMap::from([
        (port("api", "http"), "127.0.0.1:41000".parse().unwrap()),
        (port("api", "grpc"), "127.0.0.1:41001".parse().unwrap()),
        (port("db", "sql"), "127.0.0.1:41002".parse().unwrap()),
    ]);
    let keys =
        BTreeMap::from(["SIGNING_KEY", "API_KEY", "HF_TOKEN"].map(|name| (name.to_owned(), format!("<{name}>"))));
    let exports: BTreeMap<&str, String> = plan
        .exports
        .iter()
        .map(|export| (export.name.as_str(), export.value.resolve(&plan, Viewpoint::Host(&addresses), &keys).unwrap()))
        .collect();
    let expected = BTreeMap::from([
        ("API_GRPC_HOST", "127.0.0.1"),
        ("API_GRPC_PORT", "41001"),
        ("API_HOST", "127.0.0.1"),
        ("API_HTTP_HOST", "127.0.0.1"),
        ("API_HTTP_PORT", "41000"),
        ("API_HTTP_URL", "http://127.0.0.1:41000"),
        ("API_KEY", "<API_KEY>"),
        ("API_PORT", "41000"),
        ("API_URL", "http://127.0.0.1:41000"),
        ("BASE_URL", "http://127.0.0.1:41000/v1"),
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", "41002"),
        ("DB_SQL_HOST", "127.0.0.1"),
        ("DB_SQL_PORT", "41002"),
        ("HF_TOKEN", "<HF_TOKEN>"),
        ("SIGNING_KEY", "<SIGNING_KEY>"),
    ]);
    let exports: BTreeMap<&str, &str> = exports.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(exports, expected);
    let missing = plan.exports[0].value.resolve(&plan, Viewpoint::Host(&BTreeMap::new()), &keys).unwrap_err();
    assert!(missing.to_string().ends_with("this port is not forwarded to the host"), "{missing}");
}

#[test]
fn pods_of_services_and_manifests_run_what_was_pushed() {
    let plan = good(load(&full()));
    let reference = "platform/api@sha256:0a1b";
    let mut context = context();
    context.images = BTreeMap::from([("platform/api".to_owned(), Content::Reference(reference.to_owned()))]);
    let pods = plan.nodes.iter().flat_map(|node| objects::render(&plan, &node.id, &context).unwrap());
    let templates = pods.filter_map(|object| object.pointer("/spec/template").cloned());
    let templates = templates.filter(|template| template["spec"]["containers"][0]["image"] != "postgres:17");
    let templates: Vec<serde_json::Value> = templates.collect();
    assert!(templates.len() > 2, "of a service, a job and a manifest");
    for template in templates {
        assert_eq!(template["spec"]["containers"][0]["image"], reference);
        assert!(template["metadata"]["annotations"][objects::IMAGE_DIGEST].is_null(), "the reference says it already");
    }
}

#[test]
fn a_service_on_the_host_has_an_endpoint_there_and_no_pods_until_they_come_back() {
    let plan = good(load_as(&full(), &["ci"], &[], plan::load));
    let api = &plan.find("api").unwrap().id;
    let kinds = |objects: &[serde_json::Value]| objects.iter().map(|object| object["kind"].clone()).collect::<Vec<_>>();
    let mut context = context();
    let before = objects::render(&plan, api, &context).unwrap();
    let on_host =
        |pods| OnHost { address: [10, 0, 0, 1].into(), ports: BTreeMap::from([("http".to_owned(), 40_000)]), pods };
    for (pods, aside) in [(Pods::Aside, true), (Pods::ComingBack, false)] {
        context.on_host = BTreeMap::from([("api".to_owned(), on_host(pods))]);
        let mut rendered = objects::render(&plan, api, &context).unwrap();
        let at = rendered.iter().position(|object| object["kind"] == "EndpointSlice").unwrap();
        let slice = rendered.remove(at);
        assert_eq!(slice["metadata"]["name"], "api-on-host");
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "api");
        assert_eq!(slice["ports"], serde_json::json!([{"name": "http", "port": 40_000, "protocol": "TCP"}]));
        assert_eq!(slice["endpoints"][0]["addresses"], serde_json::json!(["10.0.0.1"]));
        // Everything else is as it was, the Service too; only the number of pods may be another.
        assert_eq!(kinds(&rendered), kinds(&before));
        let deployment = rendered.last_mut().unwrap();
        assert_eq!(deployment["spec"]["replicas"] == 0, aside);
        deployment["spec"]["replicas"] = before.last().unwrap()["spec"]["replicas"].clone();
        assert_eq!(rendered, before);
    }
}

#[test]
fn a_profile_changes_removes_and_adds() {
    let plan = good(load_as(&full(), &["ci"], &[], plan::load));
    let rendered = objects::render(&plan, &plan.find("api").unwrap().id, &context()).unwrap();
    let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 1);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert!(container["resources"].is_null());
    let names: Vec<&str> =
        container["env"].as_array().unwrap().iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"CI") && !names.contains(&"DEBUG"), "{names:?}");
    let unknown = load_as(&full(), &["cj"], &[], plan::load).unwrap_err();
    assert_eq!(unknown.list()[0].hint.as_deref(), Some("did you mean `ci`?"));
}

const APP: &str = "images: { app: { process: { entrypoint: [app] } } }\n";

#[test]
fn files_include_each_other() {
    let main = "include: [envs/base.yaml, envs/more.yaml]\nservices: { web: { image: app, needs: [db] } }\n";
    let base = format!("{APP}services: {{ db: {{ image: app }} }}\n");
    let more = "include: [envs/base.yaml]\njobs: { once: { image: app } }\n";
    let files = [("envs/test.yaml", main), ("envs/base.yaml", base.as_str()), ("envs/more.yaml", more)];
    let plan = good(load(&Memory::of(&files)));
    let names: Vec<&str> = plan.nodes.iter().map(|node| node.id.name.as_str()).collect();
    assert_eq!(names, ["db", "web", "once"]);

    let clash = "services: { db: { image: app, replicas: 2 } }\ninclude: [envs/test.yaml, envs/nowhere.yaml]\n";
    let files = [("envs/test.yaml", main), ("envs/base.yaml", base.as_str()), ("envs/more.yaml", clash)];
    let problems = load(&Memory::of(&files)).unwrap_err();
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("include", problems.render(false));
    });
}

/// `profiles:` or a profile of which a file says nothing takes nothing away from what others say of it.
#[test]
fn an_empty_profile_is_filled_by_the_files_that_include_it() {
    let main = "include: [envs/base.yaml]\nprofiles: { ci: { services: { web: { replicas: 2 } } } }\n";
    let services = format!("{APP}services: {{ web: {{ image: app }} }}\n");
    for profiles in ["profiles: { ci: }", "profiles:"] {
        let base = format!("{services}{profiles}\n");
        let files = Memory::of(&[("envs/test.yaml", main), ("envs/base.yaml", base.as_str())]);
        let plan = good(load_as(&files, &["ci"], &[], plan::load));
        let objects = objects::render(&plan, &plan.find("web").unwrap().id, &context()).unwrap();
        assert_eq!(objects[0]["spec"]["replicas"], 2, "{profiles}: {objects:?}");
    }
}

#[test]
fn a_bad_manifest_is_reported_in_its_own_file() {
    let main = format!("{APP}manifests: [{{ path: manifests }}, {{ path: manifests/tow.yaml }}]\n");
    let files = [
        ("envs/test.yaml", main.as_str()),
        ("manifests/one.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n"),
        ("manifests/two.yaml", "kind: ConfigMap\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {}\n"),
        ("manifests/readme.md", "not read"),
    ];
    let problems = load(&Memory::of(&files)).unwrap_err();
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("manifests", problems.render(false));
    });
}

#[test]
fn a_few_bytes_never_become_much() {
    let mut bomb = String::from("x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for level in 1..20 {
        let last = level - 1;
        bomb.push_str(&format!("x-{level}: &a{level} [{}]\n", vec![format!("*a{last}"); 10].join(", ")));
    }
    let deep = format!("x-a: {}{}\n", "[".repeat(3000), "]".repeat(3000));
    let mut chain = String::from("x-0: &a0 [[[[[[[[[[]]]]]]]]]]\n");
    for level in 1..200 {
        chain.push_str(&format!("x-{level}: &a{level} [[[[[*a{}]]]]]\n", level - 1));
    }
    let wide: String = (0..90_000).fold(String::from("services:\n"), |text, n| text + &format!("  s{n}:\n"));
    for (name, text) in [("bomb", bomb), ("deep", deep), ("chain", chain), ("wide", wide)] {
        // Without limits none of these would ever end.
        let problems = load_text(&text).unwrap_err();
        assert!(!problems.render(false).is_empty(), "{name}");
    }
}

#[test]
fn the_schema_says_what_the_decoder_takes() {
    let schema = envctl::envfile::schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let service = &schema["$defs"]["ServiceFile"];
    assert_eq!(service["required"], serde_json::json!(["image"]));
    assert_eq!(service["additionalProperties"], false);
    // Every record's every field has a description for the editor.
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for (field, property) in definition["properties"].as_object().into_iter().flatten() {
            let described = property["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described || name == "Overlay", "{name}.{field}");
        }
    }
}

fn envctl(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_envctl"))
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .env_remove("ENVCTL_FILE")
        .env_remove("ENVCTL_OUTPUT")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn init_validate_and_config_from_the_command_line() {
    let project = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| envctl(project.path(), arguments);
    let (code, out, _) = run(&["init", "first"]);
    assert_eq!((code, out.as_str()), (Some(0), "envs/first.yaml\n"));
    let (code, _, err) = run(&["init", "first"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("envs/first.yaml is there already, and was not touched"), "{err}");
    let (code, out, _) = run(&["validate"]);
    assert_eq!((code, out.as_str()), (Some(0), "envs/first.yaml: valid (1 service)\n"));
    let (code, out, _) = run(&["config", "-o", "objects"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("kind: Deployment"), "{out}");
    let (code, out, _) = run(&["config", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["version"], &document["environment"]), (Some(0), &1.into(), &"first".into()));

    std::fs::write(project.path().join("envs/first.yaml"), "services: { web: { imag: x } }\n").unwrap();
    let (code, out, err) = run(&["validate"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("unknown field `imag`") && err.contains("`image` is missing in a service"), "{err}");
    let (code, out, _) = run(&["validate", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["valid"], document["problems"].as_array().unwrap().len()), (Some(2), &false.into(), 2));
    let (code, out, err) = run(&["up"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Damaged files: parts cut, doubled, moved, or replaced by what YAML or templates find special.
    #[test]
    fn nothing_in_a_file_ends_the_program(edits in prop::collection::vec(
        (0_usize..4000, 0_usize..40, prop::sample::select(vec![
            "", ":", "\n", "- ", "[", "]", "{", "}", "&a ", "*a", "*env", "<<: ", "\"", "'", "${", "}", "$", "|\n", "!x ", "null", "\t",
            "é", "---\n", "services:", "${services.db.sql.url}", "0", "-1", "1e9", ".", "~", "? ", "  ",
        ])), 1..8)) {
        let mut text = FULL.to_owned();
        for (at, length, new) in edits {
            let floor = |mut at: usize| {
                at = at.min(text.len());
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let (start, end) = (floor(at), floor(at + length));
            text.replace_range(start..end, new);
        }
        check(&text);
    }

    /// Anything at all.
    #[test]
    fn nor_does_any_text(text in "\\PC{0,200}") {
        check(&text);
    }
}

/// A file is a plan whose objects can be made, or has problems that can be shown.
fn check(text: &str) {
    let files = Memory::of(&[("envs/test.yaml", text), ("manifests/extra.yaml", EXTRA)]);
    match load_as(&files, &[], &[], plan::validate) {
        Ok(plan) => {
            for node in &plan.nodes {
                objects::render(&plan, &node.id, &context()).unwrap();
            }
        }
        Err(problems) => {
            assert!(!problems.list().is_empty());
            assert!(!problems.render(true).is_empty() && !problems.render(false).is_empty());
            assert!(problems.to_json()["problems"].is_array());
        }
    }
}
