//! What an answer to a purchase means to the one who tapped: by `Penstock-Reason` where it is, else by
//! the status and body of a shop without a gate. Pure.

use serde_json::Value;

use super::wire::Reply;
use crate::outcome::{Advice, Reason};

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Name in reports: a reason of the edge, or one of the words below.
    pub label: &'static str,
    /// What it means.
    pub meaning: Meaning,
    /// Whether the answer came from the shop, directly or through the edge.
    pub from_shop: bool,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// There is an order; its number, if it was told.
    Won(Option<String>),
    /// No, and asking again is of no use.
    No,
    /// Sold out; more may come back.
    SoldOut,
    /// Try again, with the same key, after so many milliseconds if they were told.
    Later(Option<u64>),
    /// The shop said no to this order only: try again, with a new key.
    Declined,
    /// Nobody knows: ask again, with the same key.
    Unknown(Option<u64>),
}

/// Hears an answer.
pub fn hear(reply: &Reply) -> Heard {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    match reply.reason {
        Some(Reason::Admitted | Reason::Replayed) | None => shop(reply, &body),
        Some(reason) => edge(reason, reply, &body),
    }
}

fn edge(reason: Reason, reply: &Reply, body: &Value) -> Heard {
    let row = reason.row();
    let told = body.get("data").filter(|data| data.is_object()).unwrap_or(body);
    let after = told.get("retry_after_ms").and_then(Value::as_u64).or(reply.retry_after_ms);
    let meaning = match (reason, row.advice) {
        (Reason::Confirmed, _) => Meaning::Won(order(told)),
        (Reason::Pending, _) => Meaning::Unknown(after),
        (Reason::SoldOut, _) => Meaning::SoldOut,
        (_, Advice::Final | Advice::Changed) => Meaning::No,
        (_, Advice::Later) => Meaning::Later(after),
    };
    Heard { label: row.label, meaning, from_shop: false }
}

fn shop(reply: &Reply, body: &Value) -> Heard {
    let (label, meaning) = match (reply.status, body.get("code").and_then(Value::as_i64)) {
        (200, Some(0)) => ("sold", Meaning::Won(order(body.get("data").unwrap_or(body)))),
        (200, Some(1_001)) => ("shop_sold_out", Meaning::SoldOut),
        (200, Some(1_002)) => ("shop_declined", Meaning::Declined),
        (200, Some(code)) if code >= 5_000 => ("shop_error", Meaning::Unknown(None)),
        (200, Some(_)) => ("shop_refused", Meaning::No),
        (202, None) => ("shop_pending", Meaning::Unknown(reply.retry_after_ms)),
        (200..=299, None) => ("sold", Meaning::Won(order(body))),
        (429, _) => ("shop_rate_limited", Meaning::Later(reply.retry_after_ms)),
        (503, _) => ("shop_busy", Meaning::Later(reply.retry_after_ms)),
        (500..=599, _) => ("shop_error", Meaning::Unknown(reply.retry_after_ms)),
        _ => match body.get("error").and_then(Value::as_str) {
            Some("sold_out") => ("shop_sold_out", Meaning::SoldOut),
            Some("declined") => ("shop_declined", Meaning::Declined),
            _ => ("shop_refused", Meaning::No),
        },
    };
    Heard { label, meaning, from_shop: true }
}

/// The order's number, under any of the names that shops use.
fn order(body: &Value) -> Option<String> {
    let named = ["order", "order_id", "orderId", "orderNo", "id"];
    match named.iter().find_map(|name| body.get(name))? {
        Value::String(order) => Some(order.clone()),
        Value::Number(order) => Some(order.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(status: u16, reason: Option<Reason>, body: &str) -> Heard {
        hear(&Reply { status, reason, body: body.as_bytes().to_vec(), ..Reply::default() })
    }

    fn meaning(status: u16, body: &str) -> Meaning {
        heard(status, None, body).meaning
    }

    #[test]
    fn a_shop_without_a_gate_is_understood() {
        let won = |order: &str| Meaning::Won(Some(order.to_owned()));
        assert_eq!(meaning(201, r#"{"order":"S1"}"#), won("S1"));
        assert_eq!(meaning(200, r#"{"code":0,"data":{"orderNo":7}}"#), won("7"));
        assert_eq!(meaning(200, r#"{"code":1001,"data":null}"#), Meaning::SoldOut);
        assert_eq!(meaning(200, r#"{"code":5000}"#), Meaning::Unknown(None));
        assert_eq!(meaning(409, r#"{"error":"sold_out"}"#), Meaning::SoldOut);
        assert_eq!(meaning(409, r#"{"error":"declined"}"#), Meaning::Declined);
        assert_eq!(meaning(503, "<html>"), Meaning::Later(None));
        assert_eq!(meaning(500, ""), Meaning::Unknown(None));
        assert_eq!(meaning(302, ""), Meaning::No);
        assert_eq!(meaning(204, ""), Meaning::Won(None));
    }

    #[test]
    fn a_reason_wins_over_the_status() {
        let sold_out = heard(200, Some(Reason::SoldOut), r#"{"code":1001,"data":{"final":false}}"#);
        assert_eq!((sold_out.label, sold_out.meaning), ("sold_out", Meaning::SoldOut));
        let busy = heard(503, Some(Reason::Busy), r#"{"retry_after_ms":2400}"#);
        assert_eq!((busy.meaning, busy.from_shop), (Meaning::Later(Some(2_400)), false));
        let wrapped = heard(200, Some(Reason::Busy), r#"{"code":1,"data":{"retry_after_ms":9}}"#);
        assert_eq!(wrapped.meaning, Meaning::Later(Some(9)));
        let admitted = heard(409, Some(Reason::Admitted), r#"{"error":"declined"}"#);
        assert_eq!((admitted.meaning, admitted.from_shop), (Meaning::Declined, true));
        assert_eq!(heard(409, Some(Reason::Already), "{}").meaning, Meaning::No);
        assert_eq!(heard(202, Some(Reason::Pending), "{}").meaning, Meaning::Unknown(None));
    }
}
