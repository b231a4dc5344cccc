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
    wrong.extend(unlisted(context).into_iter().map(|said| ("sets", said)));
    wrong.extend(unread(context).into_iter().map(|said| ("shop", said)));
    wrong.extend(context.claims.health().into_iter().map(|said| ("claims", said)));
    wrong.extend(
        context.claims.declaration_troubles().into_iter().map(|said| ("declaration", said)),
    );
    wrong
}

/// Sales that are open and whose stock, the shop's own number, is not known.
fn unread(context: &Context) -> Vec<String> {
    let now = context.clock.now().ledger;
    let mut unread = Vec::new();
    for sale in context.book.all() {
        let state = &sale.state;
        let is_open = now >= state.opens_at && !state.is_ended_at(now);
        for pool in state.pools.iter().filter(|pool| is_open && !pool.is_known_at(now)) {
            unread.push(format!(
                "sale {}, pool {}: what the shop has left is not known, and nobody is admitted",
                state.id, pool.name
            ));
        }
    }
    unread
}

/// Sales whose sets of users are not known.
fn unlisted(context: &Context) -> Vec<String> {
    let now = context.clock.now();
    let mut unlisted = Vec::new();
    for sale in context.book.all() {
        let sets = sale.rosters().sets();
        let is_old = sets.as_ref().is_some_and(|sets| now.mono >= sets.until);
        if is_old && !sale.state.is_ended_at(now.ledger) {
            unlisted.push(format!(
                "sale {}: the shop's sets of users are not known, and nobody is admitted",
                sale.state.id
            ));
        }
    }
    unlisted
}

fn status(wrong: &[(&'static str, String)]) -> StatusCode {
    if wrong.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
