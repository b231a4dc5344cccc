//! `penstock init`: a first config for a shop that knows nothing of Penstock.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use super::config_file::show;
use super::{Exit, say};
use crate::config;
use crate::config::address::{ListenAddress, ServerAddress};

/// Writes a first config, commented and checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the shop is, like http://10.0.0.11:8080; https:// is TLS to it. May be given several times.
    #[arg(long, required = true, value_name = "URL")]
    upstream: Vec<String>,
    /// Path of an activity's page.
    #[arg(long, default_value = "/activity/{activity}", value_name = "PATTERN")]
    activity_page: String,
    /// Path of the availability flag; absent: that of the page and `/availability`.
    #[arg(long, value_name = "PATTERN")]
    availability: Option<String>,
    /// Path that orders are posted to; absent: that of the page and `/orders`.
    #[arg(long, value_name = "PATTERN")]
    purchase: Option<String>,
    /// Who buys, like jwt:header:authorization or cookie:uid.
    #[arg(long, default_value = "cookie:uid", value_name = "SOURCE")]
    user: String,
    /// Where clients come in.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: String,
    /// The file to write, `-` for standard output. A file that exists is left alone.
    #[arg(short, long, default_value = "penstock.toml", value_name = "FILE")]
    output: PathBuf,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let (servers, tls) = match servers(&args.upstream) {
        Ok(read) => read,
        Err(what) => {
            eprintln!("penstock init: {what}");
            return Exit::Usage;
        }
    };
    let text = text(&args, &servers, tls);
    if let Err(problems) = config::parse(&text, &args.output.display().to_string()) {
        eprintln!("penstock init: this would not be a valid config; nothing was written");
        show(&problems);
        return Exit::Usage;
    }
    if args.output.as_os_str() == "-" {
        return say(&text);
    }
    match write(&args.output, &text) {
        Ok(()) => {
            let file = args.output.display();
            say(&format!("wrote {file}\nnext: penstock check -c {file}\n"))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            eprintln!(
                "penstock init: {} exists and is left alone; name another file with -o",
                args.output.display()
            );
            Exit::Failure
        }
        Err(error) => {
            eprintln!("penstock init: cannot write {}: {error}", args.output.display());
            Exit::Failure
        }
    }
}

/// The servers, and whether they are spoken to by TLS: all of them or none.
fn servers(urls: &[String]) -> Result<(Vec<String>, bool), String> {
    let tls = urls.iter().any(|url| url.starts_with("https://"));
    let mut servers = Vec::new();
    for url in urls {
        if tls && !url.starts_with("https://") {
            return Err(format!("{url}: either every server is https:// or none is"));
        }
        servers.push(server(url)?.to_string());
    }
    Ok((servers, tls))
}

/// `http://host:8080`, `https://host`, `host:8080` or `unix:/path`; a URL may leave out its usual port.
fn server(url: &str) -> Result<ServerAddress, String> {
    let (rest, port) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (rest, 80),
        (_, Some(rest)) => (rest, 443),
        _ => return url.parse(),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(format!(
            "{url}: give only scheme, host and port; paths are passed on as they come"
        ));
    }
    authority
        .parse()
        .or_else(|error| format!("{authority}:{port}").parse().map_err(|_: String| error))
}

/// Writes a new file, whole or not at all as far as an overwrite is concerned.
fn write(path: &PathBuf, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn text(args: &Args, servers: &[String], tls: bool) -> String {
    let quoted = |text: &str| format!("{text:?}");
    let below = |name: &str| format!("{}/{name}", args.activity_page.trim_end_matches('/'));
    let availability = args.availability.clone().unwrap_or_else(|| below("availability"));
    let purchase = args.purchase.clone().unwrap_or_else(|| below("orders"));
    let servers: Vec<String> = servers.iter().map(|server| quoted(server)).collect();
    let mut text = TEMPLATE.to_owned();
    for (word, value) in [
        ("@LISTEN@", quoted(&args.listen)),
        ("@SERVERS@", servers.join(", ")),
        ("@TLS@", if tls { TLS.to_owned() } else { String::new() }),
        ("@PAGE@", quoted(&args.activity_page)),
        ("@AVAILABILITY@", quoted(&availability)),
        ("@PURCHASE@", quoted(&purchase)),
        ("@USER@", quoted(&args.user)),
        ("@VERIFY@", verification(&args.user)),
        ("@STORE@", store(&args.listen)),
    ] {
        text = text.replace(word, &value);
    }
    text
}

/// How the user is verified, where the source asks for it.
fn verification(user: &str) -> String {
    let line = match user.split(':').next() {
        Some("jwt") => {
            "jwt = { alg = \"HS256\", key_file = \"jwt.key\" }  # put the key into jwt.key"
        }
        Some("hmac") => "hmac = { key_file = \"sid.key\" }  # put the key into sid.key",
        _ => "# unverified: good for a trial only, see jwt:… and hmac:…",
    };
    line.to_owned()
}

/// The embedded store on an address that others reach is for one node, and that must be said.
fn store(listen: &str) -> String {
    match listen.parse::<ListenAddress>() {
        Ok(address) if address.is_public() => STORE_NODES.to_owned(),
        _ => String::new(),
    }
}

const TLS: &str = "\ntls = {}        # `ca_file`, where the shop's authority is its own";

const STORE_NODES: &str = "
[store]
nodes = 1       # the ledger is in this node; for several: kind = \"redis\", url = \"redis://…\"
";

const TEMPLATE: &str = r#"# Penstock in front of a shop. Check with `penstock check`, start with `penstock run`.
# Every other setting, with its default: `penstock config reference`.

[listen.http]
address = @LISTEN@

# Whose X-Forwarded-For is believed: the proxies in front. Without it everybody behind one of them has
# that one's address.
# [trust]
# proxies = ["127.0.0.0/8", "10.0.1.0/24"]

[upstream.shop]
servers = [@SERVERS@]@TLS@
# What an answer to a purchase means. "status": 200, 201 and 204 made an order, 4xx made none, all else
# is unknown. If the shop answers 200 and a code in the body, write rules instead, and try them on
# recorded answers with `penstock classify`:
#   outcome = { read = "json", at = "/code", confirmed = [0], sold_out = [1001] }
outcome = "status"
@STORE@
[site.shop]
# hosts = ["shop.example"]     # absent: any host
upstream = "shop"              # everything that is not answered here

[site.shop.activity]
# {activity} is the id in a path, {_} any one segment. Pages are cached, the availability (may one buy?)
# is answered here, a POST to the purchase path is the gate's.
page         = @PAGE@
availability = @AVAILABILITY@
purchase     = @PURCHASE@
city         = ["query:city", "cookie:city"]
user         = [@USER@]
@VERIFY@

# A sale: it is created once, and what is running is never changed by an old file.
# [sale.first]
# activity = "8848"
# opens_at = 2030-01-01T20:00:00+08:00
# stock    = 100
"#;
