//! `penstock audit`: every invariant of a sale, from the journal, the ledger and the shop's orders.

use std::path::PathBuf;

use super::Exit;
use super::config_file::ConfigFile;
use crate::audit::{AuditError, Inputs, audit};
use crate::config::Settings;
use crate::ident::{Name, SaleId};

/// Recomputes every invariant of a sale from the journal, the ledger and the shop's own orders. Exit 5
/// if one is broken.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sale: SALE, or SITE/SALE where there are several sites.
    sale: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Admin sockets, one of each node; absent: that of the config. The first one is asked for the
    /// ledger, all for what they count.
    #[arg(long, value_name = "PATH")]
    socket: Vec<PathBuf>,
    /// A journal's directory, one of each node; absent: that of the config's state_dir.
    #[arg(long, value_name = "DIR")]
    journal: Vec<PathBuf>,
    /// The shop's list of orders, a CSV file with the columns order and one of key, admission, user.
    #[arg(long, value_name = "FILE")]
    shop_orders: Option<PathBuf>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let settings = match args.config.settings() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let Some(sale) = sale_of(&args.sale, &settings) else {
        eprintln!(
            "penstock audit: `{}`: write SITE/SALE, or SALE where there is one site",
            args.sale
        );
        return Exit::Usage;
    };
    let journals = match args.journal.is_empty() {
        true => vec![settings.state_dir().join("journal")],
        false => args.journal,
    };
    let sockets = match args.socket.is_empty() {
        true => vec![settings.admin_socket()],
        false => args.socket,
    };
    let report = match audit(&Inputs { sale, sockets, journals, orders: args.shop_orders }) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("penstock audit: {error}");
            return match error {
                AuditError::Unreachable(_) => Exit::Unreachable,
                _ => Exit::Failure,
            };
        }
    };
    let text = match args.json {
        // A report is names and numbers: it always renders.
        true => serde_json::to_string(&report).unwrap_or_default() + "\n",
        false => report.to_string(),
    };
    match super::say(&text) {
        Exit::Ok if !report.holds => Exit::Assertion,
        exit => exit,
    }
}

/// `SITE/SALE`, the config's `[sale.SALE]`, or a sale of the only site.
fn sale_of(text: &str, settings: &Settings) -> Option<SaleId> {
    if text.contains('/') {
        return text.parse().ok();
    }
    let sale = Name::new(text).ok()?;
    settings.sale_id(&sale).or_else(|| {
        let mut sites = settings.site.keys();
        let site = sites.next().filter(|_| sites.next().is_none())?.clone();
        Some(SaleId { site, sale })
    })
}
