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
    pub(super) records: Vec<Record>,
}

/// `GET /v1/sales/SITE/SALE`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Sale {
    pub(super) epoch: u32,
    pub(super) version: u64,
    pub(super) opens_at_ms: UnixMs,
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
}

#[derive(Debug, Deserialize)]
struct Page {
    records: Vec<Record>,
    next: Option<UserKey>,
}

impl Ledger {
    /// Reads both.
    pub(super) fn read(client: &AdminClient, sale: &SaleId) -> Result<Ledger, AuditError> {
        let told = Ledger::sale(client, sale)?;
        let (mut records, mut after) = (Vec::new(), None);
        loop {
            let from = after.map(|user| format!("after={user}&")).unwrap_or_default();
            let path = format!("/v1/sales/{sale}/records?{from}max={PAGE}");
            let page: Page = get(client, sale, &path)?;
            records.extend(page.records);
            // A node that repeats itself must not keep us here.
            if page.next.is_none() || page.next <= after {
                return Ok(Ledger { sale: told, records });
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
        u64::try_from(budget).unwrap_or(u64::MAX)
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
