//! The worker: takes jobs from the API at `API_URL` with the key in `API_KEY`, asks the model that each names, and stores the answer.

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Error, http};

pub async fn run() -> Result<(), Error> {
    let api = std::env::var("API_URL").map_err(|_| "API_URL says where the API is")?;
    let key = std::env::var("API_KEY").map_err(|_| "API_KEY is the worker's key")?;
    let mut terminate = signal(SignalKind::terminate())?;
    http::log(&format!("worker takes jobs from {api}"));
    loop {
        tokio::select! {
            done = work(&api, &key) => done?,
            _ = terminate.recv() => return Ok(()),
        }
    }
}

async fn work(api: &str, key: &str) -> Result<(), Error> {
    let (status, job) = http::request(Method::POST, &format!("{api}/jobs/take"), Some(key), None).await?;
    if status == StatusCode::UNAUTHORIZED {
        return Err("the API does not know the worker's key".into());
    }
    let (StatusCode::OK, Some(id), Some(model)) = (status, job["id"].as_str(), job["model"].as_str()) else {
        return Ok(());
    };
    let (status, answer) =
        http::request(Method::POST, &format!("{api}/models/{model}/predict"), None, Some(&job)).await?;
    let result = json!({"status": status.as_u16(), "answer": answer});
    http::request(Method::PUT, &format!("{api}/jobs/{id}/result"), Some(key), Some(&result)).await?;
    http::log(&format!("job {id}: {result}"));
    Ok(())
}
