//! Listing the records of a sale in pages, in the order of the users' keys.
//!
//! A hash has no order and its cursor survives nothing, so the first page reads all users' keys once,
//! 16 bytes each, and the pages after it follow that list; the records are always read anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::READ_TIMEOUT;
use super::decode;
use super::fault::{Fault, odd};
use super::keys::{self, Part};
use super::routes::Routes;
use super::slot::Slot;
use crate::ident::{SaleId, UserKey};
use crate::ledger::Record;

/// The list of the sale that was listed last.
#[derive(Debug, Default)]
pub(super) struct Pages {
    last: Mutex<Option<Listing>>,
}

#[derive(Clone, Debug)]
struct Listing {
    sale: SaleId,
    users: Arc<[UserKey]>,
    made: Instant,
}

impl Pages {
    /// Whole users behind `after`, until `max` records; at least one user, if there is one.
    pub(super) async fn page(
        &self,
        routes: &Routes,
        sale: &SaleId,
        after: Option<UserKey>,
        max: usize,
    ) -> Result<Vec<Record>, Fault> {
        let users = self.users(routes, sale, after.is_none()).await?;
        let from = after.map_or(0, |after| users.partition_point(|user| *user <= after));
        let mut page: Vec<Record> = Vec::new();
        for chunk in users[from..].chunks(CHUNK.min(max.max(1))) {
            let mut get = redis::cmd("HMGET");
            get.arg(keys::of(sale, Part::Users));
            chunk.iter().for_each(|user| {
                get.arg(user.to_string());
            });
            let Value::Array(texts) = routes.send(Slot::of_sale(sale), &get, soon()).await? else {
                return Err(odd("records"));
            };
            for (user, text) in chunk.iter().zip(texts) {
                let records = read(*user, text)?;
                if !page.is_empty() && page.len() + records.len() > max {
                    return Ok(page);
                }
                page.extend(records);
            }
        }
        Ok(page)
    }

    async fn users(
        &self,
        routes: &Routes,
        sale: &SaleId,
        is_first: bool,
    ) -> Result<Arc<[UserKey]>, Fault> {
        if !is_first && let Some(listing) = self.known(sale) {
            return Ok(listing.users);
        }
        let users = scan(routes, sale).await?;
        let listing = Listing { sale: sale.clone(), users: users.clone(), made: Instant::now() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(listing);
        Ok(users)
    }

    fn known(&self, sale: &SaleId) -> Option<Listing> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|l| l.sale == *sale && l.made.elapsed() < KEPT).cloned()
    }
}

/// The records of one user.
pub(super) async fn of_user(
    routes: &Routes,
    sale: &SaleId,
    user: UserKey,
) -> Result<Vec<Record>, Fault> {
    let mut get = redis::cmd("HGET");
    get.arg(keys::of(sale, Part::Users)).arg(user.to_string());
    read(user, routes.send(Slot::of_sale(sale), &get, soon()).await?)
}

/// Every user's key, sorted.
async fn scan(routes: &Routes, sale: &SaleId) -> Result<Arc<[UserKey]>, Fault> {
    let mut users = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(keys::of(sale, Part::Users)).arg(&cursor).arg("COUNT").arg(CHUNK);
        let Value::Array(parts) = routes.send(Slot::of_sale(sale), &scan, soon()).await? else {
            return Err(odd("HSCAN"));
        };
        let [next, Value::Array(flat)] = <[Value; 2]>::try_from(parts).map_err(|_| odd("HSCAN"))?
        else {
            return Err(odd("HSCAN"));
        };
        for field in flat.into_iter().step_by(2) {
            users.push(decode::text(field)?.parse().map_err(|_| odd("a user"))?);
        }
        cursor = decode::text(next)?;
        if cursor == "0" {
            break;
        }
    }
    // The same field may come twice while the hash grows.
    users.sort_unstable();
    users.dedup();
    Ok(users.into())
}

fn read(user: UserKey, text: Value) -> Result<Vec<Record>, Fault> {
    match text {
        Value::Nil => Ok(Vec::new()),
        text => decode::records(user, &decode::text(text)?),
    }
}

fn soon() -> Instant {
    Instant::now() + READ_TIMEOUT
}

/// Users in one command.
const CHUNK: usize = 1_000;

/// A list that nobody continued for so long is made anew.
const KEPT: Duration = Duration::from_secs(60);
