//! What a site's settings mean for its pages, and the one constructor of requests for them.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::Ask;
use super::key::Fields;
use super::policy::clip::Bound;
use super::policy::judge::Route;
use super::policy::tags::Bounds;
use super::route::Routes;
use crate::clock::Now;
use crate::config::schema;
use crate::config::source::{CitySource, Part};
use crate::sale::{Availability, SaleBook};
use crate::upstream::{Body, Group, Request, Upstreams};

/// A site as one worker's pages know it.
#[derive(Debug)]
pub struct Site {
    /// Its ordinary routes.
    pub routes: Routes,
    /// The servers; none: every page is `bad_gateway`.
    pub group: Option<Rc<Group>>,
    /// What the operator says about freshness.
    pub route: Route,
    /// `Vary` of every page: what decides between our codings, and between cities.
    pub vary: String,
    /// Whether there is a page for each public state of a sale.
    pub by_state: bool,
    /// The sales: how long a page may be kept outside is theirs to say.
    pub book: Arc<SaleBook>,
    /// Whether clients get the tags.
    pub shows_tags: bool,
    /// How many tags a page may have, and how long they may be.
    pub tag_bounds: Bounds,
    /// How the shop is told the city: the way of the first source. `None`: it is in the path already.
    city: Option<Part>,
}

impl Site {
    /// Reads the settings of a site.
    pub fn new(
        site: &schema::Site,
        cache: &schema::Cache,
        upstreams: &Upstreams,
        book: Arc<SaleBook>,
    ) -> Site {
        let group = site.upstream.as_ref().and_then(|name| upstreams.group(name)).cloned();
        let activity = site.activity.as_ref();
        let page = activity.and_then(|a| a.page.as_ref()).map(schema::PageRoute::settings);
        let sources = activity.map_or(&[][..], |a| &a.city);
        // They were checked with the routes.
        let cities: Vec<CitySource> = sources.iter().filter_map(|text| text.parse().ok()).collect();
        let mut vary = "accept-encoding".to_owned();
        for city in &cities {
            match city {
                CitySource::Part(Part::Cookie(_)) if !vary.contains(", cookie") => {
                    vary.push_str(", cookie");
                }
                CitySource::Part(Part::Header(name)) => vary.extend([", ", name.as_str()]),
                _ => {}
            }
        }
        let city = match cities.into_iter().next() {
            Some(CitySource::Part(part)) => Some(part),
            Some(CitySource::Path) | None => None,
        };
        Site {
            routes: Routes::new(site, cache),
            group,
            route: Route {
                ttl_ms: page.as_ref().map_or(0, |p| p.ttl.ms),
                stale_ms: page.as_ref().map_or(0, |p| p.stale.ms),
                force: page.as_ref().is_some_and(|p| p.force),
                error_hold_ms: cache.error_hold.ms,
            },
            vary,
            by_state: page.as_ref().is_some_and(|p| p.by_state),
            book,
            shows_tags: cache.show_tags,
            tag_bounds: Bounds::of(cache),
            city,
        }
    }

    /// What the key of a page is made of.
    #[inline]
    pub fn fields<'a>(&self, ask: &Ask<'a>) -> Fields<'a> {
        let (site, activity) = (ask.site.as_str(), ask.activity);
        let state = match self.by_state {
            true => self.state(site, activity, &ask.exchange.now),
            false => None,
        };
        Fields { site, host: ask.host, path: ask.head.path, activity, city: ask.city, state }
    }

    /// The state that a request at `now` is answered for, where there is a page for each.
    fn state(&self, site: &str, activity: &str, now: &Now) -> Option<&'static str> {
        Some(self.book.get(site, activity)?.at(now).availability.label())
    }

    /// How long a page with `headers` that came at `now` may be kept outside: until its sale changes by
    /// time alone. `None`: as long as the shop says.
    pub fn bound(&self, fields: &Fields<'_>, headers: &HeaderMap, now: &Now) -> Option<Bound> {
        let sale = self.book.get(fields.site, fields.activity)?;
        let is = |state: Availability| fields.state == Some(state.label());
        let edge = match fields.state {
            None => sale.at(now).next_edge?,
            Some(_) if is(Availability::NotStarted) => sale.state.opens_at,
            Some(_) if is(Availability::Ended) => return None,
            Some(_) => sale.state.ends_at?,
        };
        Some(Bound::of(headers, edge.since(now.ledger), self.route.ttl_ms))
    }

    /// The request for the page of a key, built from the key alone: nothing of a client reaches the
    /// shop, so nothing of one can come back to another. `validators` ask whether it has changed.
    pub fn request(
        &self,
        fields: &Fields<'_>,
        validators: impl Iterator<Item = (HeaderName, HeaderValue)>,
    ) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::VIA, HeaderValue::from_static("1.1 penstock"));
        for (name, value) in validators {
            headers.insert(name, value);
        }
        if let Some(state) = fields.state.and_then(|state| HeaderValue::from_str(state).ok()) {
            headers.insert(STATE, state);
        }
        let mut target = fields.path.to_owned();
        if let (Some(part), Some(city)) = (&self.city, fields.city) {
            let told = match part {
                Part::Query(name) => {
                    target.extend(["?", name, "=", city]);
                    None
                }
                Part::Cookie(name) => Some((header::COOKIE, format!("{name}={city}"))),
                Part::Header(name) => name.parse().ok().map(|name| (name, city.to_owned())),
            };
            if let Some((name, text)) = told
                && let Ok(value) = HeaderValue::from_str(&text)
            {
                headers.insert(name, value);
            }
        }
        Request {
            method: Method::GET,
            target,
            host: fields.host.to_owned(),
            headers,
            body: Body::Empty,
            interim: None,
        }
    }
}

/// By which the shop is asked for the page of a state.
const STATE: HeaderName = HeaderName::from_static("penstock-state");

/// Some shops refuse requests without one.
const USER_AGENT: &str = concat!("penstock/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    fn site(toml: &str) -> Site {
        let site: schema::Site = toml::from_str(toml).expect("valid");
        let groups = std::collections::BTreeMap::new();
        let shared = crate::upstream::Shared::new(&groups);
        let upstreams = Upstreams::new(&shared, crate::metrics::Sink::detached());
        Site::new(&site, &schema::Cache::default(), &upstreams, Arc::default())
    }

    fn asked(toml: &str, city: Option<&str>) -> Request {
        let fields = Fields {
            site: "s",
            host: "shop.example",
            path: "/activity/1",
            activity: "1",
            city,
            state: None,
        };
        site(toml).request(&fields, std::iter::empty())
    }

    #[test]
    fn the_shop_is_told_the_city_by_the_first_source() {
        let query = "activity.city = [\"query:city\", \"cookie:city_id\"]";
        assert_eq!(asked(query, Some("sh")).target, "/activity/1?city=sh");
        assert_eq!(asked(query, None).target, "/activity/1");
        assert!(!asked(query, Some("sh")).headers.contains_key("cookie"));
        let cookie = asked("activity.city = [\"cookie:city_id\"]", Some("sh"));
        assert_eq!(
            (&*cookie.target, &cookie.headers["cookie"]),
            ("/activity/1", &"city_id=sh".parse().expect("valid"))
        );
        assert_eq!(
            asked("activity.city = [\"header:X-City\"]", Some("sh")).headers["x-city"],
            "sh"
        );
        let path = asked("activity.city = [\"path\", \"query:c\"]", Some("sh"));
        assert_eq!(path.target, "/activity/1");
    }

    #[test]
    fn a_fill_carries_nothing_else() {
        let request = asked("activity.city = [\"query:city\"]", Some("sh"));
        let mut names: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "accept-encoding", "user-agent", "via"]);
        assert_eq!(request.headers["accept-encoding"], "identity");
        assert_eq!((request.method, &*request.host), (Method::GET, "shop.example"));
    }

    #[test]
    fn vary_names_what_a_cache_in_front_has_to_look_at() {
        assert_eq!(site("").vary, "accept-encoding");
        let all = "activity.city = [\"query:c\", \"cookie:a\", \"cookie:b\", \"header:X-City\"]";
        assert_eq!(site(all).vary, "accept-encoding, cookie, x-city");
    }
}
