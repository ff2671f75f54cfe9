//! Watches: the event log, followed.
//!
//! One task-less stream per watch: it sleeps until its resource changes, then reads the log from
//! where it was. Objects are never serialized again; an event is its bytes between two constants.
//! Follows `apiserver/pkg/endpoints/handlers/watch.go` and, for what a selector makes of an event,
//! `apiserver/pkg/storage/cacher/cache_watcher.go` (`convertToWatchEvent`). Ends with the
//! server, the client's time-out, or an error event.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::negotiate::{self, Form};
use super::read::{self, IncludeObject};
use super::registry::Row;
use super::selector::Selector;
use super::status::Status;
use super::store::{Change, Event, Store, Stored};
use super::{Shared, convert};

/// How often a watch that asked for bookmarks gets one (`cacher.go`, `defaultBookmarkFrequency`).
const BOOKMARKS: Duration = Duration::from_secs(60);
/// When the client doesn't say (`minRequestTimeout`).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

struct Watch {
    server: Shared,
    row: &'static Row,
    namespace: String,
    selector: Selector,
    form: Form,
    include: IncludeObject,
    bookmarks: bool,
    /// Whether a table's columns were already sent.
    defined: bool,
    /// Everything up to here was sent.
    position: u64,
    changed: tokio::sync::watch::Receiver<u64>,
    deadline: Instant,
    next_bookmark: Instant,
    shutdown: CancellationToken,
    initial: Option<Initial>,
    ended: bool,
}

/// What is sent before the first change.
struct Initial {
    objects: Vec<Arc<Stored>>,
    /// Whether their end is marked (`sendInitialEvents`).
    marked: bool,
}

/// Answers a watch.
pub fn watch(context: &Context<'_>, server: &Shared, shutdown: CancellationToken) -> Result<Response<Body>, Status> {
    let accept = context.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    // A watch's events may be asked for with `;stream=watch`, which says nothing new.
    let form = negotiate::form(accept)?;
    let selector = read::selector(context)?;
    let query = context.query;
    let bookmarks = query.flag("allowWatchBookmarks");
    let send_initial = query.optional_flag("sendInitialEvents");
    let matching = query.get("resourceVersionMatch");
    match (send_initial, matching) {
        (Some(_), Some("NotOlderThan")) | (None, None) => {}
        (Some(_), _) => {
            return Err(invalid(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        (None, Some(_)) => {
            return Err(invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
    }
    let wanted = match query.get("resourceVersion") {
        None => 0,
        Some(text) => text.parse::<u64>().map_err(|_| {
            Status::bad_request(format!(
                "Invalid value: {}: strconv.ParseUint: parsing {0}: invalid syntax",
                super::status::quote(text)
            ))
        })?,
    };
    let store = &server.store;
    let resource = context.row.id();
    let changed = store.subscribe(resource);
    let namespace = context.namespace().to_owned();
    let with_initial = send_initial.unwrap_or(wanted == 0);
    let (initial, position) = if with_initial {
        let page = store
            .page(resource, &namespace, None, usize::MAX, None, |index| selector.matches(index))
            .map_err(|error| Status::expired(error.to_string()))?;
        (Some(Initial { objects: page.items, marked: send_initial == Some(true) && bookmarks }), page.revision)
    } else if wanted == 0 {
        (None, store.revision())
    } else {
        (None, wanted)
    };
    let timeout = query
        .get("timeoutSeconds")
        .and_then(|text| text.parse().ok())
        .filter(|&seconds| seconds > 0)
        .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let now = Instant::now();
    let watch = Watch {
        server: Arc::clone(server),
        row: context.row,
        namespace,
        selector,
        form,
        include: read::include_object(context)?,
        bookmarks,
        defined: false,
        position,
        changed,
        deadline: now + timeout,
        next_bookmark: now + BOOKMARKS,
        shutdown,
        initial,
        ended: false,
    };
    let stream = futures::stream::unfold(watch, |mut watch| async move {
        let bytes = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), watch))
    });
    Ok(read::json(StatusCode::OK, Body::from_stream(stream)))
}

fn invalid(detail: &str) -> Status {
    Status::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "Invalid",
        format!("ListOptions.meta.k8s.io \"\" is invalid: {detail}"),
    )
}

enum Wake {
    Changed,
    Bookmark,
    End,
}

impl Watch {
    /// The next piece of the answer; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = BytesMut::new();
        if let Some(initial) = self.initial.take() {
            for object in &initial.objects {
                self.frame(&mut out, "ADDED", object);
            }
            if initial.marked {
                self.bookmark(&mut out, true);
            }
        }
        while out.is_empty() {
            // Seen before the log is read, so that a change in between wakes again.
            self.changed.borrow_and_update();
            match self.catch_up(&mut out) {
                Ok(()) => {}
                Err(status) => {
                    self.ended = true;
                    error_frame(&mut out, &status);
                    break;
                }
            }
            if !out.is_empty() {
                break;
            }
            let wake = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => Wake::End,
                result = self.changed.changed() => if result.is_ok() { Wake::Changed } else { Wake::End },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => Wake::Bookmark,
                () = tokio::time::sleep_until(self.deadline) => Wake::End,
            };
            match wake {
                Wake::Changed => {}
                Wake::Bookmark => {
                    self.next_bookmark = Instant::now() + BOOKMARKS;
                    self.bookmark(&mut out, false);
                }
                Wake::End => {
                    self.ended = true;
                    if self.bookmarks && !self.shutdown.is_cancelled() {
                        self.bookmark(&mut out, false);
                        break;
                    }
                    return None;
                }
            }
        }
        Some(out.freeze())
    }

    fn catch_up(&mut self, out: &mut BytesMut) -> Result<(), Status> {
        let store: &Store = &self.server.clone().store;
        let (events, revision) =
            store.events_after(self.row.id(), self.position).map_err(|error| Status::expired(error.to_string()))?;
        for event in events {
            self.event(out, &event);
        }
        // A client may name a revision that isn't there yet: it is still waited for.
        self.position = self.position.max(revision);
        Ok(())
    }

    fn event(&mut self, out: &mut BytesMut, event: &Event) {
        let selected = |stored: &Stored| {
            (self.namespace.is_empty() || *stored.index.namespace == *self.namespace)
                && self.selector.matches(&stored.index)
        };
        let before = event.previous.as_deref().is_some_and(selected);
        let after = event.change != Change::Deleted && selected(&event.object);
        match (before, after) {
            (false, false) => {}
            (false, true) => self.frame(out, "ADDED", &event.object),
            (true, true) => self.frame(out, "MODIFIED", &event.object),
            (true, false) if event.change == Change::Deleted => self.frame(out, "DELETED", &event.object),
            (true, false) => {
                // It left the selection: its last selected state, at this revision.
                if let Some(previous) = &event.previous {
                    let mut object = previous.value();
                    object["metadata"]["resourceVersion"] = Value::String(event.revision.to_string());
                    let stored = Stored::new(event.resource, &object, event.revision);
                    self.frame(out, "DELETED", &stored);
                }
            }
        }
    }

    fn frame(&mut self, out: &mut BytesMut, kind: &str, stored: &Stored) {
        let object = match self.form {
            Form::Object => convert::bytes(self.row, stored),
            Form::Metadata => read::partial(stored).unwrap_or_default(),
            Form::Table => {
                let revision = stored.index.revision.to_string();
                let table = read::table_of(self.row, &[stored], &revision, None, !self.defined, self.include);
                self.defined = true;
                Bytes::from(serde_json::to_vec(&table).unwrap_or_default())
            }
        };
        put_frame(out, kind, &object);
    }

    fn bookmark(&mut self, out: &mut BytesMut, initial_end: bool) {
        let mut metadata = json!({"resourceVersion": self.position.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Object => {
                json!({"kind": self.row.kind, "apiVersion": self.row.api_version(), "metadata": metadata})
            }
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": self.position.to_string()}, "columnDefinitions": [],
                "rows": [{"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}}],
            }),
        };
        put_frame(out, "BOOKMARK", &serde_json::to_vec(&object).unwrap_or_default());
    }
}

fn put_frame(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.reserve(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}

fn error_frame(out: &mut BytesMut, status: &Status) {
    put_frame(out, "ERROR", &serde_json::to_vec(status).unwrap_or_default());
}
