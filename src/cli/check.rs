//! `penstock check`, also `penstock -t`: names every mistake in the config, or says what it configures.

use std::fmt::Write;
use std::sync::Arc;

use super::config_file::ConfigFile;
use super::{Exit, say};
use crate::answers::Answers;
use crate::config::redis_url::RedisUrl;
use crate::config::reference;
use crate::config::schema::{Activity, Outcome, Sale, Settings, Site};
use crate::config::stock::Stock;
use crate::http::Trust;
use crate::ident::Name;
use crate::sale::SaleBook;
use crate::{app, edge, gate, upstream};

/// Checks the config: names every mistake at once (exit 78), or says what it configures.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Print only mistakes and warnings.
    #[arg(short, long)]
    quiet: bool,
    /// Say what a setting means, like `upstream.shop.servers` or `claim_ttl`, and check nothing.
    #[arg(long, value_name = "KEY")]
    explain: Option<String>,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    match &args.explain {
        Some(key) => explain(key),
        None => check(&args.config, args.quiet),
    }
}

/// Checks the config; `penstock -t` is this too.
pub fn check(config: &ConfigFile, quiet: bool) -> Exit {
    let loaded = match config.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let file = config.path();
    if let Err(what) = parts(&loaded.settings) {
        eprintln!("error: {}: {what}", file.display());
        return Exit::Config;
    }
    if quiet {
        return Exit::Ok;
    }
    say(&format!("{}: ok\n{}", file.display(), summary(&loaded.settings)))
}

/// Reads keys, templates and routes as `penstock run` does, so that what passes here starts there.
fn parts(settings: &Settings) -> Result<(), String> {
    let trust = Trust::new(&settings.trust.proxies).map_err(|bad| bad.to_string())?;
    let (trust, answers) = (Arc::new(trust), Arc::new(Answers::new(&settings.answers)?));
    let book = Arc::new(SaleBook::new());
    edge::Shared::new(settings, book, answers.clone(), trust.clone())?;
    gate::Shared::new(settings, answers, trust)?;
    upstream::Shared::with_tls(&settings.upstream)?;
    app::fronts(settings, None)?;
    Ok(())
}

fn explain(key: &str) -> Exit {
    match reference::explain(key) {
        Some(text) => say(&text),
        None => {
            eprintln!(
                "penstock check: there is no setting `{key}`; all are in `penstock config reference`"
            );
            Exit::Failure
        }
    }
}

/// What a config amounts to, a line for each thing.
fn summary(settings: &Settings) -> String {
    let mut out = String::new();
    for (name, listen) in &settings.listen {
        let health = listen.health.as_deref().map(|path| format!(", health {path}"));
        let _ =
            writeln!(out, "  listen    {name}: {}{}", listen.address, health.unwrap_or_default());
    }
    let url = settings.store.url.as_deref().and_then(|url| url.parse::<RedisUrl>().ok());
    let _ = match url {
        // Shown without its password.
        Some(url) if settings.store.is_redis() => writeln!(out, "  store     {url}"),
        _ => writeln!(out, "  store     embedded, in {}", settings.state_dir().display()),
    };
    for (name, upstream) in &settings.upstream {
        let outcome = match upstream.outcome {
            None => "",
            Some(Outcome::Status(_)) => ", outcome by status",
            Some(Outcome::Rules(_)) => ", outcome by rules",
        };
        let servers = upstream.servers.join(" ");
        let _ = writeln!(out, "  upstream  {name}: {servers}{outcome}");
    }
    for (name, site) in &settings.site {
        site_lines(&mut out, name, site);
    }
    for (name, sale) in &settings.sale {
        let _ = writeln!(out, "  sale      {}", sale_line(settings, name, sale));
    }
    out
}

fn site_lines(out: &mut String, name: &Name, site: &Site) {
    let hosts = if site.hosts.is_empty() { "any host".to_owned() } else { site.hosts.join(" ") };
    let upstream = site.upstream.as_ref().map(Name::as_str).unwrap_or_default();
    let _ = writeln!(out, "  site      {name}: {hosts} -> {upstream}");
    let Some(activity) = &site.activity else { return };
    if let Some(page) = &activity.page {
        let page = page.settings();
        let force = if page.force { ", also what says no-store" } else { "" };
        let _ = writeln!(
            out,
            "            page          {} (fresh {}, stale {}{force})",
            page.path, page.ttl, page.stale
        );
    }
    if let Some(path) = &activity.availability {
        let _ = writeln!(out, "            availability  {path}");
    }
    if let Some(path) = &activity.purchase {
        let to = site.purchase_upstream().map(Name::as_str).unwrap_or_default();
        let _ = writeln!(out, "            purchase      {path} -> {to}{}", buyers(activity));
    }
}

fn buyers(activity: &Activity) -> String {
    format!(", user by {}", activity.user.join(", "))
}

fn sale_line(settings: &Settings, name: &Name, sale: &Sale) -> String {
    let id = settings.sale_id(name).map(|id| id.to_string()).unwrap_or_default();
    let activity = sale.activity_of(name);
    let stock = match &sale.stock {
        Some(Stock::Own(units)) => format!("{units} units"),
        Some(Stock::Shop(source)) => format!("as many units as {source} says"),
        None => {
            let units: u64 = sale.pool.values().filter_map(|pool| pool.stock.own()).sum();
            let follow = sale.pool.values().filter(|pool| pool.stock.own().is_none()).count();
            let more = match follow {
                0 => String::new(),
                n => format!(" and what the shop says of {n}"),
            };
            format!("{units} units in {} pools{more}", sale.pool.len())
        }
    };
    let ends = sale.ends_at.map(|end| format!(", ends {end}")).unwrap_or_default();
    let orders = sale.per_user.orders;
    let units = sale.per_user.units;
    format!(
        "{id}: activity {activity}, {stock}, opens {}{ends}, each user {orders} orders, {units} units",
        sale.opens_at
    )
}
