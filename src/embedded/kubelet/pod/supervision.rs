//! A run from its start on: its streams are copied, its end and last words told to the actor.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::logs::writer::Writer;
use super::container::{End, Streams, supervise};
use super::messages::Message;

/// A run that the actor must look after.
#[derive(Debug)]
pub struct Supervision {
    pub(super) index: usize,
    pub(super) id: String,
    pub(super) run: u32,
    pub(super) streams: Streams,
    pub(super) log: Option<Writer>,
    pub(super) attached: mpsc::Receiver<super::container::Attached>,
}

impl Supervision {
    /// The container's.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The run's.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The container's restart count then.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Looks after it in `jobs`; the actor hears of its end.
    pub fn spawn(
        self,
        jobs: &mut JoinSet<()>,
        tell: mpsc::Sender<Message>,
        last_words: impl FnOnce(&End) -> Option<String> + Send + 'static,
    ) {
        jobs.spawn(async move {
            let end = supervise(self.streams, self.log, self.attached).await;
            let words = last_words(&end);
            let _ = tell.send(Message::Ended(self.index, end, words)).await;
        });
    }
}
