//! Whether this node should get traffic, and if not, everything that is wrong.

use http::StatusCode;
use serde_json::{Value, json};

use super::Context;
use super::reply::Reply;

/// `/livez`: the process answers.
pub(super) fn live() -> Reply {
    Reply::ok(&json!({ "live": true, "version": env!("CARGO_PKG_VERSION") }))
}

/// `/readyz`: 200, or 503 with the list of what is wrong.
pub(super) fn ready(context: &Context) -> Reply {
    let wrong = wrong(context);
    let status = status(&wrong);
    let wrong: Vec<Value> =
        wrong.into_iter().map(|(what, said)| json!({ "what": what, "said": said })).collect();
    Reply::json(status, &json!({ "ready": status == StatusCode::OK, "wrong": wrong }))
}

/// What a TCP client without the token may know: whether there is life, and whether traffic should
/// come, for balancers. `None`: nothing.
pub(super) fn stranger(context: &Context, path: &str) -> Option<Reply> {
    match path {
        "/livez" => Some(live()),
        "/readyz" => {
            let status = status(&wrong(context));
            Some(Reply::json(status, &json!({ "ready": status == StatusCode::OK })))
        }
        _ => None,
    }
}

/// Everything that is wrong, each under a word.
pub(super) fn wrong(context: &Context) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    if context.is_draining() {
        wrong.push(("draining", "the node is shutting down".to_owned()));
    }
    if !context.book.is_synced() {
        let said = "the store has not told yet which sales there are: purchases and availability \
                    answer `unavailable`";
        wrong.push(("mirror", said.to_owned()));
    }
    wrong.extend(context.claims.health().into_iter().map(|said| ("claims", said)));
    wrong.extend(
        context.claims.declaration_troubles().into_iter().map(|said| ("declaration", said)),
    );
    wrong
}

fn status(wrong: &[(&'static str, String)]) -> StatusCode {
    if wrong.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
