//! The demo platform: what a team's own system might look like. It knows nothing of envctl.
//!
//! One program with four parts, as one image often is: `api` serves HTTP and deploys models through
//! Kubernetes, `worker` takes jobs from it, `model` answers predictions, `migrate` prepares the data
//! directory that `api` keeps its jobs and API keys in, `issue-key` and `revoke-key` are for its administrator.
//! `request` is a client for people without curl; it has the key in `API_KEY`, if there is one.

mod api;
mod http;
mod jobs;
mod keys;
mod model;
mod models;
mod worker;

use std::io::Write as _;
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
        "issue-key" => issue_key(&std::env::args().skip(2).collect::<Vec<_>>()),
        "revoke-key" => revoke_key(),
        "request" => request(std::env::args().skip(2).collect()).await,
        _ => Err("usage: platform api|worker|model|migrate|issue-key --user NAME|revoke-key|request METHOD URL [JSON]"
            .into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            http::log(&format!("platform {part}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints what the other side answers; fails unless it is a success.
async fn request(arguments: Vec<String>) -> Result<(), Error> {
    let [method, url, body @ ..] = arguments.as_slice() else {
        return Err("usage: platform request METHOD URL [JSON]".into());
    };
    let body = body.first().map(|body| serde_json::from_str(body)).transpose()?;
    let key = std::env::var("API_KEY").ok();
    let (status, answer) = http::request(method.parse()?, url, key.as_deref(), body.as_ref()).await?;
    writeln!(std::io::stdout(), "{} {answer}", status.as_u16())?;
    if status.is_success() { Ok(()) } else { Err(format!("{method} {url}: {status}").into()) }
}

/// Prints a new key, and nothing else, on standard output.
fn issue_key(arguments: &[String]) -> Result<(), Error> {
    let ["--user", user] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        return Err("usage: platform issue-key --user NAME".into());
    };
    let key = keys::Keys::new(&data_directory()).issue(user)?;
    http::log(&format!("a key for {user}"));
    Ok(writeln!(std::io::stdout(), "{key}")?)
}

/// The key is on standard input: on a command line, everybody could see it.
fn revoke_key() -> Result<(), Error> {
    let mut key = String::new();
    std::io::stdin().read_line(&mut key)?;
    match keys::Keys::new(&data_directory()).revoke(key.trim_end())? {
        true => Ok(()),
        false => Err("there is no such key".into()),
    }
}

fn data_directory() -> PathBuf {
    std::env::var_os("DATA_DIR").unwrap_or_else(|| "/data".into()).into()
}
