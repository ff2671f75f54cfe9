//! Whether a cluster's API answers: one silence, shared by all who ask; one of them tries again, the others wait for it.
//!
//! An API server that is started again, a VPN that drops, a laptop that moves: the next moment the same request is answered. Whoever gets no
//! answer says so ([`Contact::silent`]) and goes on when the API is there again ([`Contact::answers`]); how long that may take is
//! the caller's ([`Contact::lost`]).
//!
//! Neighbours: [`super::apply`], [`super::tenancy`], [`super::pod_forward`] and `readiness::watches` report and wait; the walk gives up. Nothing is
//! asked while all is well. Invariant: only requests that can be sent twice without harm are sent again.

use std::time::Duration;

use kube::client::Body;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use super::refusal::in_words;

/// How long an `up` puts up with silence: longer than an API server takes to start again, shorter than patience with a dead one.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Between two tries, growing: how soon after its return the API is found.
const TRIES: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(1);
/// How often something is tried whose connection breaks although the API answers.
pub const ATTEMPTS: u32 = 5;
/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// While an API server starts it may answer before it knows who may do what: such refusals are believed after this.
const BELIEVED: Duration = Duration::from_secs(5);

/// That the API doesn't answer.
#[derive(Debug, Clone)]
pub struct Silence {
    /// When it was noticed.
    pub since: Instant,
    /// What the first request that got no answer came to.
    pub why: String,
}

/// The contact with one cluster's API.
pub struct Contact {
    client: kube::Client,
    silence: watch::Sender<Option<Silence>>,
    trying: Mutex<()>,
}

impl Contact {
    /// There has been no silence yet.
    pub fn new(client: kube::Client) -> Self {
        Self { client, silence: watch::Sender::new(None), trying: Mutex::default() }
    }

    /// The client whose contact it is.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// A request got no answer.
    pub fn silent(&self, why: impl Into<String>) {
        self.silence.send_if_modified(|silence| {
            let is_new = silence.is_none();
            silence.get_or_insert_with(|| Silence { since: Instant::now(), why: why.into() });
            is_new
        });
    }

    /// A client's error: if it means that there was no answer, that is taken note of. Returns whether it does.
    pub fn heard(&self, error: &kube::Error) -> bool {
        let no_answer = is_silence(error);
        if no_answer {
            self.silent(in_words(error));
        }
        no_answer
    }

    /// The silence that there is, and every change of that.
    pub fn silence(&self) -> watch::Receiver<Option<Silence>> {
        self.silence.subscribe()
    }

    /// Returns when the API answers; at once while nobody has missed an answer.
    pub async fn answers(&self) {
        if self.silence.borrow().is_none() {
            return;
        }
        let _one_tries = self.trying.lock().await;
        let mut pause = TRIES.start;
        let mut refused: Option<Instant> = None;
        while self.silence.borrow().is_some() {
            let is_back = match timeout(ANSWER, self.ready()).await {
                Ok(Some(true)) => true,
                Ok(Some(false)) => refused.get_or_insert_with(Instant::now).elapsed() >= BELIEVED,
                Ok(None) | Err(_) => {
                    refused = None;
                    false
                }
            };
            if is_back {
                self.silence.send_replace(None);
                return;
            }
            // There is no event to wait for: nobody tells when a server will listen again.
            sleep(pause).await;
            pause = (pause * 2).min(TRIES.end);
        }
    }

    /// Does something that does no harm when done twice, again while it gets no answer. Not for ever where the API answers others, but not this.
    ///
    /// # Errors
    /// What was answered, or the last attempt's error.
    pub async fn patiently<T, F: Future<Output = kube::Result<T>>>(&self, attempt: impl Fn() -> F) -> kube::Result<T> {
        for _ in 1..ATTEMPTS {
            self.answers().await;
            match attempt().await {
                Err(error) if self.heard(&error) => {}
                other => return other,
            }
        }
        self.answers().await;
        attempt().await
    }

    /// Resolves when the API has been silent for `patience`, in spite of all tries; pending for ever while it isn't.
    pub async fn lost(&self, patience: Duration) -> Silence {
        let mut silence = self.silence.subscribe();
        loop {
            // The sender is this value's own: the wait can't end without a silence.
            let begun = silence.wait_for(Option::is_some).await.ok().and_then(|begun| begun.clone());
            if timeout(patience, self.answers()).await.is_err()
                && let Some(begun) = begun
            {
                return begun;
            }
        }
    }

    /// `Some(true)`: it is ready. `Some(false)`: it is there, but refuses to say so. `None`: it isn't there, or not ready.
    async fn ready(&self) -> Option<bool> {
        let request = http::Request::get("/readyz").body(Body::empty()).ok()?;
        let status = self.client.send(request).await.ok()?.status();
        if status.is_server_error() { None } else { Some(status.is_success()) }
    }
}

/// Whether an error means that there was no answer: everything else was said by somebody, the API or this machine.
pub fn is_silence(error: &kube::Error) -> bool {
    let transport = matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_));
    transport && !super::credentials::is_about(error)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use http::{Response, StatusCode};

    use super::*;

    /// An API whose answer to everything is this status; 0: none.
    fn contact(status: &Arc<AtomicU16>) -> Contact {
        let status = status.clone();
        let service = tower::service_fn(move |_: http::Request<Body>| {
            let code = status.load(Ordering::Relaxed);
            async move {
                match StatusCode::from_u16(code) {
                    Ok(code) => {
                        let mut response = Response::new(Body::empty());
                        *response.status_mut() = code;
                        Ok::<_, Infallible>(response)
                    }
                    Err(_) => std::future::pending().await,
                }
            }
        });
        Contact::new(kube::Client::new(service, "default"))
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_while_all_is_well() {
        let status = Arc::new(AtomicU16::new(0));
        contact(&status).answers().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_when_it_is_ready_again() {
        let status = Arc::new(AtomicU16::new(500));
        let contact = contact(&status);
        contact.silent("connection refused");
        assert_eq!(contact.lost(SILENCE).await.why, "connection refused");
        status.store(200, Ordering::Relaxed);
        tokio::join!(contact.answers(), contact.answers());
        assert!(contact.silence().borrow().is_none());
        tokio::time::timeout(SILENCE * 2, contact.lost(SILENCE)).await.expect_err("it answers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_only_when_it_stays() {
        let status = Arc::new(AtomicU16::new(403));
        let contact = contact(&status);
        contact.silent("reset");
        let began = Instant::now();
        contact.answers().await;
        assert!(began.elapsed() >= BELIEVED);
    }
}
