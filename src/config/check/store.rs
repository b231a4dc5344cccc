//! Where the ledger lives.

use super::Findings;
use crate::config::address::ListenAddress;
use crate::config::problem::Path;
use crate::config::redis_url::RedisUrl;
use crate::config::schema::{Settings, Store};
use crate::ident::authority;

pub fn check(settings: &Settings, found: &mut Findings) {
    if settings.store.is_redis() {
        redis(settings, found)
    } else {
        embedded(settings, found)
    }
    let store = &settings.store;
    if store.queue_max < store.batch_max {
        found.error(
            Path::of(&["store", "queue_max"]),
            format!("must be at least store.batch_max, which is {}", store.batch_max),
        );
    }
}

fn redis(settings: &Settings, found: &mut Findings) {
    let store = &settings.store;
    let example = "write: url = \"redis://10.0.0.5:6379\"";
    let Some(url) = &store.url else {
        return found.error_help(path("url"), "the store is Redis, but where is it?", example);
    };
    let url = match url.parse::<RedisUrl>() {
        Ok(url) => url,
        Err(what) => return found.error_help(path("url"), what, example),
    };
    login(&url, store, found);
    tls(&url, store, found);
    if !url.is_sentinel() {
        for (name, given) in [
            ("sentinel_username", store.sentinel_username.is_some()),
            ("sentinel_password_file", store.sentinel_password_file.is_some()),
        ] {
            if given {
                let help = "write: url = \"redis+sentinel://HOST:26379,HOST:26379/MASTER\"";
                found.warn(path(name), "has no effect: store.url names no Sentinels", help);
            }
        }
    }
}

/// Each part of the login once, and the password rather in a file.
fn login(url: &RedisUrl, store: &Store, found: &mut Findings) {
    let twice = "stands in store.url too";
    if url.username.is_some() && store.username.is_some() {
        found.error_help(path("username"), twice, "write it once");
    }
    if url.password.is_some() && store.password_file.is_some() {
        found.error_help(path("password_file"), twice, "take the password out of the URL");
    } else if url.password.is_some() {
        let what = "everyone who can read the config knows the password";
        found.warn(path("url"), what, "put it into a file: password_file = \"redis.password\"");
    }
    if store.sentinel_username.is_some() && store.sentinel_password_file.is_none() {
        let help = "write: sentinel_password_file = \"sentinel.password\"";
        found.error_help(path("sentinel_username"), "a user needs a password", help);
    }
}

fn tls(url: &RedisUrl, store: &Store, found: &mut Findings) {
    let path = |name| Path::of(&["store", "tls", name]);
    let tls = &store.tls;
    for (name, given) in [
        ("ca_file", &tls.ca_file),
        ("cert_file", &tls.cert_file),
        ("key_file", &tls.key_file),
        ("server_name", &tls.server_name),
    ] {
        if given.is_some() && !url.is_tls {
            // Not a warning: whoever wrote this believes that the password travels encrypted.
            let help = "begin store.url with rediss";
            found.error_help(path(name), "store.url does not ask for TLS", help);
        }
    }
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => {
            found.error_help(path("cert_file"), "has no key", "write: key_file = \"…\"");
        }
        (None, Some(_)) => {
            found.error_help(path("key_file"), "has no certificate", "write: cert_file = \"…\"");
        }
        _ => {}
    }
    if let Some(name) = &tls.server_name
        && authority::normalise(name.as_bytes()).is_none_or(|_| name.contains(':'))
    {
        found.error(path("server_name"), format!("{name:?} is no name of a server"));
    }
}

fn path(name: &str) -> Path {
    Path::of(&["store", name])
}

/// One process only knows of its own ledger, so that a second node would sell the stock again.
fn embedded(settings: &Settings, found: &mut Findings) {
    let store = &settings.store;
    let help = "write: [store] nodes = 1, if this is the only node; else kind = \"redis\"";
    match store.nodes {
        Some(1) => {}
        Some(_) => {
            let what = "the embedded store is for one node";
            found.error_help(Path::of(&["store", "nodes"]), what, help);
        }
        None => {
            for (name, listen) in &settings.listen {
                let public = listen.address.parse().is_ok_and(|a: ListenAddress| a.is_public());
                if public {
                    let what = "others can reach this node, and its ledger is its own: a second node would sell the stock again";
                    found.error_help(Path::of(&["listen", name.as_str(), "address"]), what, help);
                }
            }
        }
    }
    for (name, given) in [
        ("url", store.url.is_some()),
        ("username", store.username.is_some()),
        ("password_file", store.password_file.is_some()),
        ("sentinel_username", store.sentinel_username.is_some()),
        ("sentinel_password_file", store.sentinel_password_file.is_some()),
    ] {
        if given {
            let what = "has no effect: the store is embedded";
            found.warn(Path::of(&["store", name]), what, "write: kind = \"redis\"");
        }
    }
}
