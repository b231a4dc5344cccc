//! From a request to its verb.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::reply::{Reply, Result};
use super::{
    Context, dashboard, explain, limbo, metrics, purge, ready, sales, steer, stream, warm,
};
use crate::ident::{Name, SaleId};
use crate::ledger::Control;

/// One request, whole.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub method: Method,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub body: Bytes,
    /// Who asks, for the log of events.
    pub who: &'a str,
    /// The last event that a stream's client has seen: its `Last-Event-ID`.
    pub seen: Option<&'a str>,
}

/// Answers a request of somebody who may ask.
pub(super) async fn answer(ask: &Ask<'_>, context: &Arc<Context>) -> Result {
    let get = matches!(ask.method, Method::GET | Method::HEAD);
    match ask.path {
        "/" if get => Ok(dashboard::page()),
        "/v1/stream" if ask.method == Method::GET => stream::begin(context, ask.seen),
        "/v1/stats" if get => dashboard::stats(context),
        "/livez" if get => Ok(ready::live()),
        "/readyz" if get => Ok(ready::ready(context)),
        "/metrics" if get => Ok(metrics::answer(context)),
        "/v1/sales" if get => sales::list(context),
        "/v1/upstreams" if get => {
            Ok(Reply::ok(&json!({ "upstreams": context.view().upstream.report() })))
        }
        "/v1/config" if get => Ok(steer::config(context)),
        "/v1/purge" if ask.method == Method::POST => {
            let have_ended = context.purges_end.read().await;
            match *have_ended {
                false => purge::purge(ask, context).await,
                true => Err(Reply::conflict(
                    "the node makes way for another process, which has the pages already: purge again \
                     in a moment",
                )),
            }
        }
        "/v1/explain" if ask.method == Method::POST => explain::explain(ask, context).await,
        "/v1/reload" if ask.method == Method::POST => steer::reload(ask, context).await,
        "/v1/upgrade" if ask.method == Method::POST => steer::upgrade(ask, context).await,
        "/" | "/livez" | "/readyz" | "/metrics" | "/v1/sales" | "/v1/upstreams" | "/v1/purge"
        | "/v1/config" | "/v1/explain" | "/v1/reload" | "/v1/upgrade" | "/v1/stats"
        | "/v1/stream" => Err(Reply::method()),
        path => match path.strip_prefix("/v1/sales/") {
            Some(rest) => of_sale(rest, ask, context).await,
            None => Err(Reply::missing("no such path; see `penstock ctl --help`")),
        },
    }
}

/// `SITE/SALE` and what follows it.
async fn of_sale(rest: &str, ask: &Ask<'_>, context: &Arc<Context>) -> Result {
    let mut parts = rest.splitn(3, '/');
    let mut name = || parts.next().and_then(|part| Name::new(part).ok());
    let (Some(site), Some(sale)) = (name(), name()) else {
        return Err(Reply::missing("write /v1/sales/SITE/SALE"));
    };
    let id = SaleId { site, sale };
    let verb = parts.next().unwrap_or_default();
    let (get, post) = (ask.method == Method::GET, ask.method == Method::POST);
    match verb {
        "" if get => sales::show(&id, context),
        "" if ask.method == Method::PUT => sales::put(&id, ask, context).await,
        "records" if get => sales::records(&id, ask, context).await,
        "limbo" if get => limbo::list(&id, context).await,
        "pause" if post => sales::control(&id, Control::Pause, ask, context).await,
        "resume" if post => sales::control(&id, Control::Resume, ask, context).await,
        "sold_out" if post => sales::control(&id, Control::SoldOut, ask, context).await,
        "end" if post => sales::control(&id, Control::End, ask, context).await,
        "add-stock" if post => sales::stock(&id, ask, context, sales::Stock::add).await,
        "restock" if post => sales::stock(&id, ask, context, sales::Stock::restock).await,
        "warm" if post => warm::warm(&id, ask, context).await,
        "unpin" if post => warm::unpin(&id, ask, context),
        "limbo/resolve" if post => limbo::resolve(&id, ask, context).await,
        "limbo/match" if post => limbo::match_orders(&id, ask, context).await,
        "limbo/reclassify" if post => limbo::reclassify(&id, ask, context).await,
        "" | "records" | "limbo" | "warm" | "unpin" | "pause" | "resume" | "sold_out" | "end"
        | "add-stock" | "restock" | "limbo/resolve" | "limbo/match" | "limbo/reclassify" => {
            Err(Reply::method())
        }
        _ => Err(Reply::missing("a sale has no such part")),
    }
}

impl Ask<'_> {
    /// The body as JSON of one form.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| Reply::bad(format!("the body: {error}")))
    }

    /// A parameter of the query; ids and numbers need no decoding.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        let pairs = self.query?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A parameter that is there must be understood.
    pub(super) fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let said = self.param(name);
        let bad = |text: &str| Reply::bad(format!("{name}: `{text}` is not understood"));
        said.map(|text| text.parse().map_err(|_| bad(text))).transpose()
    }
}
