//! Every way a purchase, a request or a connection can end: one table row each.
//!
//! A row carries the metric label, the status, the default code and texts, whether it counts as our
//! error, and what the client should do. Answers, metrics, logs and docs derive from these tables.

/// What an admitted purchase came to, as far as the edge knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// C: the shop took the order.
    #[serde(rename = "C")]
    Confirmed,
    /// F: the shop definitely did not take it; the units are free again.
    #[serde(rename = "F")]
    Failed,
    /// X: nobody knows; the units wait in limbo.
    #[serde(rename = "X")]
    Unknown,
    /// P: accepted, the final word comes later; the units are held until `pay_ttl`.
    #[serde(rename = "P")]
    Pending,
    /// V: cancelled after it was confirmed; a restock returns the units.
    #[serde(rename = "V")]
    Void,
}

impl Verdict {
    /// The letter of the journal and of the store.
    pub fn letter(self) -> char {
        match self {
            Verdict::Confirmed => 'C',
            Verdict::Failed => 'F',
            Verdict::Unknown => 'X',
            Verdict::Pending => 'P',
            Verdict::Void => 'V',
        }
    }

    /// The word of logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Confirmed => "confirmed",
            Verdict::Failed => "failed",
            Verdict::Unknown => "unknown",
            Verdict::Pending => "pending",
            Verdict::Void => "void",
        }
    }

    /// The verdict of a letter of [`Verdict::letter`].
    pub fn of_letter(letter: char) -> Option<Verdict> {
        [Verdict::Confirmed, Verdict::Failed, Verdict::Unknown, Verdict::Pending, Verdict::Void]
            .into_iter()
            .find(|v| v.letter() == letter)
    }
}

/// What a client may do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Trying again cannot succeed.
    Final,
    /// The same request may succeed later: `retryable` is true and a jittered wait is given.
    Later,
    /// It may succeed after the client changed something (logged in, asked for fewer).
    Changed,
}

/// One row of the table of reasons.
#[derive(Clone, Copy, Debug)]
pub struct ReasonRow {
    /// The reason.
    pub reason: Reason,
    /// Name on the wire, in metrics and logs.
    pub label: &'static str,
    /// HTTP status in the `problem` style.
    pub status: u16,
    /// Default code in the `envelope` style.
    pub code: u32,
    /// English title.
    pub title: &'static str,
    /// Chinese title.
    pub title_zh: &'static str,
    /// Whether this counts against us in error rates; a decision never does.
    pub is_error: bool,
    /// What the client may do.
    pub advice: Advice,
    /// Centre of the advised wait in milliseconds; 0 where none is advised. Where the advice is
    /// `Final` it is said only of what is not final after all: a restock may follow.
    pub retry_after_ms: u32,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $label:literal, $status:literal, $code:literal,
        $title:literal, $zh:literal, $is_error:literal, $advice:ident, $wait:literal;)*) => {
        /// Why the edge answered a request itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        /// All rows, in the order of the enum.
        pub const REASONS: &[ReasonRow] = &[$(ReasonRow {
            reason: Reason::$variant, label: $label, status: $status, code: $code,
            title: $title, title_zh: $zh, is_error: $is_error,
            advice: Advice::$advice, retry_after_ms: $wait,
        },)*];
    };
}

reasons! {
    /// Admitted: the shop's own answer is relayed.
    Admitted, "admitted", 200, 0, "Admitted", "已受理", false, Final, 0;
    /// This attempt was answered before: the first answer again.
    Replayed, "replayed", 200, 0, "Answered before", "已受理", false, Final, 0;
    /// The order is confirmed; this node did not make it and has no answer of the shop to relay.
    Confirmed, "confirmed", 200, 10200, "Your order is confirmed", "下单成功", false, Final, 0;
    /// Admitted, but the outcome is not known yet.
    Pending, "pending", 202, 10202, "Your order is being processed", "订单处理中,请到我的订单查看", false, Later, 2000;
    /// Before `opens_at`.
    NotStarted, "not_started", 403, 10301, "The sale has not started", "活动尚未开始", false, Later, 1000;
    /// The operator paused the sale.
    Paused, "paused", 403, 10302, "The sale is paused", "活动暂停,请稍候", false, Later, 5000;
    /// No identity, or one that does not verify.
    LoginRequired, "login_required", 401, 10401, "Please log in", "请先登录", false, Changed, 0;
    /// The shop's sets say that this user may not buy.
    NotEligible, "not_eligible", 403, 10404, "Not eligible for this sale", "暂无参与资格", false, Final, 0;
    /// All units of the sale, or of the pool asked for, are sold.
    SoldOut, "sold_out", 409, 10901, "Sold out", "已抢光", false, Final, 60_000;
    /// The sale is over.
    Ended, "ended", 410, 10910, "The sale has ended", "活动已结束", false, Final, 0;
    /// Fewer units are left than were asked for.
    Insufficient, "insufficient", 409, 10902, "Fewer units are left than you asked for", "库存不足", false, Changed, 0;
    /// This user has an order already.
    Already, "already", 409, 10903, "You already have one", "您已参与过本次活动", false, Final, 0;
    /// Another request of this user is on its way to the shop.
    InProgress, "in_progress", 409, 10904, "Your order is in progress", "订单提交中,请勿重复点击", false, Later, 1300;
    /// The user's limit of orders or units is reached.
    Limit, "limit", 409, 10905, "Purchase limit reached", "已达限购数量", false, Final, 0;
    /// The pool is not part of the sale.
    UnknownItem, "unknown_item", 404, 10440, "No such item in this sale", "商品不在本次活动中", false, Final, 0;
    /// No sale is declared for the activity.
    UnknownActivity, "unknown_activity", 404, 40400, "No such activity", "活动不存在", false, Final, 0;
    /// The path reads as a purchase when decoded leniently, but is not one: it must not pass the gate by.
    Alias, "alias", 404, 40401, "Not found", "页面不存在", false, Final, 0;
    /// A path under `/_penstock/` that means nothing.
    NotFound, "not_found", 404, 40402, "Not found", "页面不存在", false, Final, 0;
    /// The method is not allowed here.
    Method, "method", 405, 40500, "Method not allowed", "请求方法不支持", false, Final, 0;
    /// The Host is not one of ours.
    UnknownHost, "unknown_host", 421, 42100, "This host is not served here", "域名不存在", false, Final, 0;
    /// The request was not understood.
    BadRequest, "bad_request", 400, 10400, "The request was not understood", "参数错误", false, Changed, 0;
    /// The body is too large.
    TooLarge, "too_large", 413, 10413, "The request is too large", "请求过大", false, Changed, 0;
    /// The same key was used for another order.
    KeyReused, "key_reused", 422, 10422, "The same key was used for another order", "重复的请求号", false, Changed, 0;
    /// TLS early data: send again after the handshake.
    TooEarly, "too_early", 425, 10425, "Send again after the handshake", "请重试", false, Later, 0;
    /// Too many attempts of one user or address.
    RateLimited, "rate_limited", 429, 10429, "Too many attempts", "操作太频繁,请稍后再试", false, Later, 1800;
    /// Every unit is held by an order in flight, or the shop has no room.
    Busy, "busy", 503, 10503, "All units are being checked out", "排队人数过多,请稍后再试", false, Later, 2400;
    /// The store, the journal or the mirror is down.
    Unavailable, "unavailable", 503, 10504, "Please try again in a moment", "系统繁忙,请稍后再试", true, Later, 2900;
    /// The upstream did not answer a proxied or page request.
    BadGateway, "bad_gateway", 502, 50200, "The shop did not answer", "系统繁忙,请稍后再试", true, Later, 2000;
    /// The upstream took too long.
    GatewayTimeout, "gateway_timeout", 504, 50400, "The shop took too long", "系统繁忙,请稍后再试", true, Later, 2000;
    /// A bound of the edge was reached: waiters, in-flight requests, connections of a pool.
    Overloaded, "overloaded", 503, 50300, "Too many requests at once", "系统繁忙,请稍后再试", true, Later, 2000;
    /// A bug: a handler panicked. Counted, and answered rather than dropped.
    Internal, "internal", 500, 50000, "Something went wrong here", "系统错误", true, Later, 2000;
}

impl Reason {
    /// The reason's row.
    pub fn row(self) -> &'static ReasonRow {
        &REASONS[self as usize]
    }

    /// Name on the wire, in metrics and logs.
    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// The reason called `label`.
    pub fn of_label(label: &str) -> Option<Reason> {
        REASONS.iter().find(|row| row.label == label).map(|row| row.reason)
    }
}

/// One row of the table of connection ends.
#[derive(Clone, Copy, Debug)]
pub struct CloseRow {
    /// The reason.
    pub reason: CloseReason,
    /// Name in metrics and logs.
    pub label: &'static str,
    /// Whether this is the peer's or our error, rather than an ordinary end.
    pub is_error: bool,
    /// What it means, for docs.
    pub text: &'static str,
}

macro_rules! closes {
    ($($variant:ident, $label:literal, $is_error:literal, $text:literal;)*) => {
        /// Why a client's connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum CloseReason { $(#[doc = $text] $variant,)* }

        /// All rows, in the order of the enum.
        pub const CLOSES: &[CloseRow] = &[$(CloseRow {
            reason: CloseReason::$variant, label: $label, is_error: $is_error, text: $text,
        },)*];
    };
}

closes! {
    ClientClosed, "client_closed", false, "The client closed between requests.";
    ClientAborted, "client_aborted", true, "The client closed or reset within a request.";
    RequestClose, "request_close", false, "The request asked for it, or was HTTP/1.0.";
    ResponseClose, "response_close", false, "The response could only end by closing.";
    Malformed, "malformed", true, "The head or the framing of a body was refused.";
    FirstByteTimeout, "first_byte_timeout", true, "No byte came after the connection was accepted.";
    HeadTimeout, "head_timeout", true, "A head was begun and not completed in time.";
    BodyTimeout, "body_timeout", true, "A request body came too slowly.";
    IdleTimeout, "idle_timeout", false, "No request came on a kept-alive connection.";
    WriteTimeout, "write_timeout", true, "The client did not take its response.";
    MaxAge, "max_age", false, "The connection reached its age.";
    UndrainedBody, "undrained_body", false, "An early answer left more body than we drain.";
    Drain, "drain", false, "The process is shutting down.";
    HandshakeFailed, "handshake_failed", true, "No TLS handshake came about.";
    HandshakeTimeout, "handshake_timeout", true, "A TLS handshake took too long.";
    HandshakeShed, "handshake_shed", true, "Too many TLS handshakes at once, and this one had waited longest.";
    Protocol, "protocol", true, "The client broke HTTP/2.";
    Flood, "flood", true, "More HTTP/2 frames that ask for nothing than anybody needs.";
    Refused, "refused", true, "A cap on connections or on their rate was reached.";
    Internal, "internal", true, "A panic or a framing disagreement of our own.";
    ProxyHeader, "proxy_header", true, "Not a listed balancer, or its PROXY header was missing, malformed or late.";
    Descriptors, "descriptors", true, "File descriptors were short: refused, to leave the last for the rest of the process.";
    Upgraded, "upgraded", false, "An upgraded connection ended, by either side.";
    Overload, "overload", true, "Memory was short: refused, or closed between requests.";
}

impl CloseReason {
    /// The reason's row.
    pub fn row(self) -> &'static CloseRow {
        &CLOSES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_enum() {
        for (i, row) in REASONS.iter().enumerate() {
            assert_eq!(row.reason as usize, i, "{}", row.label);
        }
        for (i, row) in CLOSES.iter().enumerate() {
            assert_eq!(row.reason as usize, i, "{}", row.label);
        }
    }

    #[test]
    fn labels_are_unique() {
        let mut labels: Vec<_> = REASONS.iter().map(|r| r.label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), REASONS.len());
    }
}
