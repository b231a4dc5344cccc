//! `POST /v1/purge`: pages that are no longer true. The same for those who ask at the edge.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::reply::{Reply, Result};
use super::route::Ask;
use super::{Context, Standing, View};
use crate::ident::Name;
use crate::page::{Ban, Mode, Purge};

/// What to purge: an activity (for one city, if one is named), a URL, a host, a prefix of paths, tags,
/// or all.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// The site; absent: the only one, or for tags all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activity: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    city: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// What paths begin with; a URL means its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// Surrogate keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default)]
    all: bool,
    /// Stale at once, but still there if the shop does not answer.
    #[serde(default)]
    soft: bool,
}

/// What came of a purge: the status, and what is said of it.
#[derive(Debug)]
pub struct Purged {
    /// 200, or what was wrong.
    pub status: StatusCode,
    /// JSON.
    pub body: Value,
}

/// Purges here and on the other nodes.
pub(super) async fn purge(ask: &Ask<'_>, context: &Arc<Context>) -> Result {
    let said: Said = ask.json()?;
    let Purged { status, body } = everywhere(&said, ask.who, context).await?;
    match status {
        StatusCode::OK => Ok(Reply::ok(&body)),
        _ => Err(Reply::json(status, &body)),
    }
}

/// Purges what a client of the edge may: a URL, or tags of a site.
pub async fn purge_for(
    who: &str,
    site: Name,
    url: String,
    tags: Vec<String>,
    soft: bool,
    context: &Arc<Context>,
) -> Purged {
    let said = match tags.is_empty() {
        true => Said { url: Some(url), soft, ..Said::default() },
        false => Said { site: Some(site), tags, soft, ..Said::default() },
    };
    let refused = |reply: Reply| {
        let error = "nothing was purged: that URL is not cached, or a tag is empty or one too many";
        Purged { status: reply.status, body: json!({ "purged": 0, "error": error }) }
    };
    everywhere(&said, who, context).await.unwrap_or_else(refused)
}

/// It holds here before the others are told, who do not wait until everything is looked through.
async fn everywhere(
    said: &Said,
    who: &str,
    context: &Arc<Context>,
) -> std::result::Result<Purged, Reply> {
    let bans = begin(said, context)?;
    let (purged, told) = tokio::join!(sweep(bans, context), context.fleet.purge(said));
    tracing::info!(purged, soft = said.soft, "purged, says {who}");
    Ok(match told {
        Ok(()) => Purged { status: StatusCode::OK, body: json!({ "purged": purged }) },
        Err(error) => {
            let what = format!("{error}: purged here alone; purge again when the store answers");
            let body = json!({ "purged": purged, "error": what });
            Purged { status: StatusCode::SERVICE_UNAVAILABLE, body }
        }
    })
}

/// Purges on this node. It holds when this returns; what is stored is removed on a thread of its own.
pub(super) fn begin(said: &Said, context: &Context) -> std::result::Result<Vec<Arc<Ban>>, Reply> {
    let mode = if said.soft { Mode::Soft } else { Mode::Hard };
    let view = context.view();
    let ban = |what: &Purge<'_>| vec![context.cache.ban(what, mode)];
    let kinds = [
        said.activity.is_some(),
        said.url.is_some(),
        said.host.is_some() || said.prefix.is_some(),
        !said.tags.is_empty(),
        said.all,
    ];
    let has_site = said.site.is_some() && said.activity.is_none() && said.tags.is_empty();
    let has_city = said.city.is_some() && said.activity.is_none();
    if kinds.into_iter().filter(|is| *is).count() != 1 || has_site || has_city {
        return Err(Reply::bad(
            "say one of: activity (with site and city, where needed), url, host and prefix (one or \
             both), tags (with site, if only one is meant), or all",
        ));
    }
    if let Some(activity) = &said.activity {
        let (site, activity) = (site(said.site.as_ref(), &view)?, activity.as_str());
        let city = said.city.as_ref().map(Name::as_str);
        return Ok(ban(&match city {
            Some(_) => Purge::ActivityCity { site, activity, city },
            None => Purge::Activity { site, activity },
        }));
    }
    if let Some(url) = &said.url {
        let located = (view.locate)(url).map_err(|why| Reply::bad(format!("url: {why}")))?;
        return Ok(ban(&match &located.what {
            Standing::Page(city) => {
                let (host, path) = (located.canonical.as_str(), located.path.as_str());
                Purge::Url { host, path, city: city.as_deref() }
            }
            Standing::Stored(url) => Purge::Stored { url },
            Standing::Nothing => {
                return Err(Reply::bad(format!("url: {} is not cached", located.path)));
            }
        }));
    }
    if !said.tags.is_empty() {
        let site = said.site.as_ref().map(|said| site(Some(said), &view)).transpose()?;
        if said.tags.len() > TAGS_MAX || said.tags.iter().any(|tag| tag.trim().is_empty()) {
            return Err(Reply::bad(format!("tags: 1 to {TAGS_MAX}, none of them empty")));
        }
        let tags = said.tags.iter().map(|tag| Purge::Tag { site, tag: tag.trim() });
        return Ok(tags.map(|what| context.cache.ban(&what, mode)).collect());
    }
    match said.all {
        true => Ok(ban(&Purge::All)),
        false => within(said, &view, |what| context.cache.ban(what, mode)),
    }
}

/// A host, a prefix, or both.
fn within(
    said: &Said,
    view: &View,
    ban: impl Fn(&Purge<'_>) -> Arc<Ban>,
) -> std::result::Result<Vec<Arc<Ban>>, Reply> {
    let of_url = said.prefix.as_ref().filter(|prefix| !prefix.starts_with('/'));
    let url = match (of_url, &said.host) {
        (Some(_), Some(_)) => {
            return Err(Reply::bad("prefix: begins with / where the host is said beside it"));
        }
        (Some(url), None) => Some(url.clone()),
        (None, host) => host.as_ref().map(|host| format!("http://{host}/")),
    };
    let located = url.map(|url| (view.locate)(&url)).transpose();
    let located = located.map_err(|why| Reply::bad(format!("host or prefix: {why}")))?;
    let host = located.as_ref().map(|l| (l.host.as_str(), l.canonical.as_str()));
    let path = match (of_url, &said.prefix, &located) {
        (Some(_), _, Some(located)) => Some(located.path.as_str()),
        (_, prefix, _) => prefix.as_deref(),
    };
    match (host, path) {
        (host, Some(path)) => Ok(vec![ban(&Purge::Prefix { host, path })]),
        (Some((host, canonical)), None) => Ok(vec![ban(&Purge::Host { host, canonical })]),
        (None, None) => Err(Reply::bad("say a host or a prefix")),
    }
}

/// Looks through what is stored, away from all who serve. Says how many pages were met.
pub(super) async fn sweep(bans: Vec<Arc<Ban>>, context: &Arc<Context>) -> u64 {
    let shared = context.clone();
    let sweep = move || {
        let sweep = |ban: &Arc<Ban>| shared.cache.sweep(ban, &shared.sink);
        bans.iter().map(sweep).sum()
    };
    // A sweep that panicked has counted nothing; the ban holds.
    tokio::task::spawn_blocking(sweep).await.unwrap_or(0)
}

fn site<'a>(said: Option<&'a Name>, view: &'a View) -> Result<&'a str> {
    match (said, view.sites.as_slice()) {
        (Some(site), sites) if sites.contains(site) => Ok(site.as_str()),
        (Some(site), _) => Err(Reply::missing(format!("there is no site {site}"))),
        (None, [only]) => Ok(only.as_str()),
        (None, _) => Err(Reply::bad("site: say which")),
    }
}

/// Tags of one call.
const TAGS_MAX: usize = 256;
