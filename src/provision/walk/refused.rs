//! Failures that are others' answers: the API's, the provider's, a build's.

use super::super::failure::{Cause, Failure};
use super::super::making;
use super::{Unwatched, Walk};
use crate::cluster::ClusterError;
use crate::cluster::apply::ApplyError;
use crate::cluster::contact::{SILENCE, Silence};
use crate::cluster::refusal::{Refusal, chain};
use crate::cluster::tenancy::MoveInError;
use crate::images::ImageError;
use crate::images::docker::DockerError;
use crate::plan::NodeId;
use tokio::time::Instant;

impl Walk<'_> {
    /// The API refused an object, or didn't answer.
    pub(super) fn refused(&self, node: Option<&NodeId>, error: &ApplyError) -> Box<Failure> {
        let (cause, message, hint) = match error {
            ApplyError::Refused { object, code, message, .. } => {
                let refusal = Refusal::of(*code, message);
                let cause = Cause::of_refusal(&refusal)
                    .unwrap_or_else(|| Cause::Rejected { object: object.clone(), status: *code });
                (cause, format!("the cluster refused {object}: {message}"), refusal.hint())
            }
            ApplyError::NoSuchKind { api_version, kind } => (
                Cause::Rejected { object: format!("{api_version} {kind}"), status: 404 },
                error.to_string(),
                Some("a manifest with its CustomResourceDefinition must come first: `needs`".to_owned()),
            ),
            ApplyError::NotOurs(object) | ApplyError::Conflict { object, .. } => {
                (Cause::Rejected { object: object.clone(), status: 409 }, error.to_string(), None)
            }
            ApplyError::Unanswered { .. } => {
                (Cause::ClusterUnavailable, format!("the cluster's API did not answer: {}", chain(error)), None)
            }
        };
        let mut failure = self.failure(node, cause, message);
        failure.hint = hint;
        failure
    }

    /// The cluster says that it is lost, or the session's place on it.
    pub(super) fn lost(&self, error: &ClusterError) -> Box<Failure> {
        let (cause, hint) = match error {
            ClusterError::Evicted(_) => {
                let namespace = self.context.namespace.clone();
                (Cause::NamespaceLost, Refusal::NamespaceLost { namespace }.hint())
            }
            _ => (Cause::ClusterUnavailable, error.hint()),
        };
        let mut failure = self.failure(None, cause, error.to_string());
        failure.hint = hint;
        failure
    }

    /// The API has not answered for too long.
    pub(super) fn silent(&self, silence: &Silence) -> Box<Failure> {
        let message =
            format!("the cluster's API has not answered for {} s: {}", silence.since.elapsed().as_secs(), silence.why);
        let mut failure = self.failure(None, Cause::ClusterUnavailable, message);
        if self.around.lodging.is_some() {
            failure.hint = Some("once it answers, `envctl gc` removes what the session left there".to_owned());
        }
        failure
    }

    /// Begins and ends of silence are worth a line: nothing else moves meanwhile.
    pub(super) fn tell_silence(&mut self, silence: Option<&Silence>) {
        let message = match (silence, self.silent_since.take()) {
            (Some(silence), _) => {
                self.silent_since = Some(silence.since);
                format!("the cluster's API doesn't answer, trying again for {} s: {}", SILENCE.as_secs(), silence.why)
            }
            (None, Some(since)) => {
                format!("the cluster's API answers again, after {:.1} s", since.elapsed().as_secs_f32())
            }
            (None, None) => return,
        };
        self.warn(None, vec![message]);
    }

    /// A watch was refused.
    pub(super) fn not_watched(&mut self, kind: &str, code: u16, message: &str) {
        let since = self.unwatched.get(kind).map_or_else(Instant::now, |unwatched| unwatched.since);
        self.unwatched.insert(kind.to_owned(), Unwatched { code, message: message.to_owned(), since });
    }

    /// Whoever may not look cannot wait; but rights in a new namespace may come a moment after it.
    pub(super) fn still_unwatched(&self) -> Result<(), Box<Failure>> {
        let patience = self.around.options.limits.settling;
        let Some((kind, refused)) = self.unwatched.iter().find(|(_, refused)| refused.since.elapsed() >= patience)
        else {
            return Ok(());
        };
        let refusal = Refusal::of(refused.code, &refused.message);
        let cause = Cause::of_refusal(&refusal).unwrap_or(Cause::Forbidden { denied: None });
        let message = format!("the cluster doesn't let {kind} objects be watched: {}", refused.message);
        let mut failure = self.failure(None, cause, message);
        failure.hint = refusal.hint();
        Err(failure)
    }

    /// Without its namespace there is nothing to apply to.
    pub(super) fn not_moved_in(&self, error: &MoveInError) -> Box<Failure> {
        let (cause, hint) = match error {
            MoveInError::Apply(error) => return self.refused(None, error),
            MoveInError::Taken(name) => (
                Cause::Rejected { object: format!("Namespace/{name}"), status: 409 },
                "another `envctl up` takes another name; what is there is for whoever made it to remove",
            ),
            MoveInError::Record(_) => {
                (Cause::StateUnwritable, "make the state directory writable, or set ENVCTL_STATE_DIR to one that is")
            }
        };
        Box::new(self.failure(None, cause, error.to_string()).with_hint(hint))
    }

    /// There is nothing to pull with, and the file says to.
    pub(super) fn not_opened(&self, error: DockerError) -> Box<Failure> {
        let image = match &error {
            DockerError::NoLogin { image, .. } => image.clone(),
            _ => self.around.plan.needs_pull_secret().next().unwrap_or_default().to_owned(),
        };
        self.not_runnable(&image, ImageError::Load { image: image.clone(), source: Box::new(error) })
    }

    pub(super) fn not_runnable(&self, image: &str, error: ImageError) -> Box<Failure> {
        let why = making::failure(self.around.plan, image, error);
        let mut failure = self.failure(why.node.as_ref(), why.cause, why.message);
        failure.hint = why.hint;
        failure
    }
}
