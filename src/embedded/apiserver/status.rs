//! `Status` errors in Kubernetes' own words.
//!
//! Everything a client is told about a failure is one of these; what is only for the log never
//! gets here. Messages and reasons follow `apimachinery/pkg/api/errors/errors.go` and, for
//! invalid fields, `apimachinery/pkg/util/validation/field/errors.go`.

use axum::body::Body;
use http::{Response, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

/// A failure as the API's clients see it: `v1.Status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    /// What happened, for people.
    pub message: String,
    /// What happened, for programs; `""` when Kubernetes gives none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    /// What it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code.
    pub code: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Empty {}

/// What a [`Status`] is about: `v1.StatusDetails`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its API group; empty for the core group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (or, for invalid objects, the kind).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid, in the answer to a deletion.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One entry for each thing that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds; 0 is unsaid.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// One thing that is wrong: `v1.StatusCause`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// For programs, for example `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field's path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// A resource and its group, in the form messages use: `pods`, `deployments.apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// The plural name, or a kind where upstream's message uses one.
    pub resource: &'a str,
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.resource)?;
        if !self.group.is_empty() {
            write!(formatter, ".{}", self.group)?;
        }
        Ok(())
    }
}

impl Status {
    /// A failure of the given code, reason and message, about nothing in particular.
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            status: "Failure",
            message: message.into(),
            reason,
            details: None,
            code: code.as_u16(),
        }
    }

    fn about(mut self, resource: GroupResource<'_>, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = resource.group.to_owned();
        details.kind = resource.resource.to_owned();
        details.name = name.to_owned();
        self
    }

    /// Adds one cause.
    pub fn because(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        self.details.get_or_insert_default().causes.push(Cause {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.to_owned(),
        });
        self
    }

    /// The object is not there.
    pub fn not_found(resource: GroupResource<'_>, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{resource} {} not found", quote(name)))
            .about(resource, name)
    }

    /// Nothing is served at this path (`apiserver/pkg/util/notfoundhandler`, `errors.NewGenericServerResponse`).
    pub fn no_such_resource() -> Self {
        let mut status =
            Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// The name is taken.
    pub fn already_exists(resource: GroupResource<'_>, name: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", format!("{resource} {} already exists", quote(name)))
            .about(resource, name)
    }

    /// Nobody known is asking.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// Whoever is asking may not.
    pub fn forbidden(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = if resource.resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", quote(name))
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(resource, name)
    }

    /// The object isn't as the client thought.
    pub fn conflict(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "Conflict",
            format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name)),
        )
        .about(resource, name)
    }

    /// A replace or patch was made against an older version (`registry/generic/registry/store.go`, `OptimisticLockErrorMsg`).
    pub fn modified(resource: GroupResource<'_>, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// The object does not make sense. `kind` carries the *kind* in its `resource`.
    pub fn invalid(kind: GroupResource<'_>, name: &str, errors: Vec<FieldError>) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let subject = format!("{kind} {} is invalid", quote(name));
        let message = match texts.as_slice() {
            [] => subject,
            [one] => format!("{subject}: {one}"),
            many => format!("{subject}: [{}]", many.join(", ")),
        };
        let mut status = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(kind, name);
        status.details.get_or_insert_default().causes = errors
            .into_iter()
            .map(|error| Cause { reason: error.kind.reason().to_owned(), message: error.body(), field: error.field })
            .collect();
        status
    }

    /// The request itself does not make sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The verb isn't served for this resource.
    pub fn method_not_allowed() -> Self {
        let mut status = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// The body isn't in a form this server reads.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
        )
    }

    /// None of the forms the client takes can be given.
    pub fn not_acceptable(accepted: &str) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            format!("only the following media types are accepted: {accepted}"),
        )
    }

    /// The wanted revision is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// It did not happen in time (`errors.NewTimeoutError`).
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", format!("Timeout: {message}"));
        status.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        status
    }

    /// The server's own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", format!("Internal error occurred: {message}"))
            .because("", message, "")
    }

    /// This failure as the answer to a request.
    pub fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.details.as_ref().map(|details| details.retry_after_seconds).filter(|&s| s > 0) {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code == 401 {
            headers.insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer realm=\"kubernetes-master\""),
            );
        }
        response
    }
}

/// One field that is wrong: `field.Error`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// In what way.
    pub kind: FieldErrorKind,
    /// The field's path, as `spec.containers[0].name`.
    pub field: String,
    /// What it holds; `None` where the message leaves it out.
    pub value: Option<Value>,
    /// What was expected.
    pub detail: String,
}

/// In what way a field is wrong: `field.ErrorType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// What it refers to isn't there.
    NotFound,
    /// It must be given.
    Required,
    /// Given twice.
    Duplicate,
    /// Not a value it may have.
    Invalid,
    /// Not one of the possible values.
    NotSupported,
    /// May not be given, or not be changed.
    Forbidden,
    /// Too long.
    TooLong,
    /// Too many items.
    TooMany,
    /// The server's own fault.
    Internal,
    /// Of the wrong type.
    TypeInvalid,
}

impl FieldErrorKind {
    fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

impl FieldError {
    /// A field that holds something it may not hold.
    pub fn invalid(field: &str, value: impl Into<Value>, detail: &str) -> Self {
        Self {
            kind: FieldErrorKind::Invalid,
            field: field.to_owned(),
            value: Some(value.into()),
            detail: detail.to_owned(),
        }
    }

    /// A field that must be given.
    pub fn required(field: &str, detail: &str) -> Self {
        Self { kind: FieldErrorKind::Required, field: field.to_owned(), value: None, detail: detail.to_owned() }
    }

    /// A field that may not be given or changed.
    pub fn forbidden(field: &str, detail: &str) -> Self {
        Self { kind: FieldErrorKind::Forbidden, field: field.to_owned(), value: None, detail: detail.to_owned() }
    }

    /// The message without the field's path: `field.Error.ErrorBody`.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        let shown = !matches!(
            self.kind,
            FieldErrorKind::Required | FieldErrorKind::Forbidden | FieldErrorKind::TooLong | FieldErrorKind::Internal
        );
        if let Some(value) = self.value.as_ref().filter(|_| shown) {
            text.push_str(": ");
            match value {
                Value::String(string) => text.push_str(&quote(string)),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.field, self.body())
    }
}

/// A string as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
