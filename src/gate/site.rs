//! One site's gate, as its settings say it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cors::Cors;
use super::identity::Identity;
use super::order::OrderRules;
use super::outcome::Rules;
use crate::config::schema;
use crate::ident::Name;

/// One site's gate.
#[derive(Debug)]
pub struct SiteGate {
    /// Where purchases go.
    pub upstream: Name,
    /// `Host` of purchases: the upstream's own, else the site's canonical one. `None`: the client's,
    /// which was validated.
    pub host: Option<String>,
    /// Who buys.
    pub identity: Identity,
    /// What is bought.
    pub order: OrderRules,
    /// Other origins that may buy.
    pub cors: Cors,
    /// What an answer means.
    pub outcome: Rules,
    /// An admitted purchase, from its sending to the whole answer.
    pub purchase_timeout: Duration,
    /// From the request's end to the first byte of the answer.
    pub first_byte_timeout: Duration,
    /// Silence within the answer.
    pub idle_timeout: Duration,
}

impl SiteGate {
    /// The gates of all sites that have a purchase path. An error names the setting.
    pub fn all(settings: &schema::Settings) -> Result<BTreeMap<Name, Arc<SiteGate>>, String> {
        let mut sites = BTreeMap::new();
        for (name, site) in &settings.site {
            let Some(activity) = site.activity.as_ref().filter(|a| a.purchase.is_some()) else {
                continue;
            };
            let gate = SiteGate::new(name, site, activity, &settings.upstream)?;
            sites.insert(name.clone(), Arc::new(gate));
        }
        Ok(sites)
    }

    fn new(
        name: &Name,
        site: &schema::Site,
        activity: &schema::Activity,
        upstreams: &BTreeMap<Name, schema::Upstream>,
    ) -> Result<SiteGate, String> {
        let at = |setting: &str, e: String| format!("site.{name}.activity.{setting}{e}");
        let upstream = activity.purchase_upstream.as_ref().or(site.upstream.as_ref());
        let Some(upstream) = upstream else {
            return Err(format!("site.{name}.upstream: purchases have nowhere to go"));
        };
        let Some(to) = upstreams.get(upstream) else {
            let setting = match activity.purchase_upstream {
                Some(_) => "activity.purchase_upstream",
                None => "upstream",
            };
            return Err(format!("site.{name}.{setting}: there is no upstream `{upstream}`"));
        };
        let Some(outcome) = &to.outcome else {
            return Err(format!(
                "upstream.{upstream}.outcome: what an answer to a purchase means must be said: \
                 \"status\", or a table of rules"
            ));
        };
        Ok(SiteGate {
            upstream: upstream.clone(),
            host: to.host.clone().or_else(|| canonical(site)),
            identity: Identity::new(activity).map_err(|e| at("", e))?,
            order: OrderRules::new(activity.order.as_ref()).map_err(|e| at("order.", e))?,
            cors: Cors::new(&activity.cors_origins).map_err(|e| at("", e))?,
            outcome: Rules::new(outcome).map_err(|e| format!("upstream.{upstream}.outcome.{e}"))?,
            purchase_timeout: to.purchase_timeout.duration(),
            first_byte_timeout: to.first_byte_timeout.duration(),
            idle_timeout: to.idle_timeout.duration(),
        })
    }
}

fn canonical(site: &schema::Site) -> Option<String> {
    let host = crate::http::authority::normalise(site.hosts.first()?.as_bytes())?;
    Some(host.into_owned())
}
