//! Listeners, trusted proxies, bounds of connections, the admin API.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Findings;
use crate::config::address::{ListenAddress, socket_mode, socket_path};
use crate::config::problem::Path;
use crate::config::schema::{ClientCertificate, Http, Listen, ListenTls, Settings};

pub fn check(settings: &Settings, found: &mut Findings) {
    listeners(settings, found);
    let place = Path::of(&["trust", "proxies"]);
    networks(
        &place,
        &settings.trust.proxies,
        "everybody is believed about the client's address",
        found,
    );
    let place = Path::of(&["cache", "purge_from"]);
    networks(&place, &settings.cache.purge_from, "everybody may purge", found);
    bounds(settings, found);
    memory(settings, found);
    admin(settings, found);
}

fn listeners(settings: &Settings, found: &mut Findings) {
    if settings.listen.is_empty() {
        found.error_help(
            Path::of(&["listen"]),
            "there is no listener",
            "write: [listen.http] address = \"127.0.0.1:8080\"",
        );
    }
    let mut seen = BTreeMap::new();
    for (name, listen) in &settings.listen {
        socket(&Path::of(&["listen", name.as_str()]), listen, found);
        let path = Path::of(&["listen", name.as_str(), "address"]);
        match listen.address.parse::<ListenAddress>() {
            Err(what) => found.error(path, what),
            Ok(address) => {
                let any_port = matches!(address, ListenAddress::Tcp(a) if a.port() == 0);
                if let Some(other) = seen.insert(address, name)
                    && !any_port
                {
                    found.error(path, format!("[listen.{other}] has the same address"));
                }
            }
        }
        if let Some(tls) = &listen.tls {
            listener_tls(&Path::of(&["listen", name.as_str(), "tls"]), tls, found);
        }
        if let Some(health) = &listen.health {
            let path = Path::of(&["listen", name.as_str(), "health"]);
            let ours = health.starts_with("/_penstock/") && health != "/_penstock/health";
            if !is_plain_path(health) {
                let help = "write: health = \"/healthz\"";
                found.error_help(path, "must be a path of letters, digits and . _ ~ - /", help);
            } else if ours {
                found.error(path, "other paths under `/_penstock/` have meanings of their own");
            }
        }
    }
}

/// What asks of clients what nobody checks, or says twice what is said.
fn listener_tls(path: &Path, tls: &ListenTls, found: &mut Findings) {
    if tls.client_ca.is_none() && tls.client_certificate != ClientCertificate::default() {
        let help = "write: client_ca = \"clients-ca.pem\"";
        found.warn(path.join("client_certificate"), "has no effect without client_ca", help);
    }
}

/// What is said of one listener's socket and of who connects to it.
fn socket(path: &Path, listen: &Listen, found: &mut Findings) {
    let is_unix = listen.address.starts_with("unix:");
    match listen.mode.as_deref() {
        Some(_) if !is_unix => found.error_help(
            path.join("mode"),
            "only a Unix socket has a file mode",
            "remove it, or write: address = \"unix:/run/penstock/http.sock\"",
        ),
        Some(mode) => {
            if let Err(what) = socket_mode(mode) {
                found.error(path.join("mode"), what);
            }
        }
        None => {}
    }
    let Some(proxy) = &listen.proxy_protocol else { return };
    let place = path.join("proxy_protocol").join("from");
    if proxy.from.is_empty() {
        let help = "write the balancer's own address: from = [\"10.0.1.5/32\"]";
        found.error_help(place.clone(), "is empty: every connection would be refused", help);
    }
    networks(&place, &proxy.from, "anybody may name any client", found);
    for (at, from) in proxy.from.iter().enumerate() {
        if (from == "unix") != is_unix {
            let what = if is_unix { "this is a Unix socket" } else { "this is no Unix socket" };
            let help = "the peers of a Unix socket are \"unix\", those of TCP have addresses";
            found.warn(place.item(at), format!("has no effect: {what}"), help);
        }
    }
}

/// A path that has one spelling and cannot be mistaken for a pattern.
pub(super) fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && path.len() <= 256
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-/".contains(&b))
        && path.split('/').all(|segment| !matches!(segment, "." | ".."))
}

/// A list of those who are believed. `risk` is what it means if everybody is.
fn networks(place: &Path, named: &[String], risk: &str, found: &mut Findings) {
    for (at, text) in named.iter().enumerate() {
        let path = place.item(at);
        let net = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
            _ if text == "unix" => continue,
            (Ok(net), _) => net,
            (_, Ok(address)) => IpNet::from(address),
            _ => {
                let what = format!("{text:?} is no network");
                found.error_help(
                    path,
                    what,
                    "write 10.0.1.0/24, an address, or \"unix\" for the peers of Unix sockets",
                );
                continue;
            }
        };
        if net.prefix_len() == 0 {
            found.warn(path, risk, "name only the networks of your own proxies");
        }
    }
}

fn bounds(settings: &Settings, found: &mut Findings) {
    let (http, usual) = (&settings.http, Http::default());
    for (name, size, usual_size) in [
        ("target_bytes_max", http.target_bytes_max, usual.target_bytes_max),
        ("field_bytes_max", http.field_bytes_max, usual.field_bytes_max),
    ] {
        // The one that was written is the one to be shown.
        if size > http.head_bytes_max && size != usual_size {
            let what = format!("is {size}, but the whole head may have {}", http.head_bytes_max);
            let help = "make it smaller, or raise http.head_bytes_max";
            found.error_help(Path::of(&["http", name]), what, help);
        } else if size > http.head_bytes_max {
            let what = format!("is {}, but http.{name} allows {size}", http.head_bytes_max);
            let help = format!("raise it, or lower http.{name}");
            found.error_help(Path::of(&["http", "head_bytes_max"]), what, help);
        }
    }
    let http2 = &settings.http2;
    if http2.connection_window_bytes < http2.stream_window_bytes {
        let what = format!("is less than one request's window ({})", http2.stream_window_bytes);
        let help = "raise it, or lower http2.stream_window_bytes";
        found.error_help(Path::of(&["http2", "connection_window_bytes"]), what, help);
    }
    let cache = &settings.cache;
    if cache.entry_bytes_max > cache.size {
        let (size, entry) = (cache.size, cache.entry_bytes_max);
        let what = format!("is {size}, but cache.entry_bytes_max allows {entry} for one page");
        let help = "raise it, or lower cache.entry_bytes_max";
        found.error_help(Path::of(&["cache", "size"]), what, help);
    }
    let limits = &settings.limits;
    if limits.connections_per_address_max > limits.connections_max {
        found.warn(
            Path::of(&["limits", "connections_per_address_max"]),
            format!("one address may have more than all together ({})", limits.connections_max),
            "then it bounds nothing",
        );
    }
}

/// The steps of the memory guard come one after the other.
fn memory(settings: &Settings, found: &mut Findings) {
    let memory = &settings.memory;
    let steps = [
        ("shed_at_percent", memory.shed_at_percent),
        ("shrink_at_percent", memory.shrink_at_percent),
        ("refuse_at_percent", memory.refuse_at_percent),
    ];
    for pair in steps.windows(2) {
        let [(before, least), (name, percent)] = *pair else { continue };
        if percent < least {
            let what = format!("is {percent}, before {before} ({least})");
            let help = "shedding comes first, then shrinking, then refusing";
            found.error_help(Path::of(&["memory", name]), what, help);
        }
    }
    if let Some(limit) = memory.limit
        && settings.cache.size > limit
    {
        let what = format!("is {limit}, but the cache alone may take {}", settings.cache.size);
        let help = "lower cache.size, or the guard will keep shrinking it";
        found.warn(Path::of(&["memory", "limit"]), what, help);
    }
}

fn admin(settings: &Settings, found: &mut Findings) {
    let admin = &settings.admin;
    let path = |name| Path::of(&["admin", name]);
    if let Some(Err(what)) = admin.socket.as_deref().map(socket_path) {
        found.error(path("socket"), what);
    }
    match (&admin.address, &admin.token_file) {
        (Some(address), token) => {
            match address.parse::<ListenAddress>() {
                Ok(ListenAddress::Unix(_)) => {
                    found.error(
                        path("address"),
                        "is a TCP address; the Unix socket is admin.socket",
                    );
                }
                Err(what) => found.error(path("address"), what),
                Ok(own) => {
                    let taken = |listen: &String| listen.parse() == Ok(own.clone());
                    if settings.listen.values().any(|l| taken(&l.address)) {
                        found.error(path("address"), "clients are accepted at the same address");
                    } else if own.is_public() {
                        let help = "let it listen on 127.0.0.1, or behind a tunnel";
                        found.warn(
                            path("address"),
                            "the token crosses the network unencrypted",
                            help,
                        );
                    }
                }
            }
            if token.is_none() {
                let help = "write: token_file = \"admin.token\", a file with a long random word";
                found.error_help(path("address"), "needs admin.token_file", help);
            }
        }
        (None, Some(_)) => found.warn(
            path("token_file"),
            "has no effect without admin.address",
            "the Unix socket is protected by its file mode",
        ),
        (None, None) => {}
    }
}
