//! In what form an answer is wanted, from the `Accept` header.
//!
//! Follows `apiserver/pkg/endpoints/handlers/negotiation/negotiate.go`. Pure. Protobuf and CBOR are
//! never given: clients that prefer them name JSON as well.

use super::status::Status;

/// The form of an object or list in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Object,
    /// As rows for people: `meta.k8s.io/v1 Table`.
    Table,
    /// Only its metadata: `meta.k8s.io/v1 PartialObjectMetadata[List]`.
    Metadata,
}

/// The first form named that can be given.
///
/// # Errors
/// 406 when there is none.
pub fn form(accept: Option<&str>) -> Result<Form, Status> {
    let Some(accept) = accept.filter(|text| !text.trim().is_empty()) else {
        return Ok(Form::Object);
    };
    let mut first = true;
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let json = matches!(media_type, "application/json" | "*/*" | "application/*");
        let (mut kind, mut group, mut version) = (None, None, None);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key {
                "as" => kind = Some(value),
                "g" => group = Some(value),
                "v" => version = Some(value),
                _ => {}
            }
        }
        first = false;
        if !json {
            continue;
        }
        match (kind, group, version) {
            (None, _, _) => return Ok(Form::Object),
            (Some("Table"), Some("meta.k8s.io"), Some("v1" | "v1beta1")) => return Ok(Form::Table),
            (
                Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                Some("meta.k8s.io"),
                Some("v1" | "v1beta1"),
            ) => {
                return Ok(Form::Metadata);
            }
            _ => {}
        }
    }
    if first { Ok(Form::Object) } else { Err(Status::not_acceptable("application/json, application/yaml")) }
}

/// Whether aggregated discovery is wanted: the first clause that can be served decides.
pub fn wants_aggregated_discovery(accept: Option<&str>) -> bool {
    for clause in accept.unwrap_or_default().split(',') {
        let parts: Vec<&str> = clause.split(';').map(str::trim).collect();
        if !matches!(parts.first(), Some(&("application/json" | "*/*"))) {
            continue;
        }
        if !parts.iter().any(|part| part.starts_with("as=")) {
            return false;
        }
        if parts.contains(&"as=APIGroupDiscoveryList")
            && parts.contains(&"g=apidiscovery.k8s.io")
            && parts.contains(&"v=v2")
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send() {
        assert_eq!(form(None).ok(), Some(Form::Object));
        assert_eq!(form(Some("application/vnd.kubernetes.protobuf,application/json")).ok(), Some(Form::Object));
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(form(Some(kubectl)).ok(), Some(Form::Table));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(form(Some(metadata)).ok(), Some(Form::Metadata));
        assert!(form(Some("text/plain")).is_err());
        assert!(wants_aggregated_discovery(Some(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
        )));
        assert!(!wants_aggregated_discovery(Some("application/json")));
    }
}
