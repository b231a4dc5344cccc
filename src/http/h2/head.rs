//! From an HTTP/2 request to the one validated [`Head`]: the rules that HTTP/2 leaves to us, and those
//! of HTTP/1.1 for the same things (RFC 9113 8.2 and 8.3).

use std::rc::Rc;

use http::request::Parts;
use http::{Method, Version, header};

use crate::http::h1::scratch;
use crate::http::head::{BodyKind, Field, Head};
use crate::http::limits::Limits;
use crate::http::reader::{self, METHOD_BYTES_MAX};
use crate::http::refusal::Refusal;

/// Hands the validated head of a request to `work`; `is_whole` says that no body follows.
pub(super) fn with_head<T>(
    request: &Parts,
    is_whole: bool,
    limits: &Limits,
    work: impl FnOnce(&Head<'_>) -> T,
) -> Result<T, Refusal> {
    let (path, query) = target(request, limits)?;
    let host = host(request)?;
    let body = body(request, is_whole)?;
    expectation(request)?;
    let cookie = cookie(request);
    scratch::with_fields(|fields| {
        self::fields(request, cookie.as_deref(), limits, fields)?;
        let (method, version) = (request.method.clone(), Version::HTTP_2);
        let fields = fields[..].into();
        Ok(work(&Head { method, version, path, query, host, fields, body }))
    })
}

fn target<'r>(request: &'r Parts, limits: &Limits) -> Result<(&'r str, Option<&'r str>), Refusal> {
    // A tunnel and an echo of the sender's secrets: nobody behind us gets to see either.
    match &request.method {
        &Method::CONNECT | &Method::TRACE => return Err(Refusal::MethodRefused),
        method if method.as_str().len() > METHOD_BYTES_MAX => return Err(Refusal::MethodTooLong),
        _ => {}
    }
    // Without an authority HTTP/2 has looked at the scheme and dropped it.
    match (request.uri.scheme_str(), request.uri.authority()) {
        (Some("http" | "https"), _) | (None, None) => {}
        _ => return Err(Refusal::Target),
    }
    let target = request.uri.path_and_query().ok_or(Refusal::Target)?;
    let text = target.as_str();
    if text.len() > limits.target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    let is_server = text == "*" && request.method == Method::OPTIONS;
    let is_path = text.starts_with('/') && text.bytes().all(reader::is_target);
    if !is_server && !is_path {
        return Err(Refusal::Target);
    }
    Ok((target.path(), target.query()))
}

/// `:authority` and Host mean the same, and one of them is there.
fn host(request: &Parts) -> Result<Rc<str>, Refusal> {
    let valid = |text| reader::host_of(text).ok_or(Refusal::Host);
    let named = request.uri.authority().map(|named| valid(named.as_str().as_bytes()));
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(|host| valid(host.as_bytes()));
    if hosts.next().is_some() {
        return Err(Refusal::HostRepeated);
    }
    match (named.transpose()?, host.transpose()?) {
        (Some(named), Some(host)) if named != host => Err(Refusal::HostMismatch),
        (Some(named), _) => Ok(named),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(Refusal::HostMissing),
    }
}

fn body(request: &Parts, is_whole: bool) -> Result<BodyKind, Refusal> {
    let mut lengths = request.headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Refusal::ContentLengthRepeated);
    }
    let length = length.map(|text| reader::decimal(text.as_bytes()).ok_or(Refusal::ContentLength));
    match (length.transpose()?, is_whole) {
        (Some(1..), true) => Err(Refusal::ContentLength),
        (_, true) | (Some(0), _) => Ok(BodyKind::None),
        (Some(length), false) => Ok(BodyKind::Sized(length)),
        (None, false) => Ok(BodyKind::Chunked),
    }
}

fn expectation(request: &Parts) -> Result<(), Refusal> {
    let mut expects = request.headers.get_all(header::EXPECT).iter();
    let is_known = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    match (expects.next(), expects.next()) {
        (None, _) => Ok(()),
        (Some(value), None) if is_known(value.as_bytes()) && !is_read => Ok(()),
        _ => Err(Refusal::Expect),
    }
}

/// The crumbs of a cookie in one line (RFC 9113 8.2.3); nothing where there is at most one.
fn cookie(request: &Parts) -> Option<Vec<u8>> {
    let crumbs = || request.headers.get_all(header::COOKIE).iter().map(|crumb| crumb.as_bytes());
    crumbs().nth(1)?;
    Some(crumbs().collect::<Vec<_>>().join(&b"; "[..]))
}

/// All fields as HTTP/1.1 would have them: bounds, no white space around values, no names that others
/// take for another, one cookie.
fn fields<'f>(
    request: &'f Parts,
    cookie: Option<&'f [u8]>,
    limits: &Limits,
    out: &mut Vec<Field<'f>>,
) -> Result<(), Refusal> {
    out.clear();
    let mut has_cookie = false;
    for (at, (name, value)) in request.headers.iter().enumerate() {
        let (is_cookie, name) = (name == header::COOKIE, name.as_str().as_bytes());
        let mut value = value.as_bytes();
        if at == limits.fields_max {
            return Err(Refusal::TooManyFields);
        }
        if name.len() + 2 + value.len() > limits.field_bytes_max {
            return Err(Refusal::FieldTooLong);
        }
        if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value {
            return Err(Refusal::FieldValue);
        }
        if !value.iter().all(|byte| reader::is_value(*byte)) {
            return Err(Refusal::FieldValue);
        }
        if let (true, Some(joined)) = (is_cookie, cookie) {
            if has_cookie {
                continue;
            }
            has_cookie = true;
            value = joined;
        }
        if !name.contains(&b'_') {
            out.push(Field { name, value });
        }
    }
    Ok(())
}
