//! Groups of servers and what their answers mean.

use std::collections::BTreeMap;

use super::Findings;
use crate::config::address::ServerAddress;
use crate::config::problem::Path;
use crate::config::schema::{Code, Outcome, OutcomeRules, OutcomeSource, Settings, Site, Upstream};
use crate::config::source::{is_pointer, is_token};
use crate::config::units::Span;
use crate::ident::{Name, authority};

pub fn check(settings: &Settings, found: &mut Findings) {
    for (name, upstream) in &settings.upstream {
        let path = Path::of(&["upstream", name.as_str()]);
        servers(&path, upstream, found);
        if let Some(host) = &upstream.host
            && authority::normalise(host.as_bytes()).is_none()
        {
            found.error(path.join("host"), format!("{host:?} is no host name"));
        }
        if let Some(tls) = &upstream.tls {
            for (one, file, other) in [
                ("cert_file", &tls.cert_file, &tls.key_file),
                ("key_file", &tls.key_file, &tls.cert_file),
            ] {
                if file.is_some() && other.is_none() {
                    let what = "cert_file and key_file belong together";
                    found.error_help(path.join("tls").join(one), what, "write both, or neither");
                }
            }
        }
        if let Some(Outcome::Rules(rules)) = &upstream.outcome {
            outcome(&path.join("outcome"), rules, found);
        }
        let buyers: Vec<&Name> = settings
            .site
            .iter()
            .filter(|(_, site)| site.purchase_upstream() == Some(name))
            .map(|(site, _)| site)
            .collect();
        if let Some(site) = buyers.first() {
            purchases(&path, site, upstream, settings.gate.claim_ttl, found);
        }
        let used = |site: &Site| {
            site.upstream.as_ref() == Some(name) || site.purchase_upstream() == Some(name)
        };
        if !settings.site.is_empty() && !settings.site.values().any(used) {
            found.warn(path, "no site uses it", "name it in a site's `upstream`, or remove it");
        }
    }
}

fn servers(path: &Path, upstream: &Upstream, found: &mut Findings) {
    let path = path.join("servers");
    if upstream.servers.is_empty() {
        let help = "write: servers = [\"127.0.0.1:9000\"]";
        found.error_help(path.clone(), "there is no server", help);
    }
    let mut seen = BTreeMap::new();
    for (at, text) in upstream.servers.iter().enumerate() {
        match text.parse::<ServerAddress>() {
            Err(what) => found.error(path.item(at), what),
            Ok(server) => {
                if seen.insert(server, at).is_some() {
                    found.error(path.item(at), format!("{text} is there twice"));
                }
            }
        }
    }
}

/// What an upstream that gets purchases must say.
fn purchases(path: &Path, site: &Name, upstream: &Upstream, claim_ttl: Span, found: &mut Findings) {
    if upstream.outcome.is_none() {
        found.error_help(
            path.join("outcome"),
            format!("[site.{site}.activity] sends purchases here, so it must be said what the answers mean"),
            "write: outcome = \"status\", if the shop confirms by 200, 201 or 204 and refuses by 4xx; or a table: outcome = { read = \"json\", at = \"/code\", confirmed = [0], sold_out = [1001] }",
        );
    }
    let least = upstream.purchase_timeout.ms + CLAIM_MARGIN_MS;
    if claim_ttl.ms < least {
        found.error_help(
            Path::of(&["gate", "claim_ttl"]),
            format!(
                "is {claim_ttl}, but a purchase may take {} at {path} and its outcome 2s more",
                upstream.purchase_timeout
            ),
            format!("make it {} or longer", Span::from_ms(least)),
        );
    }
}

fn outcome(path: &Path, rules: &OutcomeRules, found: &mut Findings) {
    let at = path.join("at");
    match (rules.read, &rules.at) {
        (OutcomeSource::Json, None) => {
            found.error_help(at, "read = \"json\" needs it", "write: at = \"/code\"");
        }
        (OutcomeSource::Header, None) => {
            found.error_help(at, "read = \"header\" needs it", "write: at = \"X-Result\"");
        }
        (OutcomeSource::Json, Some(text)) if !is_pointer(text) => {
            let what = format!("{text:?} is no JSON pointer");
            found.error_help(at, what, "write: at = \"/code\"");
        }
        (OutcomeSource::Header, Some(text)) if !is_token(text) => {
            found.error(at, format!("{text:?} is no name of a header"));
        }
        (OutcomeSource::Status, Some(_)) => {
            found.error_help(at, "has no meaning with read = \"status\"", "remove it");
        }
        _ => {}
    }
    if let Some(text) = &rules.order_id
        && !is_pointer(text)
    {
        let what = format!("{text:?} is no JSON pointer");
        found.error_help(path.join("order_id"), what, "write: order_id = \"/data/orderNo\"");
    }
    codes(path, rules, found);
    for (at, prefix) in rules.redirect_confirmed.iter().enumerate() {
        let absolute = prefix.starts_with("http://") || prefix.starts_with("https://");
        if !(absolute || prefix.starts_with('/')) || prefix.len() < 2 {
            found.error_help(
                path.join("redirect_confirmed").item(at),
                format!("{prefix:?} would confirm by the wrong redirects"),
                "write how `Location` begins after an order, like \"/orders/\"; a lapsed session redirects too",
            );
        }
    }
}

fn codes(path: &Path, rules: &OutcomeRules, found: &mut Findings) {
    let lists = [
        ("confirmed", &rules.confirmed),
        ("failed", &rules.failed),
        ("sold_out", &rules.sold_out),
        ("already", &rules.already),
        ("pending", &rules.pending),
    ];
    let mut seen: BTreeMap<&Code, &str> = BTreeMap::new();
    for (name, codes) in lists {
        for (at, code) in codes.iter().enumerate() {
            let path = path.join(name).item(at);
            if let Some(other) = seen.insert(code, name) {
                found.error(path.clone(), format!("{} is in `{other}` already", written(code)));
            }
            match (rules.read, code) {
                (OutcomeSource::Status, Code::Number(100..=599)) => {}
                (OutcomeSource::Status, _) => {
                    found.error(path, format!("{} is no status", written(code)));
                }
                (OutcomeSource::Header, Code::Number(n)) => {
                    found.error_help(path, "a header's value is a text", format!("write: \"{n}\""));
                }
                _ => {}
            }
        }
    }
    let may_confirm = !rules.confirmed.is_empty()
        || !rules.pending.is_empty()
        || !rules.redirect_confirmed.is_empty();
    if !may_confirm {
        found.error_help(
            path.join("confirmed"),
            "no answer would ever count as an order",
            "write the codes of success, like: confirmed = [0]",
        );
    }
}

fn written(code: &Code) -> String {
    match code {
        Code::Number(number) => number.to_string(),
        Code::Text(text) => format!("{text:?}"),
    }
}

/// From the end of a purchase to the store's word about it (DESIGN section 5: not-after and retries).
const CLAIM_MARGIN_MS: u64 = 2_000;
