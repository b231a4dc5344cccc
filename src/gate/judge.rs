//! What is decided without waiting: from the head, and once more where the order is in the body.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::time::Instant;

use super::body::too_large;
use super::fields::{Single, single};
use super::order::{BadOrder, Order, Source};
use super::rate::{Key, Limit, RateTable, Taken};
use super::say::Said;
use super::site::SiteGate;
use super::{Inner, Purchase, Shared};
use crate::claims::Known;
use crate::clock::Now;
use crate::config::schema;
use crate::http::head::BodyKind;
use crate::http::{ClientAddr, Exchange, Head, Peer, Trust, forwarded, hop};
use crate::ident::{AttemptId, Name, UserKey};
use crate::ledger::RecordKind;
use crate::metrics::Counter;
use crate::outcome::Reason;
use crate::sale::rosters::Listed;
use crate::sale::{PoolState, SaleSnapshot};

/// A purchase that is not refused by what its head says.
#[derive(Debug)]
pub(super) struct Open {
    /// Its site.
    pub site: Arc<SiteGate>,
    /// Its sale.
    pub sale: Arc<SaleSnapshot>,
    /// The buyer.
    pub user: UserKey,
    /// The order, where the head says it and everything local has passed; else body and checks are
    /// still to come.
    pub order: Option<Order>,
    /// Keys of the limits.
    pub keys: Keys,
    /// Fields that go on to the shop.
    pub headers: HeaderMap,
    /// Path and query, raw.
    pub target: String,
    /// The query, raw.
    pub query: Option<String>,
    /// `Host` for the shop.
    pub host: String,
    /// When the clocks were read.
    pub started: Instant,
}

/// Rates of purchases.
#[derive(Debug)]
pub(super) struct Limits {
    table: Arc<RateTable>,
    user: Option<Limit>,
    address: Option<Limit>,
    prefix: Option<Limit>,
}

/// Keys of one purchase in the rate table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    user: Key,
    address: Option<Key>,
    prefix: Option<Key>,
}

/// Decides from the head, in DESIGN section 6's order.
pub(super) fn judge(inner: &Inner, site: &Arc<SiteGate>, ask: &Purchase<'_>) -> Result<Open, Said> {
    let Purchase { head, exchange, sale, .. } = ask;
    let shared = &*inner.shared;
    admissible(site, head)?;
    let view = sale.at(&exchange.now);
    if view.refusal == Some(Reason::NotStarted) {
        return Err(Said::from(Reason::NotStarted));
    }
    let client = ClientAddr::of(head, &exchange.peer, &shared.trust);
    let identity = site.identity.of(head, client, exchange.now.wall);
    let Some(identity) = identity else { return Err(Said::from(Reason::LoginRequired)) };
    let user = UserKey::of_identity(&sale.state.salt, &identity);
    // Whoever is known here may be told of an earlier attempt, which takes the whole request.
    let is_known = shared.repeats.knows(&user)
        || inner.claims.known(&sale.state.id, &user).is_some()
        || sale.rosters().may_have_won(&user);
    if !is_known {
        if sale.rosters().has_bought(&user) {
            return Err(Said::from(Reason::Already));
        }
        view.refusal.map_or(Ok(()), |reason| Err(Said::from(reason)))?;
        eligible(sale, &user, None, &exchange.now)?;
    }
    let keys = shared.limits.keys(&user, client, &shared.trust);
    let mut order = None;
    if !is_known && !site.order.is_in_body(head.body != BodyKind::None) {
        let source = Source { content_type: None, query: head.query, body: &[] };
        let header = |name: &HeaderName| single(head.field_all(name.as_str()));
        let read = site.order.read(&sale.state, source, header)?;
        passes(inner, site, sale, &user, &read, &keys, &exchange.now)?;
        order = Some(read);
    }
    Ok(Open {
        site: site.clone(),
        sale: Arc::clone(sale),
        user,
        order,
        keys,
        headers: headers(shared, head, exchange),
        target: target(head),
        query: head.query.map(str::to_owned),
        host: site.host.clone().unwrap_or_else(|| head.host.to_string()),
        started: started(inner, &exchange.now),
    })
}

/// When the clocks were read, a millisecond early rather than late: a deadline of the ledger's is
/// counted from here, and a process that was stopped since gets no more time.
fn started(inner: &Inner, now: &Now) -> Instant {
    let instant = Instant::now();
    let age = Duration::from_millis(inner.claims.age_ms(now.mono));
    instant.checked_sub(age).unwrap_or(instant)
}

/// Method, size, coding and early data: what is asked before anything about the sale.
fn admissible(site: &SiteGate, head: &Head<'_>) -> Result<(), Said> {
    if head.method != Method::POST {
        return Err(Said::from(Reason::Method));
    }
    let bytes_max = site.order.body_bytes_max;
    if matches!(head.body, BodyKind::Sized(bytes) if bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let is_coded = || {
        let codings = head.field_all("content-encoding");
        codings.into_iter().any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    };
    if site.order.is_in_body(head.body != BodyKind::None) && is_coded() {
        let detail = "the body of a purchase must not have a Content-Encoding";
        return Err(Said::because(Reason::BadRequest, detail));
    }
    // RFC 8470 5.1: a field that is repeated or odd counts as 1.
    if head.field("early-data").is_some() {
        return Err(Said::from(Reason::TooEarly));
    }
    Ok(())
}

/// The sale's state, as everybody is told it.
pub(super) fn standing(sale: &SaleSnapshot, now: &Now) -> Result<(), Said> {
    sale.at(now).refusal.map_or(Ok(()), |reason| Err(Said::from(reason)))
}

/// What the shop's sets of users say.
fn eligible(
    sale: &SaleSnapshot,
    user: &UserKey,
    pool: Option<&Name>,
    now: &Now,
) -> Result<(), Said> {
    Err(Said::from(match sale.rosters().listed(user, pool, now.mono) {
        None => return Ok(()),
        Some(Listed::Already) => Reason::Already,
        Some(Listed::NotEligible) => Reason::NotEligible,
        Some(Listed::Unknown) => Reason::Unavailable,
    }))
}

/// A winner who asks again, of whom another node has the record: the ledger knows which answer is
/// theirs, where it is the attempt that won; who tries anew after all is sold has one already.
pub(super) fn won(
    inner: &Inner,
    sale: &SaleSnapshot,
    user: &UserKey,
    attempt: &AttemptId,
    keys: &Keys,
    now: &Now,
) -> Option<Result<(), Said>> {
    let rosters = sale.rosters();
    if !rosters.may_have_won(user) {
        return None;
    }
    if rosters.may_have_won_by(attempt) {
        if !inner.claims.is_open(&sale.state.id) {
            return Some(Err(Said::from(Reason::Unavailable)));
        }
        return Some(inner.shared.limits.take(inner, keys, now));
    }
    let is_closed = matches!(sale.at(now).refusal, Some(Reason::SoldOut | Reason::Ended));
    (is_closed && sale.state.per_user.orders == 1).then(|| Err(Said::from(Reason::Already)))
}

/// The rest of what is decided here about an order: its pool, the way to the ledger, the limits, room at
/// the shop.
pub(super) fn passes(
    inner: &Inner,
    site: &SiteGate,
    sale: &SaleSnapshot,
    user: &UserKey,
    order: &Order,
    keys: &Keys,
    now: &Now,
) -> Result<(), Said> {
    if sale.state.pools.get(order.pool).is_some_and(|pool| pool.sold_out) {
        return Err(Said::of_pool(Reason::SoldOut, order.pool));
    }
    eligible(sale, user, sale.state.pools.get(order.pool).map(|pool| &pool.name), now)?;
    let is_known = |pool: &PoolState| pool.is_known_at(now.ledger);
    if !inner.claims.is_open(&sale.state.id)
        || !sale.state.pools.get(order.pool).is_none_or(is_known)
    {
        return Err(Said::from(Reason::Unavailable));
    }
    inner.shared.limits.take(inner, keys, now)?;
    match inner.upstreams.group(&site.upstream) {
        Some(group) if !group.has_purchase_room() => Err(Said::from(Reason::Busy)),
        _ => Ok(()),
    }
}

/// What is said to a user of whom this node knows something; `None`: the ledger has to say.
pub(super) fn known_before(
    known: Option<Known>,
    attempt: &AttemptId,
    sale: &SaleSnapshot,
) -> Option<Said> {
    let known = known?;
    let is_same = known.attempt == *attempt;
    match known.kind {
        RecordKind::Admitted => Some(Said::from(Reason::InProgress)),
        RecordKind::Pending | RecordKind::Limbo => Some(Said::from(Reason::Pending)),
        RecordKind::Confirmed if is_same => {
            Some(Said { order: known.order, ..Said::from(Reason::Confirmed) })
        }
        RecordKind::Confirmed if sale.state.per_user.orders == 1 => {
            Some(Said::from(Reason::Already))
        }
        RecordKind::Confirmed => None,
    }
}

impl From<BadOrder> for Said {
    fn from(bad: BadOrder) -> Said {
        Said::because(bad.reason, bad.detail)
    }
}

impl Limits {
    /// Reads `[limits]`; what was counted goes on.
    pub fn new(settings: &schema::Limits, old: Option<&Limits>) -> Limits {
        let table = || Arc::new(RateTable::new(settings.table_keys));
        Limits {
            table: old.map_or_else(table, |old| old.table.clone()),
            user: Limit::new(settings.user),
            address: Limit::new(settings.address),
            prefix: Limit::new(settings.prefix),
        }
    }

    /// The keys of a purchase. A trusted peer that named nobody stands for many clients: its own
    /// address is no key.
    fn keys(&self, user: &UserKey, client: ClientAddr, trust: &Trust) -> Keys {
        let address = match client {
            ClientAddr::Ip(ip) => {
                (!trust.is_trusted(&Peer::Tcp(SocketAddr::new(ip, 0)))).then_some(ip)
            }
            ClientAddr::Unix => None,
        };
        let (one, many) = address.map(networks).unzip();
        Keys {
            user: self.table.key(("user", user)),
            address: one.map(|network| self.table.key(("address", network))),
            prefix: many.map(|network| self.table.key(("prefix", network))),
        }
    }

    /// Takes one purchase from each limit, the user's first: who is over it takes nothing from those
    /// who share the address.
    fn take(&self, inner: &Inner, keys: &Keys, now: &Now) -> Result<(), Said> {
        let taken = [
            (Some(keys.user), &self.user),
            (keys.address, &self.address),
            (keys.prefix, &self.prefix),
        ];
        for (key, limit) in taken {
            let (Some(key), Some(limit)) = (key, limit) else { continue };
            match self.table.take(key, limit, now.mono) {
                Taken::Allowed { evicted_live: false } => {}
                Taken::Allowed { evicted_live: true } => {
                    inner.sink.inc(Counter::RateTableEvictions);
                }
                Taken::Refused { wait_ms } => {
                    return Err(Said { wait_ms, ..Said::from(Reason::RateLimited) });
                }
            }
        }
        Ok(())
    }
}

/// What counts as one address and as one prefix: in IPv6 a client has a /64.
fn networks(ip: IpAddr) -> (IpAddr, IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            (ip, IpAddr::from([a, b, c, 0]))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            (IpAddr::from([a, b, c, d, 0, 0, 0, 0]), IpAddr::from([a, b, c, 0, 0, 0, 0, 0]))
        }
    }
}

fn target(head: &Head<'_>) -> String {
    match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    }
}

/// The fields of a purchase: what is for the shop, and who asks. The outcome has to be read, so the
/// answer must not be compressed.
fn headers(shared: &Shared, head: &Head<'_>, exchange: &Exchange) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(head.fields.len() + 4);
    for field in hop::forwardable(head) {
        let name = HeaderName::from_bytes(field.name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            headers.append(name, value);
        }
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let chain = forwarded::chain(head, &exchange.peer, &shared.trust);
    if let Some(chain) = HeaderValue::from_str(&chain).ok().filter(|chain| !chain.is_empty()) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    let proto = forwarded::proto(head, &exchange.peer, &shared.trust, exchange.is_tls);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers
}

/// The one value of a field that goes on to the shop.
pub(super) fn sent<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    single(headers.get_all(name).iter().map(HeaderValue::as_bytes))
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
