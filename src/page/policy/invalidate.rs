//! Which URLs an answer to an unsafe method makes stale (RFC 9111 4.4).

use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};

/// Whether the method may change things (RFC 9110 9.2.1). One that we do not know may.
pub fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Whether an answer of this status invalidates: one that is no error.
pub fn is_success(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// The targets of the same origin that `Location` and `Content-Location` name, as path and query.
/// Another origin's are left alone, or a shop could empty another's cache.
pub fn named(headers: &HeaderMap, host: &str, path: &str) -> Vec<String> {
    let fields: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];
    let values = fields.iter().filter_map(|name| headers.get(name)?.to_str().ok());
    values.filter_map(|value| resolve(value.trim(), host, path)).collect()
}

/// A reference as a target of this host (RFC 3986 5.2, without dot segments: who sends them gets
/// nothing invalidated but what stands there).
pub fn resolve(reference: &str, host: &str, path: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if let Some(rest) = reference.strip_prefix("//") {
        return same_host(&format!("http://{rest}"), host);
    }
    if reference.starts_with('/') {
        return Some(reference.to_owned());
    }
    if reference.is_empty() {
        return Some(path.to_owned());
    }
    let scheme = reference.split_once(':').map(|(scheme, _)| scheme);
    let is_absolute = scheme.is_some_and(|s| s.bytes().all(|b| b.is_ascii_alphanumeric()));
    if is_absolute {
        return same_host(reference, host);
    }
    if let Some(query) = reference.strip_prefix('?') {
        return Some(format!("{path}?{query}"));
    }
    let directory = &path[..path.rfind('/').map_or(0, |at| at + 1)];
    Some(format!("{directory}{reference}"))
}

fn same_host(url: &str, host: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let authority = crate::http::authority::normalise(uri.authority()?.as_str().as_bytes())?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    (authority == host).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_invalidates() {
        let unknown = Method::from_bytes(b"M-SEARCH").expect("valid");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, unknown] {
            assert!(is_unsafe(&method), "{method}");
        }
        assert!(!is_unsafe(&Method::GET) && !is_unsafe(&Method::OPTIONS));
        assert!(is_success(StatusCode::CREATED) && is_success(StatusCode::SEE_OTHER));
        assert!(!is_success(StatusCode::CONFLICT) && !is_success(StatusCode::BAD_GATEWAY));
    }

    #[test]
    fn only_this_origin_is_named() {
        let at = |reference| resolve(reference, "shop.example", "/a/b");
        assert_eq!(at("/c?x").as_deref(), Some("/c?x"));
        assert_eq!(at("c").as_deref(), Some("/a/c"));
        assert_eq!(at("?q").as_deref(), Some("/a/b?q"));
        assert_eq!(at("").as_deref(), Some("/a/b"));
        assert_eq!(at("http://Shop.Example:80/c#d").as_deref(), Some("/c"));
        assert_eq!(at("//shop.example/c").as_deref(), Some("/c"));
        assert_eq!(at("http://other.example/c"), None);
        assert_eq!(at("//other.example/c"), None);
        assert_eq!(at("mailto:a@b"), None);
    }
}
