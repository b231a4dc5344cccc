//! `POST /v1/purge`: pages that are no longer true.

use serde::Deserialize;
use serde_json::json;

use super::Context;
use super::reply::{Reply, Result};
use super::route::Ask;
use crate::ident::Name;
use crate::page::{Mode, Purge};

/// What to purge: an activity (for one city, if one is named), a URL, or all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
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

pub(super) fn purge(ask: &Ask<'_>, context: &Context) -> Result {
    let said: Said = ask.json()?;
    let mode = if said.soft { Mode::Soft } else { Mode::Hard };
    let located;
    let what = match &said {
        Said { url: Some(url), site: None, activity: None, city: None, all: false, .. } => {
            located = (context.locate)(url).map_err(|why| Reply::bad(format!("url: {why}")))?;
            let (host, path) = (located.host.as_str(), located.path.as_str());
            Purge::Url { host, path, city: located.city.as_deref() }
        }
        Said { activity: Some(activity), url: None, all: false, .. } => {
            let site = site(said.site.as_ref(), context)?;
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
    let purged = context.cache.purge(&what, mode, &context.sink);
    tracing::info!("{purged} pages purged, says {}", ask.who);
    Ok(Reply::ok(&json!({ "purged": purged })))
}

fn site<'a>(said: Option<&'a Name>, context: &'a Context) -> Result<&'a str> {
    match (said, context.sites.as_slice()) {
        (Some(site), sites) if sites.contains(site) => Ok(site.as_str()),
        (Some(site), _) => Err(Reply::missing(format!("there is no site {site}"))),
        (None, [only]) => Ok(only.as_str()),
        (None, _) => Err(Reply::bad("site: say which")),
    }
}
