//! What the interface answers: JSON, or a text.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::store::StoreError;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    kind: &'static str,
    body: Bytes,
}

/// An answer, or the one that says why there is none.
pub(super) type Result<T = Reply> = std::result::Result<T, Reply>;

impl Reply {
    /// 200 with JSON.
    pub(super) fn ok(body: &Value) -> Reply {
        Reply::json(StatusCode::OK, body)
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Reply {
        let mut text = body.to_string();
        text.push('\n');
        Reply { status, kind: "application/json", body: text.into() }
    }

    /// 200 with a text of `kind`.
    pub(super) fn text(kind: &'static str, body: String) -> Reply {
        Reply { status: StatusCode::OK, kind, body: body.into() }
    }

    fn error(status: StatusCode, what: impl std::fmt::Display) -> Reply {
        Reply::json(status, &json!({ "error": what.to_string() }))
    }

    /// 400: what was sent makes no sense.
    pub(super) fn bad(what: impl std::fmt::Display) -> Reply {
        Reply::error(StatusCode::BAD_REQUEST, what)
    }

    /// 401: a token is asked for.
    pub(super) fn unauthorised() -> Reply {
        Reply::error(StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN")
    }

    /// 403: a browser's page may not speak for an operator.
    pub(super) fn forbidden(what: &str) -> Reply {
        Reply::error(StatusCode::FORBIDDEN, what)
    }

    /// 404.
    pub(super) fn missing(what: impl std::fmt::Display) -> Reply {
        Reply::error(StatusCode::NOT_FOUND, what)
    }

    /// 405.
    pub(super) fn method() -> Reply {
        Reply::error(StatusCode::METHOD_NOT_ALLOWED, "this path knows other methods")
    }

    /// 409: the state of the sale or the node forbids it.
    pub(super) fn conflict(what: impl std::fmt::Display) -> Reply {
        Reply::error(StatusCode::CONFLICT, what)
    }

    /// 413.
    pub(super) fn too_large(bytes_max: usize) -> Reply {
        let what = format!("the body is longer than {bytes_max} bytes");
        Reply::error(StatusCode::PAYLOAD_TOO_LARGE, what)
    }

    /// 503: not now.
    pub(super) fn unavailable(what: impl std::fmt::Display) -> Reply {
        Reply::error(StatusCode::SERVICE_UNAVAILABLE, what)
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Reply {
    fn from(error: StoreError) -> Reply {
        match error {
            StoreError::NotSent(_) => Reply::unavailable(format!("{error}; nothing was changed")),
            StoreError::MaybeApplied | StoreError::NotDurable => Reply::error(
                StatusCode::GATEWAY_TIMEOUT,
                format!("{error}: it may have been done; look with `penstock sale show`"),
            ),
            StoreError::Refused(_) => Reply::unavailable(error),
        }
    }
}
