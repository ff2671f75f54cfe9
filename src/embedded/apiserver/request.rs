//! What a request asks for, read from its method and path.
//!
//! Follows `apiserver/pkg/endpoints/request/requestinfo.go`. Pure.

use http::Method;

/// A request's meaning: who may do what to what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// Whether the path names an API resource; otherwise only `path` and `verb` count.
    pub is_resource: bool,
    /// The path as asked for.
    pub path: String,
    /// `get list watch create update patch delete deletecollection`, or the lower-case method.
    pub verb: &'static str,
    /// Empty for the core group.
    pub group: String,
    /// For example `v1`.
    pub version: String,
    /// Empty when cluster-wide.
    pub namespace: String,
    /// The plural name.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// Empty for collections.
    pub name: String,
    /// What follows the subresource, with its leading slash: for proxies.
    pub rest: String,
}

const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads a request's method, path and query.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self { path: path.to_owned(), verb: method_verb(method), ..Self::default() };
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect();
        let mut rest: &[String] = match parts.first().map(String::as_str) {
            Some("api") if parts.len() >= 3 => {
                info.version.clone_from(&parts[1]);
                &parts[2..]
            }
            Some("apis") if parts.len() >= 4 => {
                info.group.clone_from(&parts[1]);
                info.version.clone_from(&parts[2]);
                &parts[3..]
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let mut legacy_watch = false;
        if rest[0] == "watch" && rest.len() > 1 {
            legacy_watch = true;
            rest = &rest[1..];
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            info.namespace.clone_from(&rest[1]);
            if rest.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&rest[2].as_str()) {
                rest = &rest[2..];
            }
        }
        info.resource.clone_from(&rest[0]);
        if let Some(name) = rest.get(1) {
            info.name.clone_from(name);
        }
        if let Some(subresource) = rest.get(2) {
            info.subresource.clone_from(subresource);
        }
        for part in rest.iter().skip(3) {
            info.rest.push('/');
            info.rest.push_str(part);
        }
        if legacy_watch {
            info.verb = "watch";
        } else if info.name.is_empty() && info.verb == "get" {
            info.verb = if query.flag("watch") { "watch" } else { "list" };
            // A watch or list of one name is authorized as of that name.
            if let Some(name) = query.get("fieldSelector").and_then(|text| text.strip_prefix("metadata.name="))
                && !name.contains(',')
            {
                info.name = name.to_owned();
            }
        } else if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection";
        }
        info
    }

    /// The resource with its subresource, as roles name it: `pods/log`.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

/// A request's query parameters, in order, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a URL after `?`.
    pub fn parse(query: Option<&str>) -> Self {
        Self(
            query
                .unwrap_or_default()
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(&key.replace('+', " ")), percent_decode(&value.replace('+', " ")))
                })
                .collect(),
        )
    }

    /// The first value given for `key`; an empty one counts as none.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values given for `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A boolean as `runtime.Convert_Slice_string_To_bool` reads it: present and neither `false` nor `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .is_some_and(|(_, value)| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    /// The same where being absent means something.
    pub fn optional_flag(&self, key: &str) -> Option<bool> {
        self.0.iter().any(|(name, _)| name == key).then(|| self.flag(key))
    }
}

/// Undoes percent encoding; bytes that aren't UTF-8 become replacement characters.
pub fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escape = bytes
            .get(index + 1..index + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[index], escape) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                index += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Encodes what may not stand in a path segment or a query value.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, path: &str, query: &str) -> RequestInfo {
        RequestInfo::parse(method, path, &Query::parse(Some(query)))
    }

    /// Cases from upstream's `requestinfo_test.go`.
    #[test]
    fn paths_as_upstream_reads_them() {
        for (method, path, query, verb, group, namespace, resource, subresource, name) in [
            (Method::GET, "/api/v1/namespaces", "", "list", "", "", "namespaces", "", ""),
            (Method::GET, "/api/v1/namespaces/other", "", "get", "", "other", "namespaces", "", "other"),
            (
                Method::PUT,
                "/api/v1/namespaces/other/finalize",
                "",
                "update",
                "",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            (Method::GET, "/api/v1/namespaces/other/pods", "", "list", "", "other", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces/other/pods/foo", "", "get", "", "other", "pods", "", "foo"),
            (Method::GET, "/api/v1/pods", "watch=1", "watch", "", "", "pods", "", ""),
            (Method::GET, "/api/v1/pods", "watch=false", "list", "", "", "pods", "", ""),
            (Method::GET, "/api/v1/pods", "fieldSelector=metadata.name%3Da", "list", "", "", "pods", "", "a"),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/x/deployments",
                "",
                "deletecollection",
                "apps",
                "x",
                "deployments",
                "",
                "",
            ),
            (Method::POST, "/api/v1/namespaces/x/pods/y/eviction", "", "create", "", "x", "pods", "eviction", "y"),
            (Method::GET, "/api/v1/watch/pods", "", "watch", "", "", "pods", "", ""),
        ] {
            let info = parse(&method, path, query);
            assert_eq!(
                (info.verb, &*info.group, &*info.namespace, &*info.resource, &*info.subresource, &*info.name),
                (verb, group, namespace, resource, subresource, name),
                "{path}"
            );
        }
        let info = parse(&Method::GET, "/apis/apps/v1", "");
        assert!(!info.is_resource);
        assert_eq!(info.verb, "get");
    }

    #[test]
    fn queries_decode() {
        let query = Query::parse(Some("a=1&a=2+3&watch&b=%2f"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2 3"]);
        assert!(query.flag("watch"));
        assert_eq!(query.get("b"), Some("/"));
        assert_eq!(query.optional_flag("c"), None);
    }
}
