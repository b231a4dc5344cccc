//! The shop's HTTP side: accept, route, answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::order::{Ask, Backend, Placed};
use super::{Style, admin, page};

/// An answer of the shop; the error closes the connection without one.
pub(super) type Answered = Result<Response<Full<Bytes>>, Dropped>;

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as the error model says")]
pub(super) struct Dropped;

const BODY_BYTES_MAX: usize = 16 * 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// One page in so many sets a cookie, as shops do that count visits.
const COOKIE_EVERY: u64 = 4;

/// Serves until `stop` is told or dropped. Must run within a `LocalSet`.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    backend: Arc<Backend>,
    mut stop: oneshot::Receiver<()>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(cause) => return tracing::error!(%cause, "the shop cannot use its listener"),
    };
    let places = Arc::new(Semaphore::new(backend.settings.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            _ = &mut stop => return,
            Some(_) = connections.join_next() => {}
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let backend = backend.clone();
                    connections.spawn_local(async move {
                        let _place = place;
                        connection(stream, backend).await;
                    });
                }
                // Out of descriptors, most likely: wait for some to be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
    }
}

async fn connection(stream: TcpStream, backend: Arc<Backend>) {
    // Latency matters more than packets here; a socket that refuses still works.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| answer(request, backend.clone()));
    // Broken and dropped connections are the mock's daily bread.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, backend: Arc<Backend>) -> Answered {
    let path = request.uri().path().to_owned();
    if let Some(rest) = path.strip_prefix("/_shop/") {
        return admin::answer(rest, &request, &backend);
    }
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let activity = path.strip_prefix("/activity/").and_then(|rest| {
        let (id, tail) = rest.split_once('/').unwrap_or((rest, ""));
        (!id.is_empty()).then(|| (id.to_owned(), tail.to_owned()))
    });
    match activity {
        Some((id, tail)) if tail.is_empty() && get => Ok(show(&request, &backend, &id).await),
        Some((_, tail)) if tail == "orders" && request.method() == Method::POST => {
            order(request, backend).await
        }
        _ => Ok(other(&path, &backend)),
    }
}

async fn show(request: &Request<Incoming>, backend: &Backend, id: &str) -> Response<Full<Bytes>> {
    let visit = {
        let mut books = backend.books();
        books.stats.pages += 1;
        books.stats.pages
    };
    tokio::time::sleep(Duration::from_millis(u64::from(backend.settings.page_ms))).await;
    let query = request.uri().query().unwrap_or_default();
    let city = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("city="))
        .or_else(|| cookie(request.headers(), "city_id"))
        .unwrap_or("everywhere");
    let html = page::activity(id, city, backend.settings.page_bytes);
    let mut response = text(StatusCode::OK, "text/html; charset=utf-8", html);
    if visit % COOKIE_EVERY == 1
        && let Ok(value) = HeaderValue::try_from(format!("visit={visit}; Path=/"))
    {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

fn other(path: &str, backend: &Backend) -> Response<Full<Bytes>> {
    match page::asset(path) {
        Some((kind, body)) => {
            backend.books().stats.assets += 1;
            text(StatusCode::OK, kind, body)
        }
        None => {
            backend.books().stats.others += 1;
            text(StatusCode::NOT_FOUND, "text/plain", "the shop has no such page\n")
        }
    }
}

async fn order(request: Request<Incoming>, backend: Arc<Backend>) -> Answered {
    let (head, body) = request.into_parts();
    let style = backend.settings.style;
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        backend.count_invalid();
        return Ok(reply(style, &Said::BAD_BODY));
    };
    let ask = match ask(&head.headers, &body.to_bytes(), &backend) {
        Ok(ask) => ask,
        Err(said) => {
            backend.count_invalid();
            return Ok(reply(style, &said));
        }
    };
    // A task of its own: an order goes on when its client has left, as in any real shop.
    let placed = tokio::task::spawn_local(async move { backend.place(ask).await }).await;
    match placed {
        Ok(Placed::Dropped) | Err(_) => Err(Dropped),
        Ok(placed) => Ok(reply(style, &Said::of(placed))),
    }
}

fn ask(headers: &HeaderMap, body: &[u8], backend: &Backend) -> Result<Ask, Said> {
    let user = cookie(headers, "uid").ok_or(Said::NO_USER)?.to_owned();
    let header = |name| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body: Value = match body {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes).map_err(|_| Said::BAD_BODY)?,
    };
    let pool = match body.pointer(&backend.settings.pool_at) {
        None => None,
        Some(Value::String(pool)) => Some(pool.clone()),
        Some(Value::Number(pool)) => Some(pool.to_string()),
        Some(_) => return Err(Said::BAD_BODY),
    };
    let units = match body.pointer(&backend.settings.units_at) {
        None => 1,
        Some(units) => units.as_u64().filter(|n| (1..=1_000).contains(n)).ok_or(Said::BAD_BODY)?,
    };
    let key = header("idempotency-key");
    let admission = header("penstock-admission");
    Ok(Ask { user, pool, units, key, admission, received_ms: backend.now_ms() })
}

/// One answer in both styles.
struct Said {
    status: StatusCode,
    code: u32,
    word: &'static str,
    order: Option<String>,
}

impl Said {
    const NO_USER: Said = Said::new(StatusCode::UNAUTHORIZED, 1_401, "login_required");
    const BAD_BODY: Said = Said::new(StatusCode::BAD_REQUEST, 1_400, "bad_request");

    const fn new(status: StatusCode, code: u32, word: &'static str) -> Said {
        Said { status, code, word, order: None }
    }

    fn of(placed: Placed) -> Said {
        match placed {
            Placed::Made(order) => {
                Said { order: Some(order), ..Said::new(StatusCode::CREATED, 0, "ok") }
            }
            Placed::SoldOut => Said::new(StatusCode::CONFLICT, 1_001, "sold_out"),
            Placed::Declined => Said::new(StatusCode::CONFLICT, 1_002, "declined"),
            Placed::UnknownPool => Said::new(StatusCode::NOT_FOUND, 1_404, "unknown_pool"),
            Placed::Busy => Said::new(StatusCode::SERVICE_UNAVAILABLE, 5_003, "busy"),
            // A dropped one is not answered at all; its row only keeps the match whole.
            Placed::Broken | Placed::Dropped => {
                Said::new(StatusCode::INTERNAL_SERVER_ERROR, 5_000, "internal_error")
            }
        }
    }
}

fn reply(style: Style, said: &Said) -> Response<Full<Bytes>> {
    match style {
        Style::Status => match &said.order {
            Some(order) => self::json(said.status, &json!({ "order": order })),
            None => self::json(said.status, &json!({ "error": said.word })),
        },
        Style::Code => {
            let data = said.order.as_ref().map(|order| json!({ "orderNo": order }));
            let body = json!({ "code": said.code, "msg": said.word, "data": data });
            self::json(StatusCode::OK, &body)
        }
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    text(status, "application/json", body.to_string())
}

/// An answer of any type.
pub(super) fn text(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
}
