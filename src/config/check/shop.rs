//! The shop's own numbers: whether they can be read.

use super::Findings;
use crate::config::problem::Path;
use crate::config::redis_url::{Place, RedisUrl};
use crate::config::schema::{Settings, StoreKind};
use crate::config::stock::{Stock, is_key};

pub fn check(settings: &Settings, found: &mut Findings) {
    let shop = &settings.shop;
    let path = Path::of(&["shop"]);
    match &shop.redis_url {
        None => {
            for (name, is_set) in [
                ("redis_username", shop.redis_username.is_some()),
                ("redis_password_file", shop.redis_password_file.is_some()),
            ] {
                if is_set {
                    let what = "has no effect without shop.redis_url";
                    found.error_help(path.join(name), what, "write it, or remove this");
                }
            }
        }
        Some(url) => match url.parse::<RedisUrl>() {
            Err(why) => found.error(path.join("redis_url"), why),
            Ok(url) if matches!(url.place, Place::Sentinel { .. } | Place::Cluster(_)) => found
                .error_help(
                    path.join("redis_url"),
                    "must name one server",
                    "keys behind Sentinels or in a cluster are followed where the store is there",
                ),
            Ok(_) => {}
        },
    }
    for (name, sale) in &settings.sale {
        let sets = [("already", &sale.already), ("only", &sale.only), ("deny", &sale.deny)];
        for (setting, set) in sets.iter().filter_map(|(name, set)| Some((name, set.as_ref()?))) {
            if !is_key(&set.redis_set) {
                let path = Path::of(&["sale", name.as_str(), setting, "redis_set"]);
                found.error(path, "a key has 1 to 256 characters, none of them control characters");
            }
        }
    }
    if settings.store.kind == StoreKind::Redis || shop.redis_url.is_some() {
        return;
    }
    for (name, sale) in &settings.sale {
        let stocks = sale.pool.values().map(|pool| &pool.stock).chain(&sale.stock);
        let is_followed = |stock: &Stock| stock.source().is_some_and(|s| s.redis.is_some());
        let sets = [&sale.already, &sale.only, &sale.deny];
        if stocks.into_iter().any(is_followed) || sets.into_iter().any(Option::is_some) {
            found.error_help(
                Path::of(&["sale", name.as_str()]),
                "its stock or its users stand in the shop's Redis, and this node knows none",
                "write: shop.redis_url = \"redis://10.0.0.6:6379\", or store.kind = \"redis\"",
            );
        }
    }
}
