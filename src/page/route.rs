//! What the settings mean for ordinary routes: which requests are the same, and how they are stored.

use std::borrow::Cow;
use std::rc::Rc;

use http::HeaderName;

use super::key::Url;
use super::policy::store::Rules;
use super::policy::tags::Bounds;
use super::select::COOKIE;
use crate::config::schema::{self, CacheMode, ClientControl, SetCookie};

/// The ordinary routes of a site, the longest path first.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<(String, Option<Rc<Route>>)>,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// When and for how long.
    pub rules: Rules,
    /// Headers and cookies that count whatever `Vary` says; sorted.
    pub counted: Vec<Box<str>>,
    /// Whether clients may demand freshness.
    pub honours_clients: bool,
    /// Whether cookies are taken out of responses.
    pub strips_cookies: bool,
    /// Whether it speaks `Surrogate-Control`.
    pub is_surrogate: bool,
    /// Bodies from this length on are compressed.
    pub compress_bytes_min: usize,
    /// Pages of one URL.
    pub variants_max: usize,
    /// Whether clients get the tags.
    pub shows_tags: bool,
    /// How many tags a page may have, and how long they may be.
    pub tag_bounds: Bounds,
    query: Query,
}

/// Which parameters count.
#[derive(Debug, Default)]
struct Query {
    counted: Vec<String>,
    ignored: Vec<String>,
    is_sorted: bool,
}

impl Routes {
    /// Reads the settings of a site.
    pub fn new(site: &schema::Site, cache: &schema::Cache) -> Routes {
        let route = |settings: &schema::RouteCache| {
            (settings.mode == CacheMode::Http).then(|| Rc::new(Route::new(settings, cache)))
        };
        let mut routes: Vec<_> =
            site.route.values().map(|r| (r.path.clone(), route(&r.cache))).collect();
        routes.extend(site.cache.iter().map(|all| (String::new(), route(all))));
        routes.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Routes { routes }
    }

    /// Whether any is cached.
    pub fn any(&self) -> bool {
        self.routes.iter().any(|(_, route)| route.is_some())
    }

    /// The route of a path, if it is cached.
    pub fn of(&self, path: &str) -> Option<&Rc<Route>> {
        self.routes.iter().find(|(prefix, _)| path.starts_with(&**prefix))?.1.as_ref()
    }
}

/// What the keys of a URL of an ordinary route begin with; `None` where it is not cached.
pub fn url_key(settings: &schema::Settings, url: &Url<'_>) -> Option<Vec<u8>> {
    let routes = Routes::new(settings.site.get(url.site)?, &settings.cache);
    let query = routes.of(url.path)?.query(url.query);
    let url = Url { query: query.as_deref(), ..*url };
    Some(url.bytes(&mut Vec::new()).to_vec())
}

impl Route {
    fn new(settings: &schema::RouteCache, cache: &schema::Cache) -> Route {
        let header = |name: &String| HeaderName::from_bytes(name.as_bytes()).ok();
        let headers = settings.headers.iter().map(|name| name.to_ascii_lowercase());
        let cookies = settings.cookies.iter().map(|name| format!("{COOKIE}{name}"));
        let mut counted: Vec<Box<str>> = headers.chain(cookies).map(Into::into).collect();
        counted.sort_unstable();
        counted.dedup();
        let targeted: Vec<HeaderName> = settings.targeted.iter().filter_map(header).collect();
        let compresses = settings.compress.then(|| cache.compress_bytes_min.in_memory());
        Route {
            rules: Rules {
                ttl_ms: settings.ttl.ms,
                stale_ms: settings.stale.ms,
                heuristic_percent: settings.heuristic_percent.into(),
                heuristic_max_ms: settings.heuristic_max.ms,
                stores_cookies: settings.set_cookie != SetCookie::Refuse,
                targeted: targeted.clone(),
            },
            counted,
            honours_clients: settings.client_control == ClientControl::Honour,
            strips_cookies: settings.set_cookie == SetCookie::Strip,
            is_surrogate: targeted.iter().any(|name| name == "surrogate-control"),
            compress_bytes_min: compresses.unwrap_or(usize::MAX),
            variants_max: settings.variants_max as usize,
            shows_tags: cache.show_tags,
            tag_bounds: Bounds::of(cache),
            query: Query {
                counted: settings.query.clone(),
                ignored: settings.query_ignored.clone(),
                is_sorted: settings.query_sorted,
            },
        }
    }

    /// What counts of a query: it is part of the key, and all that the shop gets of it.
    pub fn query<'q>(&self, query: Option<&'q str>) -> Option<Cow<'q, str>> {
        let rules = &self.query;
        let query = query?;
        if rules.counted.is_empty() && rules.ignored.is_empty() && !rules.is_sorted {
            return Some(query.into());
        }
        let counts = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default();
            (rules.counted.is_empty() || is_one_of(name, &rules.counted))
                && !is_one_of(name, &rules.ignored)
        };
        let mut pairs: Vec<&str> = query.split('&').filter(counts).collect();
        if rules.is_sorted {
            // By name, and stable: a list that one name spells keeps its order.
            pairs.sort_by_key(|pair| pair.split('=').next().unwrap_or_default());
        }
        (!pairs.is_empty()).then(|| pairs.join("&").into())
    }
}

fn is_one_of(name: &str, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(toml: &str) -> Routes {
        let site: schema::Site = toml::from_str(toml).expect("valid");
        Routes::new(&site, &schema::Cache::default())
    }

    fn query(settings: &str, query: Option<&str>) -> Option<String> {
        let routes = routes(&format!("[cache]\n{settings}"));
        routes.of("/").expect("cached").query(query).map(Cow::into_owned)
    }

    #[test]
    fn the_longest_path_counts() {
        let routes = routes(
            "[cache]\nttl = \"1s\"\n[route.a]\npath = \"/a/\"\ncache.mode = \"off\"\n\
             [route.b]\npath = \"/a/b/\"\ncache.ttl = \"2s\"\n",
        );
        let ttl = |path| routes.of(path).map(|route| route.rules.ttl_ms);
        assert_eq!((ttl("/"), ttl("/a/x"), ttl("/a/b/c")), (Some(1_000), None, Some(2_000)));
        assert!(Routes::default().of("/").is_none());
    }

    #[test]
    fn only_what_counts_of_a_query_is_left() {
        let all = Some("b=2&a=1&b=1&utm_x=9&a");
        assert_eq!(query("", all).as_deref(), all);
        assert_eq!(query("", Some("")).as_deref(), Some(""));
        assert_eq!(query("", None), None);
        let ignored = "query_ignored = [\"utm_*\", \"a\"]";
        assert_eq!(query(ignored, all).as_deref(), Some("b=2&b=1"));
        assert_eq!(query("query = [\"a\"]", all).as_deref(), Some("a=1&a"));
        assert_eq!(query("query = [\"z\"]", all), None);
        assert_eq!(query("query_sorted = true", all).as_deref(), Some("a=1&a&b=2&b=1&utm_x=9"));
    }
}
