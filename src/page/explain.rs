//! What the cache would do with a request, and why: the same key, the same lookup and the same judge as
//! for a client, but nothing is counted, moved or asked for.

use std::sync::Arc;

use serde::Serialize;

use super::coding::CODINGS;
use super::entry::Wanted;
use super::key::{Fields, KeyRef, Url};
use super::ordinary::{OrdinaryAsk, decide, find, named};
use super::policy::judge::{Asked, Decision, Refill, Why, judge};
use super::policy::request::Demand;
use super::record::{Record, What};
use super::select::{in_head, is_in_head};
use super::{Ask, Pages};
use crate::clock::MonoMs;

/// What the cache would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// What the key is made of, in its order.
    pub key: Vec<Part>,
    /// The hash that finds it.
    pub hash: String,
    /// The fields that select a variant of the URL, with what the request says in them.
    pub variant: Vec<Part>,
    /// The coding that this client would get of what is stored.
    pub encoding: Option<&'static str>,
    /// What is stored under the key.
    pub stored: Option<Stored>,
    /// What would be done.
    pub action: &'static str,
    /// Why.
    pub why: &'static str,
}

/// A name and its value; absent is not the same as empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Option<String>,
}

/// What is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// `page`, or the remark that it is.
    pub what: String,
    /// The status.
    pub status: Option<u16>,
    /// The fields that are kept.
    pub headers: Vec<Part>,
    /// What is stored of each coding, in bytes.
    pub encodings: Vec<(&'static str, u64)>,
    /// All that it takes, in bytes.
    pub bytes: u64,
    /// How old it is.
    pub age_ms: u64,
    /// How long it is fresh yet; 0: it is stale.
    pub fresh_ms: u64,
    /// How long it may be served while it is fetched again, from now on.
    pub stale_while_revalidate_ms: u64,
    /// How long it may be served rather than an error, from now on.
    pub stale_if_error_ms: u64,
    /// Whether somebody fetches it again, or just failed to.
    pub refill: &'static str,
    /// The sale that it is pinned for.
    pub pinned_for: Option<String>,
}

impl Pages {
    /// What would be done with a request for a page of a sale; `None`: the site is unknown.
    pub fn explain(&self, ask: &Ask<'_>) -> Option<Explained> {
        let site = self.sites.get(ask.site.as_str())?;
        let mut buffer = Vec::new();
        let fields = site.fields(ask);
        let key = fields.key(&mut buffer);
        let record = self.cache.peek(&key);
        let now = ask.exchange.now.mono;
        let stored = record.as_ref().map(|record| record.stored());
        let idle = Asked { refill: Refill::Idle };
        let asked = record.as_ref().map_or(idle, |record| record.asked(now));
        let told = judge(stored.as_ref(), asked, now);
        let wanted = Wanted::of(ask.head);
        Some(self.told(of_fields(&fields), key, Vec::new(), record, &wanted, told, now))
    }

    /// What would be done with a request on an ordinary route; `None`: it is not cached.
    pub fn explain_ordinary(&self, ask: &OrdinaryAsk<'_>) -> Option<Explained> {
        let route = self.route(ask.site, ask.head.path)?.clone();
        let now = ask.exchange.now.mono;
        let query = route.query(ask.head.query);
        let (site, host, path) = (ask.site.as_str(), ask.host, ask.head.path);
        let url = Url { site, host, path, query: query.as_deref() };
        let mut buffer = Vec::new();
        let bytes = url.bytes(&mut buffer);
        let demand = match route.honours_clients {
            true => Demand::of(ask.head),
            false => Demand::NONE,
        };
        let wanted = Wanted::with_range(ask.head);
        let said = self.said(&route, ask);
        let value = |name: &str| match is_in_head(name) {
            true => in_head(ask.head, name),
            false => said.as_ref().and_then(|said| said.value(name)),
        };
        let get = |bytes: &[u8]| self.cache.peek(&KeyRef::of(bytes));
        let selector = get(bytes);
        let names = selector.as_ref().and_then(|r| r.selector()).map(|s| s.names().to_vec());
        let found = find(bytes, get, value);
        let (decision, why) = decide(found.record.as_ref(), &wanted, ask.exchange, &demand);
        let why = named(why, found.key.is_some(), &ask.head.method);
        let variant = names.unwrap_or_default().into_iter().map(|name| {
            let value = value(&name).map(|value| String::from_utf8_lossy(&value).into_owned());
            Part { name: name.into(), value }
        });
        let key = KeyRef::of(found.key.as_deref().unwrap_or(bytes));
        let (variant, parts) = (variant.collect(), of_url(&url));
        Some(self.told(parts, key, variant, found.record, &wanted, (decision, why), now))
    }

    #[expect(clippy::too_many_arguments, reason = "the pieces of one answer")]
    fn told(
        &self,
        parts: Vec<Part>,
        key: KeyRef<'_>,
        variant: Vec<Part>,
        record: Option<Arc<Record>>,
        wanted: &Wanted<'_>,
        (decision, why): (Decision, Why),
        now: MonoMs,
    ) -> Explained {
        let page = record.as_ref().and_then(|record| record.page());
        Explained {
            key: parts,
            hash: format!("{:016x}", key.hash()),
            variant,
            encoding: page.map(|page| page.coding_for(wanted).label()),
            stored: record.as_ref().map(|record| self.stored(record, now)),
            action: decision.text(),
            why: why.text(),
        }
    }

    fn stored(&self, record: &Arc<Record>, now: MonoMs) -> Stored {
        let page = record.page();
        let headers = page.map(|page| page.headers()).unwrap_or_default();
        let left = record.left(now);
        Stored {
            what: match record.what() {
                What::Page(_) => "page".to_owned(),
                What::HitForMiss => "hit-for-miss".to_owned(),
                What::Failed(reason) => format!("failed: {}", reason.label()),
                What::Selector(_) => "selector".to_owned(),
            },
            status: page.map(|page| page.status().as_u16()),
            headers: headers
                .iter()
                .map(|(name, value)| Part {
                    name: name.to_string(),
                    value: Some(String::from_utf8_lossy(value.as_bytes()).into_owned()),
                })
                .collect(),
            encodings: page
                .iter()
                .flat_map(|page| CODINGS.map(|coding| (coding, page.coded(coding))))
                .filter_map(|(coding, body)| Some((coding.label(), body?.len() as u64)))
                .collect(),
            bytes: record.weight(),
            age_ms: left.age_ms,
            fresh_ms: left.fresh_ms,
            stale_while_revalidate_ms: left.fresh_ms + left.refill_ms,
            stale_if_error_ms: left.fresh_ms + left.error_ms,
            refill: match record.asked(now).refill {
                Refill::Idle => "none",
                Refill::UnderWay => "under way",
                Refill::Held => "failed just now",
            },
            pinned_for: self.cache.pinned_for(record.key()).map(|sale| sale.to_string()),
        }
    }
}

fn of_fields(fields: &Fields<'_>) -> Vec<Part> {
    let Fields { site, host, path, activity, city, state } = *fields;
    let some = [("site", site), ("host", host), ("path", path), ("activity", activity)];
    let some = some.map(|(name, value)| (name, Some(value)));
    let state = state.map(|state| ("state", Some(state)));
    parts(some.into_iter().chain([("city", city)]).chain(state))
}

fn of_url(url: &Url<'_>) -> Vec<Part> {
    let Url { site, host, path, query } = *url;
    let some = [("site", site), ("host", host), ("path", path)];
    let some = some.map(|(name, value)| (name, Some(value)));
    parts(some.into_iter().chain([("query", query)]))
}

fn parts<'a>(all: impl Iterator<Item = (&'static str, Option<&'a str>)>) -> Vec<Part> {
    let part = |(name, value): (&str, Option<&str>)| Part {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    all.map(part).collect()
}
