//! Texts with `${…}` in them: host variables are put in when a text is parsed, references to services and
//! keys stay and are resolved later for whoever reads them (`plan::viewpoint`).
//!
//! As in compose: `$VAR`, `${VAR}`, `${VAR:-default}`, `${VAR-default}`, `${VAR:?why}`, `${VAR?why}`,
//! `${VAR:+instead}`, `${VAR+instead}`, and `$$` for one `$`. Unlike compose, a variable that isn't set is an
//! error rather than an empty text. A `$` before anything else is itself, so Kubernetes' `$(VAR)` passes through.
//! A value that comes from a variable is never parsed again.

mod parse;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text in which references are still to be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Itself.
    Text(String),
    /// Something that depends on who reads it.
    Reference(Reference),
}

/// What `${…}` with a dot in it means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// `${services.NAME.PORT.FIELD}`.
    Port {
        /// The service.
        service: String,
        /// Its port's name.
        port: String,
        /// Which part of the address.
        field: PortField,
    },
    /// `${services.NAME.host}`.
    Host {
        /// The service.
        service: String,
    },
    /// `${keys.NAME}`.
    Key {
        /// The key.
        name: String,
    },
}

/// Which part of a port's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortField {
    /// `HOST:PORT`.
    Address,
    /// The host alone.
    Host,
    /// The number alone.
    Port,
    /// `SCHEME://HOST:PORT`.
    Url,
}

impl PortField {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Address, "address"), (Self::Host, "host"), (Self::Port, "port"), (Self::Url, "url")];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Host => "host",
            Self::Port => "port",
            Self::Url => "url",
        }
    }
}

/// What is wrong with a text, and where in it (bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The part at fault.
    pub at: Range<usize>,
    /// What is wrong.
    pub kind: TemplateErrorKind,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateErrorKind {
    /// `${` without its `}`.
    #[error("`${{` is never closed")]
    Unclosed,
    /// Neither a variable's name nor a reference.
    #[error("`${{{0}}}` is neither a host variable nor a reference")]
    BadName(String),
    /// An operator that isn't known.
    #[error("`${{{name}{rest}}}`: after a variable's name come `:-`, `-`, `:?`, `?`, `:+` or `+`")]
    BadOperator {
        /// The variable.
        name: String,
        /// What follows it.
        rest: String,
    },
    /// A variable that isn't set.
    #[error("the host variable `{0}` is not set")]
    Unset(String),
    /// `${VAR:?why}` of one that isn't set.
    #[error("the host variable `{name}` is required: {why}")]
    Required {
        /// The variable.
        name: String,
        /// The file's words.
        why: String,
    },
    /// A reference of no known form.
    #[error("`${{{0}}}` is not a reference")]
    BadReference(String),
    /// Defaults in defaults in defaults.
    #[error("`${{…}}` is nested too deeply")]
    TooDeep,
}

impl TemplateErrorKind {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unclosed => Some("write `$$` for a `$` that is meant as it is".into()),
            Self::Unset(name) => Some(format!(
                "set it, give a default (`${{{name}:-…}}`), or write `$${name}` if the program should see it as it is"
            )),
            Self::BadReference(_) => Some(
                "references are `${services.NAME.PORT.address|host|port|url}`, `${services.NAME.host}` and `${keys.NAME}`".into(),
            ),
            _ => None,
        }
    }
}

impl Template {
    /// A text without references.
    pub fn text(text: impl Into<String>) -> Self {
        let mut template = Self::default();
        template.push_text(&text.into());
        template
    }

    /// One reference and nothing else.
    pub fn reference(reference: Reference) -> Self {
        Self { parts: vec![Part::Reference(reference)] }
    }

    /// Parses a text, putting in the variables that `lookup` knows.
    ///
    /// # Errors
    /// Everything that is wrong with it, in order.
    pub fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<TemplateError>> {
        if !text.contains('$') {
            return Ok(Self::text(text));
        }
        parse::parse(text, lookup)
    }

    /// Its pieces; neighbouring texts are one piece.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Its text, if it has no references.
    pub fn as_text(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its references, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(|part| match part {
            Part::Reference(reference) => Some(reference),
            Part::Text(_) => None,
        })
    }

    fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Part::Text(last)) = self.parts.last_mut() {
            last.push_str(text);
        } else {
            self.parts.push(Part::Text(text.to_owned()));
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { service, port, field } => write!(formatter, "${{services.{service}.{port}.{}}}", field.word()),
            Self::Host { service } => write!(formatter, "${{services.{service}.host}}"),
            Self::Key { name } => write!(formatter, "${{keys.{name}}}"),
        }
    }
}

/// As it could stand in a file: each `$` that is meant as it is doubled.
impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => formatter.write_str(&text.replace('$', "$$"))?,
                Part::Reference(reference) => reference.fmt(formatter)?,
            }
        }
        Ok(())
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, &|_| None).map_err(|errors| {
            let text: Vec<String> = errors.iter().map(|error| error.kind.to_string()).collect();
            serde::de::Error::custom(text.join("; "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".into()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${SET}$$".into()),
            _ => None,
        }
    }

    #[test]
    fn host_variables_as_in_compose() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$SET/x", "value/x"),
            ("${SET}", "value"),
            ("a${SET}b${SET}", "avaluebvalue"),
            ("${SET:-d}", "value"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-${SET}}", "value"),
            ("${NONE:-${NONE2:-deep}}", "deep"),
            ("${SET:-${NONE}}", "value"),
            ("${SET:+yes}", "yes"),
            ("${EMPTY:+yes}", ""),
            ("${EMPTY+yes}", "yes"),
            ("${NONE:+yes}", ""),
            ("${SET:?why}", "value"),
            ("$$SET $${SET}", "$SET ${SET}"),
            ("$(SET) $1 a$", "$(SET) $1 a$"),
            ("${TRICKY}", "${SET}$$"),
        ] {
            assert_eq!(Template::parse(text, &host).unwrap().as_text(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_and_where() {
        for (text, at, message) in [
            ("x${NONE}", 1..8, "the host variable `NONE` is not set"),
            ("$NONE", 0..5, "the host variable `NONE` is not set"),
            ("${NONE:?say so}", 0..15, "the host variable `NONE` is required: say so"),
            ("${EMPTY:?}", 0..10, "the host variable `EMPTY` is required: it is not set"),
            ("${SET", 0..5, "`${` is never closed"),
            ("${}", 0..3, "`${}` is neither a host variable nor a reference"),
            ("${1}", 0..4, "`${1}` is neither a host variable nor a reference"),
            ("${SET!x}", 0..8, "`${SET!x}`: after a variable's name come `:-`, `-`, `:?`, `?`, `:+` or `+`"),
            ("${SET:x}", 0..8, "`${SET:x}`: after a variable's name come `:-`, `-`, `:?`, `?`, `:+` or `+`"),
            ("${SET:}", 0..7, "`${SET:}`: after a variable's name come `:-`, `-`, `:?`, `?`, `:+` or `+`"),
            ("${services.db}", 0..14, "`${services.db}` is not a reference"),
            ("${services.db.sql.adress}", 0..25, "`${services.db.sql.adress}` is not a reference"),
            ("${NONE:-x${NONE2}}", 9..17, "the host variable `NONE2` is not set"),
        ] {
            let errors = Template::parse(text, &host).unwrap_err();
            assert_eq!(errors.len(), 1, "{text}");
            assert_eq!((errors[0].at.clone(), errors[0].kind.to_string().as_str()), (at, message), "{text}");
        }
        let errors = Template::parse("${A} ${B}", &host).unwrap_err();
        assert_eq!(errors.len(), 2);
    }

    #[test]
    fn references_stay() {
        let template = Template::parse("${SET}://${services.db.sql.address}/${keys.API_KEY}$$", &host).unwrap();
        assert_eq!(template.references().count(), 2);
        assert_eq!(template.to_string(), "value://${services.db.sql.address}/${keys.API_KEY}$$");
        let again: Template = serde_json::from_value(serde_json::to_value(&template).unwrap()).unwrap();
        assert_eq!(again, template);
        let nested = Template::parse("${NONE:-http://${services.api.http.url}}", &host).unwrap();
        assert_eq!(nested.references().count(), 1);
    }
}
