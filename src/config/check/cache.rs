//! How ordinary routes are cached: names that are names, paths that are paths.

use std::collections::BTreeMap;

use super::Findings;
use crate::config::problem::Path;
use crate::config::schema::{RouteCache, Settings};
use crate::config::source::is_token;

pub fn check(settings: &Settings, found: &mut Findings) {
    for (name, site) in &settings.site {
        let path = Path::of(&["site", name.as_str()]);
        if let Some(cache) = &site.cache {
            route(&path.join("cache"), cache, found);
        }
        let mut seen = BTreeMap::new();
        for (route_name, settings) in &site.route {
            let path = path.join("route").join(route_name.as_str());
            route(&path.join("cache"), &settings.cache, found);
            if !settings.path.starts_with('/') {
                let what = format!("`{}` is not the beginning of a path", settings.path);
                found.error_help(path.join("path"), what, "write: path = \"/assets/\"");
            }
            if let Some(other) = seen.insert(&settings.path, route_name) {
                let what = format!("[site.{name}.route.{other}] has the same path");
                found.error(path.join("path"), what);
            }
        }
    }
}

fn route(path: &Path, cache: &RouteCache, found: &mut Findings) {
    for (setting, names) in
        [("headers", &cache.headers), ("cookies", &cache.cookies), ("targeted", &cache.targeted)]
    {
        for name in names.iter().filter(|name| !is_token(name)) {
            let what = format!("`{name}` is not a name of HTTP");
            found.error(path.join(setting), what);
        }
    }
    if cache.headers.iter().any(|name| name.eq_ignore_ascii_case("cookie")) {
        let what = "whole cookies make every client a variant of its own";
        found.warn(path.join("headers"), what, "name the ones that count in `cookies`");
    }
}
