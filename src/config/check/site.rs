//! Sites: hosts, upstreams, identity, orders.

use std::collections::BTreeMap;

use super::Findings;
use crate::config::problem::Path;
use crate::config::schema::{Activity, Listen, Order, OrderBody, Settings, Site};
use crate::config::source::{CitySource, KeySource, UserSource, is_pointer, is_token};
use crate::ident::{Name, authority};

pub fn check(settings: &Settings, found: &mut Findings) {
    if settings.site.is_empty() {
        found.error_help(
            Path::of(&["site"]),
            "there is no site: nothing would be served",
            "write: [site.shop] upstream = \"shop\"",
        );
    }
    let mut hosts = BTreeMap::new();
    let mut any_host: Option<&Name> = None;
    for (name, site) in &settings.site {
        let path = Path::of(&["site", name.as_str()]);
        hosts_of(&path, name, site, &mut hosts, found);
        if site.hosts.is_empty()
            && let Some(other) = any_host.replace(name)
        {
            let what =
                format!("[site.{other}] takes any host already, so this one must name its own");
            found.error_help(path.join("hosts"), what, "write: hosts = [\"shop.example\"]");
        }
        let asks = |listen: &Listen| listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if site.client_certificate && !settings.listen.values().any(asks) {
            found.error_help(
                path.join("client_certificate"),
                "no listener asks for certificates: nobody would be served",
                "write in [listen.https.tls]: client_ca = \"clients-ca.pem\"",
            );
        }
        upstream_of(&path.join("upstream"), site.upstream.as_ref(), settings, found);
        if let Some(activity) = &site.activity {
            let path = path.join("activity");
            if activity.purchase_upstream.is_some() {
                let named = activity.purchase_upstream.as_ref();
                upstream_of(&path.join("purchase_upstream"), named, settings, found);
            }
            users(&path, activity, found);
            cities(&path, activity, found);
            origins(&path, activity, found);
            if let Some(order) = &activity.order {
                order_of(&path.join("order"), order, found);
            }
            let cache_ms = activity.availability_cache.map_or(0, |span| span.ms);
            if cache_ms % 1000 != 0 {
                let what = "must be whole seconds, as Cache-Control counts them";
                found.error(path.join("availability_cache"), what);
            }
        }
    }
}

fn hosts_of<'s>(
    path: &Path,
    name: &'s Name,
    site: &'s Site,
    seen: &mut BTreeMap<&'s str, &'s Name>,
    found: &mut Findings,
) {
    let path = path.join("hosts");
    for (at, host) in site.hosts.iter().enumerate() {
        match authority::normalise(host.as_bytes()) {
            None => {
                let what = format!("{host:?} is no host name");
                let help =
                    "write it as it stands in URLs, without a scheme or a path: shop.example";
                found.error_help(path.item(at), what, help);
            }
            Some(normal) if normal != *host => {
                let what = format!("{host:?} has another spelling here");
                found.error_help(path.item(at), what, format!("write: \"{normal}\""));
            }
            Some(_) => {
                if let Some(other) = seen.insert(host, name) {
                    found.error(path.item(at), format!("[site.{other}] has this host already"));
                }
            }
        }
    }
}

fn upstream_of(path: &Path, named: Option<&Name>, settings: &Settings, found: &mut Findings) {
    let known: Vec<&str> = settings.upstream.keys().map(Name::as_str).collect();
    match named {
        Some(name) if settings.upstream.contains_key(name) => {}
        Some(name) => {
            let what = format!("there is no [upstream.{name}]");
            let near = crate::config::nearest::nearest(name.as_str(), known.iter().copied());
            match near {
                Some(near) => {
                    found.error_help(path.clone(), what, format!("did you mean \"{near}\"?"));
                }
                None => found.error_help(
                    path.clone(),
                    what,
                    format!("write: [upstream.{name}] servers = [\"127.0.0.1:9000\"]"),
                ),
            }
        }
        None => {
            let example = known.first().copied().unwrap_or("shop");
            let help = format!("write: upstream = \"{example}\"");
            found.error_help(path.clone(), "is missing: where do requests go?", help);
        }
    }
}

fn users(path: &Path, activity: &Activity, found: &mut Findings) {
    let here = path.join("user");
    if activity.purchase.is_some() && activity.user.is_empty() {
        found.error_help(
            here.clone(),
            "who buys must be said, for limits and for one order each",
            "write: user = [\"jwt:header:authorization\"], or to try it out: user = [\"cookie:uid\"]",
        );
    }
    let (mut jwt, mut hmac) = (false, false);
    for (at, text) in activity.user.iter().enumerate() {
        let path = here.item(at);
        match text.parse::<UserSource>() {
            Err(what) => found.error(path, what),
            Ok(UserSource::Jwt(_)) => jwt = true,
            Ok(UserSource::Hmac(_)) => hmac = true,
            Ok(UserSource::Unverified(part)) => found.warn(
                path,
                format!("unverified identity: anyone can write any {part}, be many users or burn another's right"),
                "for a real sale use jwt:… or hmac:…",
            ),
            Ok(UserSource::Address) => found.warn(
                path,
                "unverified identity: all behind one address are one user",
                "for a real sale use jwt:… or hmac:…",
            ),
        }
    }
    let first = |prefix: &str| activity.user.iter().position(|u| u.starts_with(prefix));
    if jwt && activity.jwt.is_none() {
        found.error_help(
            here.item(first("jwt:").unwrap_or(0)),
            "needs `jwt`: how is it verified?",
            "write: jwt = { alg = \"HS256\", key_file = \"jwt.key\" }",
        );
    }
    if hmac && activity.hmac.is_none() {
        found.error_help(
            here.item(first("hmac:").unwrap_or(0)),
            "needs `hmac`: how is it verified?",
            "write: hmac = { key_file = \"sid.key\" }",
        );
    }
    for (name, given, used) in
        [("jwt", activity.jwt.is_some(), jwt), ("hmac", activity.hmac.is_some(), hmac)]
    {
        if given && !used {
            let help = format!("name it: user = [\"{name}:header:NAME\"]");
            found.warn(
                path.join(name),
                "has no effect: no source of `user` is verified by it",
                help,
            );
        }
    }
}

fn cities(path: &Path, activity: &Activity, found: &mut Findings) {
    for (at, text) in activity.city.iter().enumerate() {
        if let Err(what) = text.parse::<CitySource>() {
            found.error(path.join("city").item(at), what);
        }
    }
    if activity.city.is_empty() && !activity.cities.is_empty() {
        let help = "write: city = [\"query:city\"]";
        found.warn(path.join("cities"), "has no effect: no source of `city` is named", help);
    }
}

fn origins(path: &Path, activity: &Activity, found: &mut Findings) {
    for (at, origin) in activity.cors_origins.iter().enumerate() {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let normal = host.and_then(|host| authority::normalise(host.as_bytes()));
        if origin != "*" && (normal.is_none() || normal.as_deref() != host) {
            found.error_help(
                path.join("cors_origins").item(at),
                format!("{origin:?} is no origin as browsers send it"),
                "write it like \"https://m.shop.example\", in lower case, without a path or a default port",
            );
        }
    }
}

fn order_of(path: &Path, order: &Order, found: &mut Findings) {
    let is_json = order.body == OrderBody::Json;
    let place = |text: &str| if is_json { is_pointer(text) } else { is_token(text) };
    let what = |text: &str| match order.body {
        OrderBody::Json => format!("{text:?} is no JSON pointer like \"/skuId\""),
        OrderBody::Form | OrderBody::Query => {
            format!("{text:?} is no name of a field like \"sku\"")
        }
    };
    for (name, text) in [("pool", &order.pool), ("quantity", &order.quantity)] {
        if let Some(text) = text
            && !place(text)
        {
            found.error(path.join(name), what(text));
        }
    }
    for (at, text) in order.key.iter().flatten().enumerate() {
        let path = path.join("key").item(at);
        match text.parse::<KeySource>() {
            Err(what) => found.error(path, what),
            Ok(KeySource::Body(text)) if !place(&text) => found.error(path, what(&text)),
            Ok(_) => {}
        }
    }
}
