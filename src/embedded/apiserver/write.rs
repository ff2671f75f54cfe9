//! The one write pipeline: decode → default → mutate → validate → apply → precondition → commit.
//!
//! Create, replace, patch, status and scale all come through [`create`] and [`update`]. Follows
//! `apiserver/pkg/registry/generic/registry/store.go` and `registry/rest/{create,update}.go`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use super::context::{Context, WriteOptions};
use super::status::{FieldError, Status};
use super::store::{CommitError, Key, Stored, Write};
use super::{admission, convert, delete, managed, meta, read, schema, schemas, strategy, unenforced};

/// Which part of an object a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// The status.
    Status,
    /// Whatever a subresource's own code changed; nothing is reset.
    Subresource,
}

/// What became of a write.
#[derive(Debug)]
pub struct Outcome {
    /// The object as it is now.
    pub stored: Arc<Stored>,
    /// Whether it is new.
    pub created: bool,
}

/// Answers a create from the request's body.
pub fn post(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let options = context.write_options()?;
    let object = decode_body(context, &options)?;
    if !context.info.name.is_empty() {
        return Err(Status::method_not_allowed());
    }
    let stored = create(context, object, &options)?;
    read::object(context, StatusCode::CREATED, &stored)
}

/// Answers a replace from the request's body.
pub fn put(context: &mut Context<'_>, part: Part) -> Result<Response<Body>, Status> {
    let options = context.write_options()?;
    let object = decode_body(context, &options)?;
    let name = meta::text(&object, "name").to_owned();
    if !name.is_empty() && name != context.info.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            context.info.name
        )));
    }
    let outcome = update(context, part, &options, "Update", |_, old| match old {
        Some(_) => Ok(object.clone()),
        None if part == Part::Main && context_creates(&object) => Ok(object.clone()),
        None => Err(None),
    })?;
    let code = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
    read::object(context, code, &outcome.stored)
}

fn context_creates(object: &Value) -> bool {
    // A replace that names a version wants to replace.
    meta::text(object, "resourceVersion").is_empty() && meta::text(object, "uid").is_empty()
}

/// The request's body as an object of its kind, with the namespace of the path.
pub fn decode_body(context: &mut Context<'_>, options: &WriteOptions) -> Result<Value, Status> {
    let content_type = context.header(http::header::CONTENT_TYPE).to_owned();
    let mut warnings = Vec::new();
    let mut object = schemas::decode(context.row, &content_type, context.body, options.validation, &mut warnings)?;
    context.warnings.append(&mut warnings);
    check_kind(context, &object)?;
    convert::name_kind(context.row, &mut object);
    set_namespace(context, &mut object)?;
    Ok(object)
}

fn check_kind(context: &Context<'_>, object: &Value) -> Result<(), Status> {
    let expected = context.row.api_version();
    let (version, kind) =
        (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    if !version.is_empty() && version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    if !kind.is_empty() && kind != context.row.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {}: no kind {} is registered for this resource",
            super::status::quote(context.row.version),
            context.row.kind,
            super::status::quote(kind)
        )));
    }
    Ok(())
}

/// `rest.EnsureObjectNamespaceMatchesRequestNamespace`
fn set_namespace(context: &Context<'_>, object: &mut Value) -> Result<(), Status> {
    let given = meta::text(object, "namespace").to_owned();
    let wanted = context.namespace().to_owned();
    if !given.is_empty() && given != wanted {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let metadata = meta::metadata(object);
    if wanted.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".to_owned(), Value::String(wanted));
    }
    Ok(())
}

/// Creates an object, from whatever source.
pub fn create(context: &mut Context<'_>, mut object: Value, options: &WriteOptions) -> Result<Arc<Stored>, Status> {
    let row = context.row;
    if row.namespaced && context.info.namespace.is_empty() {
        return Err(Status::bad_request("an empty namespace may not be set during creation"));
    }
    if !meta::text(&object, "resourceVersion").is_empty() {
        return Err(Status::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let generated = fill_identity(context, &mut object)?;
    let unmanaged = object.clone();
    schemas::default(row, &mut object);
    strategy::prepare_for_create(row, &mut object);
    let admitted = admission::create(context, &mut object)?;
    meta::drop_empty(&mut object);
    managed::on_create(row, &mut object, &unmanaged, options);
    let name = meta::text(&object, "name").to_owned();
    let errors = schemas::validate(row, &object, None);
    if !errors.is_empty() {
        return Err(Status::invalid(row.group_kind(), &name, errors));
    }
    if let Some(warning) = unenforced::kind(row) {
        context.warnings.push(warning);
    }
    context.warnings.extend(unenforced::fields(context, &object, None));
    convert::to_storage(row, &mut object);
    let key = Key::new(context.namespace(), &name);
    if options.dry_run {
        if context.server.store.get(row.id(), context.namespace(), &name).is_some() {
            return Err(Status::already_exists(row.resource(), &name));
        }
        return Ok(Arc::new(Stored::new(row.id(), &object, 0)));
    }
    let stored =
        context.server.store.commit(row.id(), key, None, Write::Put(&mut object)).map_err(|error| match error {
            CommitError::Changed if generated => {
                let mut status = Status::already_exists(row.resource(), &name);
                status.message += ", the server was not able to generate a unique name for the object";
                status
            }
            CommitError::Changed => Status::already_exists(row.resource(), &name),
            CommitError::NamespaceTerminating => admission::namespace_refusal(context, &name),
        })?;
    admitted.keep();
    if !context.user.is_component() {
        context.server.store.created_by(&stored, &context.user.name);
    }
    admission::stored(context.server, row, &stored, true);
    Ok(stored)
}

/// Sets name, uid and times (`rest.BeforeCreate`, `rest.FillObjectMetaSystemFields`). True if the name was generated.
fn fill_identity(context: &Context<'_>, object: &mut Value) -> Result<bool, Status> {
    let row = context.row;
    let prefix = meta::text(object, "generateName").to_owned();
    let mut generated = false;
    if meta::text(object, "name").is_empty() {
        if prefix.is_empty() {
            let error = FieldError::required("metadata.name", "name or generateName is required");
            return Err(Status::invalid(row.group_kind(), "", vec![error]));
        }
        generated = true;
        meta::metadata(object).insert("name".to_owned(), Value::String(meta::generate_name(&prefix)));
    }
    let metadata = meta::metadata(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), Value::String(meta::new_uid()));
    metadata.insert("creationTimestamp".to_owned(), Value::String(meta::now()));
    if row.has_generation() {
        metadata.insert("generation".to_owned(), 1.into());
    }
    Ok(generated)
}

/// Changes an object. `change` makes the new state from the old one, in the request's version; it is called
/// again when somebody else was faster, unless the request named the version it was for. `Err(None)`: not found.
pub fn update(
    context: &mut Context<'_>,
    part: Part,
    options: &WriteOptions,
    operation: &'static str,
    mut change: impl FnMut(&mut Vec<String>, Option<&Value>) -> Result<Value, Option<Status>>,
) -> Result<Outcome, Status> {
    let row = context.row;
    let name = context.info.name.clone();
    let namespace = context.namespace().to_owned();
    loop {
        let Some(current) = context.server.store.get(row.id(), &namespace, &name) else {
            let mut warnings = Vec::new();
            let creates = operation == "Apply" || row.create_on_update();
            let object = if creates { change(&mut warnings, None) } else { Err(None) };
            let mut object =
                object.map_err(|status| status.unwrap_or_else(|| Status::not_found(row.resource(), &name)))?;
            context.warnings.append(&mut warnings);
            convert::name_kind(row, &mut object);
            set_namespace(context, &mut object)?;
            meta::metadata(&mut object).insert("name".to_owned(), Value::String(name.clone()));
            admission::may_create_by_update(context)?;
            match create(context, object, options) {
                // Somebody else was faster: it is there to be changed (`etcd3/store.go`, `GuaranteedUpdate`).
                Err(status) if operation == "Apply" && status.reason == "AlreadyExists" => continue,
                created => return Ok(Outcome { stored: created?, created: true }),
            }
        };
        let old = convert::value(row, &current);
        let mut warnings = Vec::new();
        let mut new = change(&mut warnings, Some(&old))
            .map_err(|status| status.unwrap_or_else(|| Status::not_found(row.resource(), &name)))?;
        convert::name_kind(row, &mut new);
        set_namespace(context, &mut new)?;
        let given = meta::text(&new, "resourceVersion").to_owned();
        let unconditional = given.is_empty() || given == "0";
        if unconditional && operation == "Update" && !row.unconditional_update() {
            let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            return Err(Status::invalid(row.group_kind(), &name, vec![error]));
        }
        let given_uid = meta::text(&new, "uid");
        if !given_uid.is_empty() && given_uid != &*current.index.uid {
            return Err(Status::conflict(
                row.resource(),
                &name,
                &format!(
                    "Precondition failed: UID in precondition: {given_uid}, UID in object meta: {}",
                    current.index.uid
                ),
            ));
        }
        if !unconditional && given != current.index.revision.to_string() {
            return Err(Status::modified(row.resource(), &name));
        }
        schemas::default(row, &mut new);
        let mut errors = meta::update_errors(row, &new, &old);
        meta::keep_system_fields(&mut new, &old);
        meta::metadata(&mut new).insert("name".to_owned(), Value::String(name.clone()));
        strategy::prepare_for_update(row, &context.info.subresource, part, &mut new, &old);
        admission::update(context, part, &mut new, &old)?;
        meta::drop_empty(&mut new);
        // A status update keeps everything that is checked.
        if part != Part::Status {
            errors.extend(schemas::validate(row, &new, Some(&old)));
        }
        if !errors.is_empty() {
            return Err(Status::invalid(row.group_kind(), &name, errors));
        }
        if part == Part::Main {
            warnings.extend(unenforced::fields(context, &new, Some(&old)));
        }
        if operation != "Apply" {
            managed::on_update(row, &mut new, &old, &context.info.subresource, options);
        }
        // Nothing changed: nothing is written (store.go's shortcut in GuaranteedUpdate).
        meta::metadata(&mut new)
            .insert("resourceVersion".to_owned(), Value::String(current.index.revision.to_string()));
        if schema::managed_fields::same_but_times(&new, &old) && !delete::finished(row, &new, &old) {
            context.warnings.append(&mut warnings);
            return Ok(Outcome { stored: current, created: false });
        }
        let finished = delete::finished(row, &new, &old);
        convert::to_storage(row, &mut new);
        context.warnings.append(&mut warnings);
        if options.dry_run {
            let stored = Arc::new(Stored::new(row.id(), &new, current.index.revision));
            return Ok(Outcome { stored, created: false });
        }
        let write = if finished { Write::Remove(&mut new) } else { Write::Put(&mut new) };
        match context.server.store.commit(row.id(), Key::new(&namespace, &name), Some(&current), write) {
            Ok(stored) => {
                if finished {
                    admission::removed(context.server, row, &new);
                } else {
                    admission::stored(context.server, row, &stored, false);
                }
                return Ok(Outcome { stored, created: false });
            }
            // Read again: a patch applies to the newer state, a replace with a version is refused.
            Err(_) => continue,
        }
    }
}
