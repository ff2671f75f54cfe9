//! The demo platform: what a team's own system might look like. It knows nothing of envctl.
//!
//! One program with four parts, as one image often is: `api` serves HTTP and deploys models through
//! Kubernetes, `worker` takes jobs from it, `model` answers predictions, `migrate` prepares the data
//! directory that `api` keeps its jobs in.

mod api;
mod http;
mod jobs;
mod model;
mod models;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let part = std::env::args().nth(1).unwrap_or_default();
    let result = match part.as_str() {
        "api" => api::serve(data_directory()).await,
        "worker" => worker::run().await,
        "model" => model::serve().await,
        "migrate" => jobs::migrate(&data_directory()).map_err(Error::from),
        _ => Err("usage: platform api|worker|model|migrate".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            http::log(&format!("platform {part}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn data_directory() -> PathBuf {
    std::env::var_os("DATA_DIR").unwrap_or_else(|| "/data".into()).into()
}
