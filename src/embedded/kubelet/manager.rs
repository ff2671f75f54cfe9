//! Gives every pod bound to this node its actor, and endpoints a way to ask them.
//!
//! One task owns the actors; one watch (`spec.nodeName`) feeds it. Upstream: `pkg/kubelet/pod_workers.go`.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::{Config, Event};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pod::Context;
use super::pod::messages::{Message, Wish};
use super::pod::task::Actor;
use crate::reading;

/// What endpoints ask.
#[derive(Debug)]
pub enum Query {
    /// The actor of a pod by namespace and name.
    Pod(String, String, oneshot::Sender<Option<Asked>>),
    /// All pods.
    All(oneshot::Sender<Vec<Arc<Pod>>>),
}

/// A pod and the way to its actor.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The latest object.
    pub pod: Arc<Pod>,
    /// Its actor's mailbox.
    pub mailbox: mpsc::Sender<Message>,
}

struct Held {
    wish: watch::Sender<Wish>,
    mailbox: mpsc::Sender<Message>,
}

/// Runs until `stop`, then ends every pod and waits for them.
pub async fn run(context: Arc<Context>, node: String, mut queries: mpsc::Receiver<Query>, stop: CancellationToken) {
    let config = Config::default().streaming_lists().fields(&format!("spec.nodeName={node}"));
    let mut events = reading::watch::<Pod>(context.client.clone(), None, config);
    let mut pods: HashMap<String, Held> = HashMap::new();
    let mut actors: JoinSet<String> = JoinSet::new();
    let mut unseen: Vec<String> = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            event = events.next() => match event {
                Some(Ok(Event::Init)) => unseen = pods.keys().cloned().collect(),
                Some(Ok(Event::InitApply(pod))) => {
                    let uid = pod.uid().unwrap_or_default();
                    unseen.retain(|known| *known != uid);
                    apply(&context, &mut pods, &mut actors, pod);
                }
                Some(Ok(Event::InitDone)) => {
                    for uid in unseen.drain(..) {
                        gone(&pods, &uid);
                    }
                }
                Some(Ok(Event::Apply(pod))) => apply(&context, &mut pods, &mut actors, pod),
                Some(Ok(Event::Delete(pod))) => gone(&pods, &pod.uid().unwrap_or_default()),
                Some(Err(error)) => tracing::warn!(%error, "watching the node's pods"),
                None => break,
            },
            Some(query) = queries.recv() => match query {
                Query::Pod(namespace, name, reply) => {
                    let found = pods.values().find_map(|held| {
                        let pod = Arc::clone(&held.wish.borrow().pod);
                        let matches = pod.metadata.name.as_ref() == Some(&name) && pod.metadata.namespace.as_ref() == Some(&namespace);
                        matches.then(|| Asked { pod, mailbox: held.mailbox.clone() })
                    });
                    let _ = reply.send(found);
                }
                Query::All(reply) => {
                    let _ = reply.send(pods.values().map(|held| Arc::clone(&held.wish.borrow().pod)).collect());
                }
            },
            Some(done) = actors.join_next(), if !actors.is_empty() => match done {
                Ok(uid) => { pods.remove(&uid); }
                Err(error) => tracing::error!(%error, "a pod's actor panicked"),
            },
        }
    }
    for held in pods.values() {
        held.wish.send_modify(|wish| wish.stop = true);
    }
    while actors.join_next().await.is_some() {}
}

fn apply(context: &Arc<Context>, pods: &mut HashMap<String, Held>, actors: &mut JoinSet<String>, pod: Pod) {
    let uid = pod.uid().unwrap_or_default();
    let pod = Arc::new(pod);
    if let Some(held) = pods.get(&uid) {
        held.wish.send_modify(|wish| wish.pod = pod);
        return;
    }
    let (wish, wishes) = watch::channel(Wish { pod, gone: false, stop: false });
    let (actor, mailbox) = Actor::new(Arc::clone(context), wishes);
    pods.insert(uid.clone(), Held { wish, mailbox });
    actors.spawn(async move {
        actor.run().await;
        uid
    });
}

fn gone(pods: &HashMap<String, Held>, uid: &str) {
    if let Some(held) = pods.get(uid) {
        held.wish.send_modify(|wish| wish.gone = true);
    }
}
