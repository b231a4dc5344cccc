//! Requests that may leave HTTP: which paths, and to what.

use super::Findings;
use super::door::is_plain_path;
use crate::config::pattern::Pattern;
use crate::config::problem::Path;
use crate::config::schema::{Settings, Site};
use crate::config::source::is_token;

pub fn check(settings: &Settings, found: &mut Findings) {
    for (name, site) in &settings.site {
        let Some(upgrade) = &site.upgrade else { continue };
        let path = Path::of(&["site", name.as_str(), "upgrade"]);
        paths(&path.join("paths"), &upgrade.paths, site, found);
        protocols(&path.join("protocols"), &upgrade.protocols, found);
        if upgrade.connections_max > settings.limits.connections_max {
            let most = settings.limits.connections_max;
            let what = format!("is more than limits.connections_max ({most})");
            let help = "then upgraded connections can take every place there is";
            found.warn(path.join("connections_max"), what, help);
        }
    }
}

fn paths(place: &Path, paths: &[String], site: &Site, found: &mut Findings) {
    if paths.is_empty() {
        let help = "write: paths = [\"/live\"], or remove the table";
        found.error_help(place.clone(), "is empty: nothing may be upgraded", help);
    }
    let activity = site.activity.clone().unwrap_or_default();
    let page = activity.page.as_ref().map(|page| page.settings().path);
    let routes = [page, activity.availability, activity.purchase];
    let routes: Vec<Pattern> =
        routes.into_iter().flatten().filter_map(|path| Pattern::parse(&path).ok()).collect();
    for (at, path) in paths.iter().enumerate() {
        let place = place.item(at);
        if !is_plain_path(path) {
            let help = "write it like \"/live\", or \"/socket.io/\" for all below it";
            found.error_help(place, "must be a path of letters, digits and . _ ~ - /", help);
        } else if path.starts_with("/_penstock/") {
            found.error(place, "paths under `/_penstock/` are never forwarded");
        } else if routes.iter().any(|route| route.matches(path).is_some()) {
            let help = "the routes of a sale are answered here, whatever `Upgrade` says";
            found.error_help(place, "is a path of this site's activities", help);
        }
    }
}

fn protocols(place: &Path, protocols: &[String], found: &mut Findings) {
    if protocols.is_empty() {
        let help = "write: protocols = [\"websocket\"], or remove it for that";
        found.error_help(place.clone(), "is empty: there is nothing to upgrade to", help);
    }
    for (at, protocol) in protocols.iter().enumerate() {
        let name = protocol.split('/').next().unwrap_or_default();
        let is_http = ["h2c", "h2", "http", "tls", "connect-udp", "connect-ip"]
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other));
        let is_named = protocol.split('/').all(is_token) && protocol.split('/').count() <= 2;
        if !is_named {
            let what = format!("{protocol:?} is no name of a protocol like \"websocket\"");
            found.error(place.item(at), what);
        } else if is_http {
            let what = format!("{protocol:?} would carry requests past every rule here");
            found.error_help(place.item(at), what, "only what is not HTTP can be upgraded to");
        }
    }
}
