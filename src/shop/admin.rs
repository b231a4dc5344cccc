//! The shop's back door for demos and tests, under `/_shop/`.
//!
//! ```text
//! GET  stats             what was counted, as JSON
//! GET  orders            every order, one JSON line each
//! GET  orders.csv        the list that `penstock limbo match` and `penstock audit` read
//! POST reset             full stock, no orders, no counts
//! POST cancel?n=3        cancels the newest orders that stand, answers with their lines
//! POST hold, release     stops orders between the check of the stock and their making
//! ```

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;

use super::log::Event;
use super::order::{Backend, Order};
use super::service::{Answered, json as json_answer, text};

/// Answers a request under `/_shop/`; `rest` is what follows that.
pub(super) fn answer(rest: &str, request: &Request<Incoming>, backend: &Backend) -> Answered {
    let post = request.method() == Method::POST;
    Ok(match (rest, post) {
        ("stats", false) => match serde_json::to_value(backend.stats()) {
            Ok(stats) => json_answer(StatusCode::OK, &stats),
            Err(cause) => trouble(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string()),
        },
        ("orders", false) => lines(&backend.orders()),
        ("orders.csv", false) => text(StatusCode::OK, "text/csv", csv(&backend.orders())),
        ("reset", true) => {
            backend.reset();
            json_answer(StatusCode::OK, &json!({ "reset": true }))
        }
        ("cancel", true) => {
            let query = request.uri().query().unwrap_or_default();
            match query.strip_prefix("n=").and_then(|n| n.parse().ok()) {
                Some(n) => lines(&backend.cancel(n)),
                None => trouble(StatusCode::BAD_REQUEST, "say how many: cancel?n=3"),
            }
        }
        ("hold" | "release", true) => {
            backend.hold(rest == "hold");
            json_answer(StatusCode::OK, &json!({ "held": rest == "hold" }))
        }
        _ => trouble(StatusCode::NOT_FOUND, "no such verb: see `penstock shop --help`"),
    })
}

/// The shop's orders as `penstock limbo match` and `penstock audit` read them: columns by name, one
/// row for each order. An empty `key` says that none came with it.
pub fn csv(orders: &[Order]) -> String {
    let mut out = String::from("order,user,pool,units,key,admission,status,received_ms\n");
    for order in orders {
        let status = if order.cancelled { "cancelled" } else { "confirmed" };
        let ask = &order.ask;
        let units = ask.units.to_string();
        let key = ask.key.as_deref().unwrap_or_default();
        let admission = ask.admission.as_deref().unwrap_or_default();
        let received = ask.received_ms.to_string();
        let fields =
            [&*order.id, &*ask.user, &*order.pool, &*units, key, admission, status, &*received];
        out.push_str(&fields.map(quoted).join(","));
        out.push('\n');
    }
    out
}

fn lines(orders: &[Order]) -> Response<Full<Bytes>> {
    let mut out = String::new();
    for order in orders {
        let event = if order.cancelled { Event::Cancelled } else { Event::Confirmed };
        // A line is made of strings and numbers: it always renders.
        out.push_str(&serde_json::to_string(&order.line(0, event)).unwrap_or_default());
        out.push('\n');
    }
    text(StatusCode::OK, "application/jsonl", out)
}

fn trouble(status: StatusCode, what: &str) -> Response<Full<Bytes>> {
    json_answer(status, &json!({ "error": what }))
}

/// RFC 4180: a field with a comma, quote or line end is quoted, quotes doubled.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::order::Ask;

    #[test]
    fn the_csv_lists_what_can_be_matched() {
        let order = |id: &str, key: Option<&str>, cancelled| Order {
            id: id.to_owned(),
            ask: Ask {
                user: "u".to_owned(),
                pool: None,
                units: 1,
                key: key.map(str::to_owned),
                admission: None,
                received_ms: 7,
            },
            pool: "default".to_owned(),
            cancelled,
        };
        let orders = [
            order("S1", Some("a,b"), false),
            order("S2", None, false),
            order("S3", Some("c"), true),
        ];
        let rows = [
            "order,user,pool,units,key,admission,status,received_ms",
            "S1,u,default,1,\"a,b\",,confirmed,7",
            "S2,u,default,1,,,confirmed,7",
            "S3,u,default,1,c,,cancelled,7",
        ];
        assert_eq!(csv(&orders), rows.map(|row| format!("{row}\n")).concat());
    }
}
