//! Where the ledger lives.

use super::Findings;
use crate::config::address::ListenAddress;
use crate::config::problem::Path;
use crate::config::schema::Settings;
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
    let path = |name| Path::of(&["store", name]);
    let example = "write: url = \"redis://10.0.0.5:6379\"";
    let Some(url) = &settings.store.url else {
        return found.error_help(path("url"), "the store is Redis, but where is it?", example);
    };
    if url.starts_with("rediss://") {
        found.error_help(path("url"), "TLS to Redis is not supported", example);
    } else if url.contains('@') {
        let help = "write them as store.username and store.password_file";
        found.error_help(path("url"), "user and password do not belong into the config", help);
    } else if let Err(what) = redis_url(url) {
        found.error_help(path("url"), what, example);
    }
}

fn redis_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("redis://").ok_or("must begin with redis://")?;
    let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
    if authority::normalise(host.as_bytes()).is_none() {
        return Err(format!("{host:?} is no host with a port"));
    }
    match database {
        "" => Ok(()),
        number if number.parse::<u16>().is_ok() => Ok(()),
        other => Err(format!("{other:?} is no number of a Redis database")),
    }
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
    ] {
        if given {
            let what = "has no effect: the store is embedded";
            found.warn(Path::of(&["store", name]), what, "write: kind = \"redis\"");
        }
    }
}
