//! What the interface answers: JSON, a text, a page, or a stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use serde_json::{Value, json};

use super::stream::Stream;
use crate::store::StoreError;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    kind: &'static str,
    policy: &'static str,
    body: Body,
}

/// What is sent of an answer.
pub(super) enum Body {
    /// All at once; `None` when it is sent.
    Whole(Option<Bytes>),
    /// A piece at a time; `None` at its end.
    Stream(Option<Next>),
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Stream)>> + Send>>;

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
        Reply::whole(status, "application/json", text)
    }

    /// 200 with a text of `kind`.
    pub(super) fn text(kind: &'static str, body: String) -> Reply {
        Reply::whole(StatusCode::OK, kind, body)
    }

    /// 200 with a page that may do what `policy` says (CSP).
    pub(super) fn page(html: &'static str, policy: &'static str) -> Reply {
        let body = Bytes::from_static(html.as_bytes());
        Reply { policy, ..Reply::whole(StatusCode::OK, "text/html; charset=utf-8", body) }
    }

    /// 200 with server-sent events.
    pub(super) fn stream(stream: Stream) -> Reply {
        let body = Body::Stream(Some(Box::pin(stream.next())));
        Reply { body, ..Reply::text("text/event-stream", String::new()) }
    }

    fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply { status, kind, policy: NOTHING, body: Body::Whole(Some(body.into())) }
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
        Reply::error(
            StatusCode::UNAUTHORIZED,
            "send the token: Authorization: Bearer TOKEN; in a browser it is the password, and your \
             name is yours to choose",
        )
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

    pub(super) fn response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, self.kind),
            (header::CONTENT_SECURITY_POLICY, self.policy),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            for scheme in ["Bearer", "Basic realm=\"penstock\", charset=\"UTF-8\""] {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        response
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Body::Whole(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Body::Stream(next) => next,
        };
        let Some(waits) = next else { return Poll::Ready(None) };
        let came = ready!(waits.as_mut().poll(cx));
        *next = None;
        let Some((bytes, stream)) = came else { return Poll::Ready(None) };
        *next = Some(Box::pin(stream.next()));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Body::Stream(_) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None) | Body::Stream(None))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Whole(bytes) => f.debug_tuple("Whole").field(bytes).finish(),
            Body::Stream(_) => f.write_str("Stream"),
        }
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

/// What an answer that is no page may do in a browser.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";
