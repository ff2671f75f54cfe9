//! The API server, on port 8080: models (`POST /models`, `POST /models/NAME/predict`, `DELETE /models/NAME`)
//! and jobs (`POST /jobs`, `GET /jobs/ID?wait=SECONDS`, and for the worker `POST /jobs/take`, `PUT /jobs/ID/result`).
//! The worker's part wants an API key, and so does `GET /whoami`; `POST /keys` wants the administrator's, in `ADMIN_KEY`.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::jobs::Jobs;
use crate::keys::{self, Keys};
use crate::models::Models;
use crate::{Error, http};

#[derive(Clone)]
struct Api {
    jobs: Jobs,
    models: Models,
    keys: Keys,
    admin: Option<String>,
}

type Answer = Result<Response<Body>, Failed>;

pub async fn serve(data: PathBuf) -> Result<(), Error> {
    let keys = Keys::new(&data);
    let admin = std::env::var("ADMIN_KEY").ok();
    let api = Api { jobs: Jobs::open(data)?, models: Models::connect().await?, keys, admin };
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/keys", post(issue_key).delete(revoke_key))
        .route("/whoami", get(whoami))
        .route("/models", post(deploy))
        .route("/models/{name}", delete(undeploy))
        .route("/models/{name}/predict", post(predict))
        .route("/jobs", post(add))
        .route("/jobs/take", post(take))
        .route("/jobs/{id}", get(show))
        .route("/jobs/{id}/result", put(finish))
        .with_state(api);
    http::serve("api", 8080, router).await
}

async fn deploy(State(api): State<Api>, body: Json<Value>) -> Answer {
    let weights: Option<Vec<f64>> =
        body["weights"].as_array().and_then(|weights| weights.iter().map(Value::as_f64).collect());
    let (Some(name), Some(weights)) = (body["name"].as_str(), weights) else {
        return Ok(http::json(StatusCode::BAD_REQUEST, &json!({"error": "name and weights are needed"})));
    };
    let deployed = api.models.deploy(name, &weights, body["bias"].as_f64().unwrap_or(0.0));
    tokio::time::timeout(Duration::from_secs(30), deployed).await??;
    Ok(http::json(StatusCode::CREATED, &json!({"name": name})))
}

async fn undeploy(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    api.models.delete(&name).await?;
    Ok(http::json(StatusCode::OK, &json!({"name": name})))
}

async fn predict(State(api): State<Api>, Path(name): Path<String>, body: Json<Value>) -> Answer {
    let (status, answer) = api.models.predict(&name, &body).await?;
    Ok(http::json(status, &answer))
}

async fn add(State(api): State<Api>, body: Json<Value>) -> Answer {
    let id = api.jobs.add(&body)?;
    Ok(http::json(StatusCode::CREATED, &json!({"id": id, "state": "queued"})))
}

#[derive(serde::Deserialize)]
struct Wait {
    wait: Option<u64>,
}

async fn show(State(api): State<Api>, Path(id): Path<String>, Query(Wait { wait }): Query<Wait>) -> Answer {
    let done = tokio::time::timeout(Duration::from_secs(wait.unwrap_or(0)), api.jobs.wait(&id)).await;
    let job = match done {
        Ok(job) => job?,
        Err(_not_yet) => api.jobs.get(&id)?,
    };
    Ok(match job {
        Some(job) => http::json(StatusCode::OK, &job),
        None => http::json(StatusCode::NOT_FOUND, &json!({"error": format!("no job {id}")})),
    })
}

async fn issue_key(State(api): State<Api>, headers: HeaderMap, body: Json<Value>) -> Answer {
    if api.admin.is_none() || keys::bearer(&headers) != api.admin.as_deref() {
        return Ok(unauthorized());
    }
    let Some(user) = body["user"].as_str() else {
        return Ok(http::json(StatusCode::BAD_REQUEST, &json!({"error": "user is needed"})));
    };
    Ok(http::json(StatusCode::CREATED, &json!({"user": user, "key": api.keys.issue(user)?})))
}

/// The key that the request is made with.
async fn revoke_key(State(api): State<Api>, headers: HeaderMap) -> Answer {
    match (api.keys.user(&headers), keys::bearer(&headers)) {
        (Some(user), Some(key)) => {
            api.keys.revoke(key)?;
            Ok(http::json(StatusCode::OK, &json!({"user": user})))
        }
        _ => Ok(unauthorized()),
    }
}

async fn whoami(State(api): State<Api>, headers: HeaderMap) -> Answer {
    Ok(match api.keys.user(&headers) {
        Some(user) => http::json(StatusCode::OK, &json!({"user": user})),
        None => unauthorized(),
    })
}

fn unauthorized() -> Response<Body> {
    http::json(StatusCode::UNAUTHORIZED, &json!({"error": "an API key is needed"}))
}

async fn take(State(api): State<Api>, headers: HeaderMap) -> Answer {
    if api.keys.user(&headers).is_none() {
        return Ok(unauthorized());
    }
    Ok(match tokio::time::timeout(Duration::from_secs(30), api.jobs.take()).await {
        Ok(job) => http::json(StatusCode::OK, &job?),
        Err(_none_came) => http::json(StatusCode::NO_CONTENT, &Value::Null),
    })
}

async fn finish(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap, body: Json<Value>) -> Answer {
    if api.keys.user(&headers).is_none() {
        return Ok(unauthorized());
    }
    let found = api.jobs.finish(&id, &body)?;
    Ok(http::json(if found { StatusCode::OK } else { StatusCode::CONFLICT }, &json!({"id": id})))
}

/// Any failure, as a 502 that says what went wrong.
struct Failed(Error);

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        http::log(&format!("failed: {}", self.0));
        http::json(StatusCode::BAD_GATEWAY, &json!({"error": self.0.to_string()}))
    }
}
