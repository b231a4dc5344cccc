//! What the ledger says, asked through the admin interface of a node.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::AuditError;
use crate::admin_client::AdminClient;
use crate::clock::UnixMs;
use crate::ident::{Name, SaleId, Salt, UserKey};
use crate::ledger::Record;

/// The sale and its records.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) sale: Sale,
    /// The ledger's time when the sale was read.
    pub(super) time: UnixMs,
    pub(super) records: Vec<Record>,
    /// Epoch and version that were said after this.
    pub(super) later: (u32, u64),
}

/// `GET /v1/sales/SITE/SALE`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Sale {
    pub(super) epoch: u32,
    pub(super) version: u64,
    pub(super) opens_at_ms: UnixMs,
    pub(super) ends_at_ms: Option<UnixMs>,
    /// How often claims were frozen because the ledger may have forgotten something.
    #[serde(default)]
    pub(super) fences: u64,
    pub(super) overshoot_permille: u64,
    pub(super) per_user: PerUser,
    pub(super) pools: Vec<Pool>,
    /// Key of the users' hashes: ties the shop's orders to claims by their user and key.
    pub(super) salt: Salt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct PerUser {
    pub(super) orders: u64,
    pub(super) units: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Pool {
    pub(super) name: Name,
    pub(super) stock: u64,
    pub(super) confirmed: u64,
    pub(super) held: u64,
    pub(super) limbo: u64,
    #[serde(default)]
    pub(super) sold_out: bool,
    /// By the operator's word.
    #[serde(default)]
    pub(super) held_back: bool,
    /// What is known of the shop's own number, where that leads.
    #[serde(default)]
    pub(super) shop: Option<serde_json::Value>,
}

/// A sale, and when.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(flatten)]
    sale: Sale,
    #[serde(default)]
    ledger_ms: UnixMs,
}

#[derive(Debug, Deserialize)]
struct Page {
    records: Vec<Record>,
    next: Option<UserKey>,
}

impl Ledger {
    /// Reads both.
    pub(super) fn read(client: &AdminClient, sale: &SaleId) -> Result<Ledger, AuditError> {
        let told: Told = get(client, sale, &format!("/v1/sales/{sale}"))?;
        let (mut records, mut after) = (Vec::new(), None);
        loop {
            let from = after.map(|user| format!("after={user}&")).unwrap_or_default();
            let path = format!("/v1/sales/{sale}/records?{from}max={PAGE}");
            let page: Page = get(client, sale, &path)?;
            records.extend(page.records);
            // A node that repeats itself must not keep us here.
            if page.next.is_none() || page.next <= after {
                let later = (told.sale.epoch, told.sale.version);
                return Ok(Ledger { sale: told.sale, time: told.ledger_ms, records, later });
            }
            after = page.next;
        }
    }

    /// Reads the sale alone.
    pub(super) fn sale(client: &AdminClient, sale: &SaleId) -> Result<Sale, AuditError> {
        get(client, sale, &format!("/v1/sales/{sale}"))
    }
}

impl Sale {
    /// Units that may be admitted in all: more than the stock where the overshoot is above 1.
    pub(super) fn budget(&self) -> u64 {
        self.pools.iter().map(|pool| self.pool_budget(pool)).sum()
    }

    pub(super) fn pool_budget(&self, pool: &Pool) -> u64 {
        let budget = u128::from(pool.stock) * u128::from(self.overshoot_permille) / 1_000;
        let budget = u64::try_from(budget).unwrap_or(u64::MAX);
        // The shop's own number is of one moment, and counts orders in flight already: what was for
        // sale in all only the shop knows.
        match pool.shop {
            Some(_) => budget.max(pool.confirmed + pool.held + pool.limbo),
            None => budget,
        }
    }
}

fn get<T: DeserializeOwned>(
    client: &AdminClient,
    sale: &SaleId,
    path: &str,
) -> Result<T, AuditError> {
    let (status, body) = client.request("GET", path, None)?;
    let wrong = |said: String| AuditError::Answer { path: path.to_owned(), said };
    match status {
        200 => serde_json::from_slice(&body).map_err(|cause| wrong(cause.to_string())),
        404 => Err(AuditError::NoSale(sale.clone())),
        _ => {
            let said: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            Err(wrong(format!("status {status}: {said}")))
        }
    }
}

/// Records asked for at once.
const PAGE: usize = 1_000;
