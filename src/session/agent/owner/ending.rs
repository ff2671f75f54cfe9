//! When a session ends by itself, and how everything of it is taken away.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::super::AgentError;
use super::super::connection::{Caller, Message};
use super::super::environment::Environment;
use super::{End, EndedBy, GRACE, Owner, Working};
use crate::cluster::Removal;
use crate::cluster::tenancy::record::Lodged;
use crate::session::protocol::{Reply, Request, UpRequest};
use crate::session::record::Phase;
use crate::session::{launch, lookup};

impl Owner {
    /// Tests say that they use the session by the time of the lock file.
    pub(super) fn last_use(&self) -> SystemTime {
        let touched = std::fs::metadata(self.directory.lock()).and_then(|lock| lock.modified());
        touched.map_or(self.last_use, |touched| touched.max(self.last_use))
    }

    pub(super) fn until_idle_end(&self) -> Duration {
        let unused = SystemTime::now().duration_since(self.last_use()).unwrap_or_default();
        self.ttl.saturating_sub(unused)
    }

    /// Until the session may have to end by itself.
    pub(super) fn until_due(&self) -> Duration {
        let idle = self.until_idle_end();
        let Some(shared) = &self.record.shared else { return idle };
        let left = |milliseconds, since: Instant| Duration::from_millis(milliseconds).saturating_sub(since.elapsed());
        let linger = self.alone_since.map_or(Duration::MAX, |since| left(shared.linger, since));
        idle.min(linger).min(left(shared.limit, self.born))
    }

    pub(super) fn due(&mut self) -> Option<End> {
        let Some(shared) = &self.record.shared else { return self.idle() };
        let passed = |milliseconds, since: Instant| since.elapsed() >= Duration::from_millis(milliseconds);
        let (why, by) = if passed(shared.limit, self.born) {
            ("its time limit was over", EndedBy::Itself)
        } else if self.alone_since.is_some_and(|since| passed(shared.linger, since)) {
            ("nobody uses it any more", EndedBy::Request)
        } else {
            return self.idle();
        };
        Some(End { why: Some(why.to_owned()), by, grace: GRACE })
    }

    pub(super) fn idle(&mut self) -> Option<End> {
        if self.open > 0 || self.working.is_some() {
            self.last_use = SystemTime::now();
            return None;
        }
        if !self.until_idle_end().is_zero() {
            return None;
        }
        Some(End { why: Some("nothing used it for its idle time".to_owned()), by: EndedBy::Itself, grace: GRACE })
    }

    /// What was not waited for on a cluster that isn't the session's own.
    pub(super) fn lodged(&self) -> Vec<String> {
        match Lodged::read(self.directory.path()) {
            Ok(Some(lodged)) => {
                vec![format!("namespace {} on {}: `envctl gc` removes it", lodged.namespace, lodged.server)]
            }
            _ => Vec::new(),
        }
    }

    /// Takes everything away and says so to everyone who waits.
    pub(super) async fn end(
        &mut self,
        mut end: End,
        messages: &mut mpsc::UnboundedReceiver<Message>,
    ) -> Result<(), AgentError> {
        info!(why = end.why, "ending");
        self.record.phase = Phase::Ending;
        if let Err(error) = self.record.write(&self.directory.record_path()) {
            warn!(%error, "the record could not be written");
        }
        let mut others = Vec::new();
        let removal = {
            let mine = (self.working.take(), self.environment.take());
            let removing = take_away(mine, self.last.take(), end.grace, self.patience, &mut others);
            tokio::pin!(removing);
            loop {
                tokio::select! {
                    removal = &mut removing => break removal,
                    Some(message) = messages.recv() => match message {
                        Message::Request(caller, Request::Down { .. }) => self.ended_for.push(caller),
                        Message::Request(caller, Request::Status) => caller.reply(Reply::Status(Box::new(self.status()))),
                        Message::Request(caller, _) => caller.reply(Reply::Ending),
                        Message::Cancel(_, true) => {
                            end.why = Some("it was killed".to_owned());
                            break Removal { killed: Vec::new(), left: self.lodged() };
                        }
                        Message::Cancel(_, false) | Message::Gone(_) => {}
                    },
                }
            }
        };
        others.append(&mut self.attached);
        lookup::clear_current(&self.record.root, &self.record.id);
        match (&end.by, &end.why) {
            (EndedBy::Itself, Some(why)) => launch::leave_word(&self.state, &self.directory, why)?,
            _ => launch::remove_own(&self.state, &self.directory)?,
        }
        for caller in self.ended_for.drain(..) {
            caller.reply(Reply::Ended { removal: removal.clone(), why: None });
        }
        for caller in others.into_iter().chain(self.early.drain(..)) {
            caller.reply(Reply::Ended { removal: removal.clone(), why: end.why.clone() });
        }
        for (caller, _) in self.queue.drain(..) {
            caller.reply(Reply::Ending);
        }
        info!("ended");
        Ok(())
    }
}

/// Stops an `up` at work and removes what is there. The callers of the `up` go to `others`.
async fn take_away(
    (working, mut environment): (Option<Working>, Option<Environment>),
    last: Option<Arc<UpRequest>>,
    grace: Duration,
    patience: Duration,
    others: &mut Vec<Caller>,
) -> Removal {
    if let Some(mut working) = working {
        working.cancel.cancel();
        others.append(&mut working.followers);
        match working.task.await {
            Ok(outcome) => environment = outcome.environment,
            Err(error) => warn!(%error, "the up at work ended badly"),
        }
    }
    match environment {
        Some(environment) => environment.remove(last.as_ref().map(|request| &request.plan), grace, patience).await,
        None => Removal::default(),
    }
}
