//! Sales: site, activity, stock, times, limits.

use super::Findings;
use crate::config::problem::Path;
use crate::config::schema::{Sale, Settings, Site};
use crate::config::stock::Stock;
use crate::ident::Name;

pub fn check(settings: &Settings, found: &mut Findings) {
    for (name, sale) in &settings.sale {
        let path = Path::of(&["sale", name.as_str()]);
        if let Some((site_name, site)) = site_of(&path, sale, settings, found) {
            place(&path, sale, site_name, site, found);
        }
        stock(&path, sale, found);
        if let Some(ends_at) = sale.ends_at
            && ends_at <= sale.opens_at
        {
            found.error(path.join("ends_at"), "must be after opens_at");
        }
        if sale.per_user.units < sale.per_user.orders {
            found.error(
                path.join("per_user"),
                format!(
                    "{} orders need at least as many units, here are {}",
                    sale.per_user.orders, sale.per_user.units
                ),
            );
        }
    }
    one_at_a_time(settings, found);
}

fn site_of<'s>(
    path: &Path,
    sale: &'s Sale,
    settings: &'s Settings,
    found: &mut Findings,
) -> Option<(&'s Name, &'s Site)> {
    let site = settings.site_of(sale);
    // Without any site that is what is said, not that every sale lacks one.
    if site.is_none() && !settings.site.is_empty() {
        let known: Vec<&str> = settings.site.keys().map(Name::as_str).collect();
        let known = known.join(", ");
        match &sale.site {
            Some(name) => found.error_help(
                path.join("site"),
                format!("there is no [site.{name}]"),
                format!("there are: {known}"),
            ),
            None => found.error_help(
                path.join("site"),
                "must be named where there are several sites",
                format!("there are: {known}"),
            ),
        }
    }
    site
}

/// What the site must have for the sale to be sold.
fn place(path: &Path, sale: &Sale, site_name: &Name, site: &Site, found: &mut Findings) {
    let Some(activity) = &site.activity else {
        return found.error_help(
            path.clone(),
            format!("[site.{site_name}] has no [site.{site_name}.activity]: where is this sold?"),
            "write the paths of its page, availability and purchase",
        );
    };
    if activity.purchase.is_none() {
        let what = format!("[site.{site_name}.activity] has no `purchase`: nobody can buy");
        found.error_help(path.clone(), what, "write: purchase = \"/activity/{activity}/orders\"");
    }
    let pool_is_read = activity.order.as_ref().is_some_and(|order| order.pool.is_some());
    if sale.pool.len() > 1 && !pool_is_read {
        found.error_help(
            path.join("pool"),
            format!("there are several pools, but [site.{site_name}.activity] does not say which one a purchase names"),
            "write: order = { body = \"json\", pool = \"/skuId\" }",
        );
    }
    if pool_is_read && sale.stock.is_some() {
        found.warn(
            path.join("stock"),
            "purchases name a pool, and the only one of this sale is called \"default\": all others are refused as unknown_item",
            "write: pool.ID = { stock = … }, with the shop's own id",
        );
    }
}

fn stock(path: &Path, sale: &Sale, found: &mut Findings) {
    match (&sale.stock, sale.pool.len()) {
        (Some(_), 1..) => {
            found.error_help(
                path.join("stock"),
                "there are pools too, and their stock is what counts",
                "remove `stock`, or the pools",
            );
        }
        (None, 0) => found.error_help(
            path.join("stock"),
            "how many units are there?",
            "write: stock = 1000, or for each article: pool.1001 = { stock = 300 }",
        ),
        (None, pools) if pools > POOLS_MAX => {
            found
                .error(path.join("pool"), format!("{pools} pools; a sale has at most {POOLS_MAX}"));
        }
        _ => {}
    }
    if let Some(Err(why)) = sale.stock.as_ref().map(Stock::check) {
        found.error(path.join("stock"), why);
    }
    for (name, pool) in &sale.pool {
        if let Err(why) = pool.stock.check() {
            found.error(path.join("pool").join(name.as_str()).join("stock"), why);
        }
    }
}

/// An activity has one sale at a time: the one must have ended when the other opens.
fn one_at_a_time(settings: &Settings, found: &mut Findings) {
    let mut sales: Vec<(&Name, &Name, &Name, &Sale)> = settings
        .sale
        .iter()
        .filter_map(|(name, sale)| {
            let (site, _) = settings.site_of(sale)?;
            Some((site, sale.activity_of(name), name, sale))
        })
        .collect();
    sales.sort_by_key(|(site, activity, _, sale)| (*site, *activity, sale.opens_at));
    for pair in sales.windows(2) {
        let [(site, activity, before, first), (other_site, other, after, second)] = pair else {
            continue;
        };
        let same = site == other_site && activity == other;
        if same && first.ends_at.is_none_or(|end| end > second.opens_at) {
            found.error_help(
                Path::of(&["sale", after.as_str()]),
                format!(
                    "activity {activity} is sold by [sale.{before}] too, which has not ended then"
                ),
                format!("give [sale.{before}] an ends_at, or this sale another activity"),
            );
        }
    }
}

/// As many as an availability answer shows.
const POOLS_MAX: usize = 200;
