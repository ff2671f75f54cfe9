//! One mail through SMTP, with the certificates that the machine trusts (`SSL_CERT_FILE` names others).

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls as Security, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use super::message::Message;
use super::{NotifyError, WITHIN, unanswered};
use crate::plan::{Email, Tls};
use crate::redact::Redactor;

/// Sends a message.
pub(super) async fn send(
    email: &Email,
    password: Option<&str>,
    message: &Message,
    redactor: &Redactor,
) -> Result<(), NotifyError> {
    let mail = written(email, message, redactor)?;
    let security = match email.tls {
        Tls::None => Security::None,
        Tls::StartTls => Security::Required(parameters(&email.host)?),
        Tls::Implicit => Security::Wrapper(parameters(&email.host)?),
    };
    // Dangerous as it would be without `tls`.
    let mut server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&email.host)
        .port(email.port)
        .tls(security)
        .timeout(Some(WITHIN));
    if let (Some(login), Some(password)) = (&email.login, password) {
        server = server.credentials(Credentials::new(login.username.clone(), password.to_owned()));
    }
    server.build().send(mail).await.map(drop).map_err(|error| unanswered(&error))
}

fn parameters(host: &str) -> Result<TlsParameters, NotifyError> {
    TlsParameters::builder(host.to_owned()).build_rustls().map_err(|error| unanswered(&error))
}

fn written(email: &Email, message: &Message, redactor: &Redactor) -> Result<Mail, NotifyError> {
    let unwritable = |error: &dyn std::error::Error| NotifyError::Unwritable(error.to_string());
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|error| unwritable(&error));
    let mut mail = Mail::builder().from(mailbox(&email.from)?);
    for recipient in &email.to {
        mail = mail.to(mailbox(recipient)?);
    }
    mail.subject(redactor.text(&message.subject()).into_owned())
        // Nobody's holiday answer is wanted: RFC 3834.
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN)
        .body(redactor.text(&message.text()).into_owned())
        .map_err(|error| unwritable(&error))
}

/// RFC 3834, section 5.
#[derive(Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
