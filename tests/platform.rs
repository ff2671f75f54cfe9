//! A user's cross-service test of the demo platform, over HTTP, after a plain `envctl up`.
//!
//! It finds the running session as any such test does, by `envctl::session::find`. Where none runs it
//! brings one up by the command line and takes it down at the end, so that `cargo test` alone is enough.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// The environment, brought up once for this process and taken down with it if this process brought it up.
fn api() -> &'static str {
    static API: OnceLock<String> = OnceLock::new();
    API.get_or_init(|| {
        if let Some(url) = running() {
            return url;
        }
        envctl(&["up"]);
        extern "C" fn down() {
            envctl(&["down"]);
        }
        // SAFETY: `down` is an `extern "C" fn()` that lives as long as the program and does not unwind past it.
        unsafe { libc::atexit(down) };
        running().expect("after `envctl up` a session is found and exports API_URL")
    })
}

fn running() -> Option<String> {
    let session = envctl::session::find().ok().filter(|session| session.environment() == "platform")?;
    session.export("API_URL").map(str::to_owned)
}

fn envctl(arguments: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_envctl"))
        .args(arguments)
        .args(["-f", "envs/platform.yaml"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status()
        .expect("envctl runs");
    assert!(status.success(), "envctl {arguments:?}: {status}");
}

/// Sends a request to the API; the status and the JSON of the answer.
fn request(method: &str, path: &str, body: &Value) -> (u16, Value) {
    request_as(None, method, path, body)
}

/// The same with an API key.
fn request_as(key: Option<&str>, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", api()))
        .header("content-type", "application/json")
        .header("authorization", key.map_or_else(|| "none".to_owned(), |key| format!("Bearer {key}")))
        .body(body.to_string())
        .expect("a request");
    let mut answer = agent.run(request).expect("the API answers");
    let text = answer.body_mut().read_to_string().expect("the answer is text");
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A model deployed for one test; deleted when the test is over, however it went.
struct Model(String);

impl Model {
    fn deploy(name: &str, weights: &[f64], bias: f64) -> Self {
        let model = Self(format!("{name}-{}", std::process::id()));
        let answer = request("POST", "/models", &json!({"name": model.0, "weights": weights, "bias": bias}));
        assert_eq!(answer, (201, json!({"name": model.0})));
        model
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let (status, answer) = request("DELETE", &format!("/models/{}", self.0), &Value::Null);
        // A second panic while one unwinds would hide the first.
        if !std::thread::panicking() {
            assert_eq!(status, 200, "{answer}");
        }
    }
}

#[test]
fn a_deployed_model_answers_through_the_api() {
    let model = Model::deploy("prices", &[2.0, 3.0], 1.0);
    let answer = request("POST", &format!("/models/{}/predict", model.0), &json!({"inputs": [1, 2]}));
    assert_eq!(answer, (200, json!({"output": 9.0})));
}

#[test]
fn the_model_that_the_environment_brings_answers_too() {
    let answer = request("POST", "/models/baseline/predict", &json!({"inputs": [20, 22]}));
    assert_eq!(answer, (200, json!({"output": 42.0})));
}

#[test]
fn a_job_goes_through_the_worker_to_the_model_and_back() {
    let model = Model::deploy("doubler", &[2.0], 0.0);
    let (status, job) = request("POST", "/jobs", &json!({"model": model.0, "inputs": [21]}));
    assert_eq!(status, 201, "{job}");
    let path = format!("/jobs/{}?wait=30", job["id"].as_str().expect("a job has an id"));
    let (status, done) = request("GET", &path, &Value::Null);
    assert_eq!(
        (status, &done["state"], &done["result"]["answer"]),
        (200, &json!("done"), &json!({"output": 42.0})),
        "{done}"
    );
}

#[test]
fn a_model_that_was_never_deployed_is_a_gateway_error() {
    let (status, answer) = request("POST", "/models/nobody/predict", &json!({"inputs": [1]}));
    assert_eq!(status, 502, "{answer}");
}

#[test]
fn the_key_that_the_environment_issued_is_known_to_the_api_and_another_is_not() {
    api();
    let session = envctl::session::find().expect("it runs");
    let key = session.export("API_KEY").expect("issued");
    assert_eq!(request_as(Some(key), "GET", "/whoami", &Value::Null), (200, json!({"user": "demo"})));
    assert_eq!(request_as(Some("pk-wrong"), "GET", "/whoami", &Value::Null).0, 401);
    // The worker's part of the API is the worker's.
    assert_eq!(request("POST", "/jobs/take", &Value::Null).0, 401);
}

#[test]
fn wrong_inputs_are_the_callers_error() {
    let answer = request("POST", "/models/baseline/predict", &json!({"inputs": ["many"]}));
    assert_eq!(answer, (400, json!({"error": "inputs: 2 numbers expected"})));
}
