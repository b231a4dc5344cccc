//! What an answer must be before anything of it is stored or relayed: one framing, a final status.
//! hyper alone takes both lengths, odd codings and stray statuses.

use http::{HeaderMap, Method, Response, StatusCode, Version, header};

use super::upgrade::Wanted;

/// How the end of a valid answer's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its head: a length, or no body at all.
    Sized,
    /// By its last chunk.
    Chunked,
    /// By the end of the connection, so that a cut one looks whole.
    Close,
    /// There is none: the connection leaves HTTP.
    Switched,
}

/// Checks the head of an answer to `method`; an error says why it is refused. `wanted` is what the
/// request asked to switch to.
pub(super) fn validate<B>(
    method: &Method,
    wanted: Option<&Wanted>,
    answer: &Response<B>,
) -> Result<Framing, &'static str> {
    let (status, headers) = (answer.status().as_u16(), answer.headers());
    if let Some(wanted) = wanted.filter(|_| status == 101) {
        return wanted.check(headers).map(|()| Framing::Switched);
    }
    if !(200..=599).contains(&status) {
        return Err("the status of the answer is not a final one");
    }
    let codings = headers.get_all(header::TRANSFER_ENCODING).iter().count();
    let has_length = has_length(headers)?;
    if codings > 0 {
        if has_length {
            return Err("both Content-Length and Transfer-Encoding in the answer");
        }
        if answer.version() != Version::HTTP_11 {
            return Err("Transfer-Encoding in an answer of HTTP/1.0");
        }
        let coding = headers.get(header::TRANSFER_ENCODING);
        let is_chunked = coding.is_some_and(|c| c.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if codings > 1 || !is_chunked {
            return Err("the Transfer-Encoding of the answer is not chunked");
        }
    }
    let bodiless = matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match codings {
        _ if has_length || bodiless || method == Method::HEAD => Framing::Sized,
        // HTTP/2 says itself where a body ends.
        0 if answer.version() == Version::HTTP_2 => Framing::Chunked,
        0 => Framing::Close,
        _ => Framing::Chunked,
    })
}

/// Whether there is a length: at most one, and nothing but digits.
fn has_length(headers: &HeaderMap) -> Result<bool, &'static str> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(false) };
    let digits = length.as_bytes();
    let is_number = digits.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(digits).is_ok_and(|text| text.parse::<u64>().is_ok());
    if lengths.next().is_some() || !is_number {
        return Err("the Content-Length of the answer is not one decimal number");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        method: Method,
        status: u16,
        fields: &[(&str, &str)],
    ) -> Result<Framing, &'static str> {
        let mut response = http::Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        validate(&method, None, &response.body(()).expect("valid"))
    }

    #[test]
    fn one_framing_is_taken() {
        let get = |status, fields: &[_]| check(Method::GET, status, fields);
        assert_eq!(get(200, &[("content-length", "3")]), Ok(Framing::Sized));
        assert_eq!(get(200, &[("transfer-encoding", "Chunked")]), Ok(Framing::Chunked));
        assert_eq!(get(200, &[]), Ok(Framing::Close));
        assert_eq!(get(204, &[]), Ok(Framing::Sized));
        assert_eq!(get(304, &[("content-length", "99")]), Ok(Framing::Sized));
        assert_eq!(check(Method::HEAD, 200, &[]), Ok(Framing::Sized));
        assert_eq!(get(599, &[("content-length", "0")]), Ok(Framing::Sized));
    }

    #[test]
    fn anything_else_is_refused() {
        for fields in [
            &[("content-length", "3"), ("transfer-encoding", "chunked")][..],
            &[("content-length", "3"), ("content-length", "3")],
            &[("content-length", "3, 3")],
            &[("content-length", "+3")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
            &[("transfer-encoding", "gzip")],
            &[("transfer-encoding", "chunked, identity")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "")],
        ] {
            assert!(check(Method::GET, 200, fields).is_err(), "{fields:?}");
            assert!(check(Method::HEAD, 200, fields).is_err(), "{fields:?}");
        }
        for status in [101, 100, 199, 600, 999] {
            assert!(check(Method::GET, status, &[]).is_err(), "{status}");
        }
    }
}
