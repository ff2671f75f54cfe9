//! `GET /containerLogs/NAMESPACE/POD/CONTAINER`.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::{StatusCode, header};
use k8s_openapi::jiff::{Timestamp, ToSpan};
use tokio::sync::{mpsc, oneshot};

use super::super::logs::reader::{self, Options};
use super::super::pod::messages::Message;
use super::{ContainerPath, Endpoints, Refusal, flag, parameters, stopped};

/// Chunks that wait for a slow reader.
const QUEUE: usize = 4;

pub(super) async fn serve(
    State(endpoints): State<Endpoints>,
    Path((namespace, pod, container)): ContainerPath,
    request: Request,
) -> Result<Response, Refusal> {
    let parameters = parameters(request.uri());
    let options = options(&parameters)?;
    let asked = endpoints.pod(&namespace, &pod).await?;
    let (reply, answer) = oneshot::channel();
    let message = Message::Log(container, flag(&parameters, &["previous"]), reply);
    asked.mailbox.send(message).await.map_err(|_| stopped())?;
    let target = answer
        .await
        .map_err(|_| stopped())?
        .map_err(|refusal| Refusal(StatusCode::BAD_REQUEST, refusal.to_string()))?;
    let (send, receive) = mpsc::channel::<Bytes>(QUEUE);
    let stop = endpoints.stop.clone();
    endpoints.tasks.spawn(async move {
        let path = target.path.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            result = reader::read(target, options, send) => if let Err(error) = result {
                tracing::warn!(%error, path = %path.display(), "a log could not be read");
            }
        }
    });
    let chunks =
        futures::stream::unfold(receive, async |mut receive| receive.recv().await.map(|chunk| (chunk, receive)));
    let body = Body::from_stream(chunks.map(Ok::<_, std::convert::Infallible>));
    Response::builder()
        .header(header::CONTENT_TYPE, "text/plain")
        .body(body)
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn options(parameters: &[(String, String)]) -> Result<Options, Refusal> {
    let get = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let number = |name: &str| {
        let parse = |value: &str| {
            value
                .parse::<u64>()
                .map_err(|_| Refusal(StatusCode::BAD_REQUEST, format!("invalid value for {name}: {value:?}")))
        };
        get(name).filter(|value| !value.is_empty()).map(parse).transpose()
    };
    let since = match (number("sinceSeconds")?, get("sinceTime").filter(|value| !value.is_empty())) {
        (Some(seconds), _) => {
            Timestamp::now().checked_sub(i64::try_from(seconds).unwrap_or(i64::MAX / 2).seconds()).ok()
        }
        (None, Some(time)) => Some(
            time.parse()
                .map_err(|_| Refusal(StatusCode::BAD_REQUEST, format!("invalid value for sinceTime: {time:?}")))?,
        ),
        (None, None) => None,
    };
    Ok(Options {
        follow: flag(parameters, &["follow"]),
        tail_lines: number("tailLines")?,
        since,
        timestamps: flag(parameters, &["timestamps"]),
        limit_bytes: number("limitBytes")?,
    })
}
