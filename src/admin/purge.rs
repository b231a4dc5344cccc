//! `POST /v1/purge`: pages that are no longer true.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::reply::{Reply, Result};
use super::route::Ask;
use super::{Context, View};
use crate::ident::Name;
use crate::page::{Mode, Purge};

/// What to purge: an activity (for one city, if one is named), a URL, or all.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// The site; absent: the only one.
    #[serde(default)]
    site: Option<Name>,
    #[serde(default)]
    activity: Option<Name>,
    #[serde(default)]
    city: Option<Name>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    all: bool,
    /// Stale at once, but still there if the shop does not answer.
    #[serde(default)]
    soft: bool,
}

/// Purges here, then tells the other nodes.
pub(super) async fn purge(ask: &Ask<'_>, context: &Context) -> Result {
    let said: Said = ask.json()?;
    let purged = apply(&said, context)?;
    tracing::info!("{purged} pages purged, says {}", ask.who);
    match context.fleet.purge(&said).await {
        Ok(()) => Ok(Reply::ok(&json!({ "purged": purged }))),
        Err(error) => {
            let what = format!("{error}: purged here alone; purge again when the store answers");
            let body = json!({ "purged": purged, "error": what });
            Err(Reply::json(StatusCode::SERVICE_UNAVAILABLE, &body))
        }
    }
}

/// Purges on this node; says how many pages it found.
pub(super) fn apply(said: &Said, context: &Context) -> Result<u64> {
    let mode = if said.soft { Mode::Soft } else { Mode::Hard };
    let view = context.view();
    let located;
    let what = match said {
        Said { url: Some(url), site: None, activity: None, city: None, all: false, .. } => {
            located = (view.locate)(url).map_err(|why| Reply::bad(format!("url: {why}")))?;
            let (host, path) = (located.host.as_str(), located.path.as_str());
            Purge::Url { host, path, city: located.city.as_deref() }
        }
        Said { activity: Some(activity), url: None, all: false, .. } => {
            let site = site(said.site.as_ref(), &view)?;
            let activity = activity.as_str();
            match &said.city {
                Some(city) => Purge::ActivityCity { site, activity, city: Some(city.as_str()) },
                None => Purge::Activity { site, activity },
            }
        }
        Said { all: true, url: None, site: None, activity: None, city: None, .. } => Purge::All,
        _ => {
            return Err(Reply::bad(
                "say one of: activity (with site and city, where needed), url, or all",
            ));
        }
    };
    Ok(context.cache.purge(&what, mode, &context.sink))
}

fn site<'a>(said: Option<&'a Name>, view: &'a View) -> Result<&'a str> {
    match (said, view.sites.as_slice()) {
        (Some(site), sites) if sites.contains(site) => Ok(site.as_str()),
        (Some(site), _) => Err(Reply::missing(format!("there is no site {site}"))),
        (None, [only]) => Ok(only.as_str()),
        (None, _) => Err(Reply::bad("site: say which")),
    }
}
