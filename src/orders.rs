//! The shop's own list of orders, as a CSV file or rows of JSON: limbo is matched with it, the audit
//! compares it with the ledger.
//!
//! A file has a header. The columns `order` and one of `key`, `admission`, `user` are needed:
//!
//! ```text
//! order      the shop's order number
//! key        the Idempotency-Key that came with the purchase
//! admission  the Penstock-Admission that came with it
//! user       who bought, as the gate identifies them
//! pool, units, status   absent: not compared, 1, an order that stands; `cancelled` was one
//! received_ms  when the purchase reached the shop, in Unix milliseconds; absent: not compared
//! ```

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::ident::{AttemptId, ClaimId, Salt, UserKey};

/// One order of the shop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrderRow {
    /// The shop's order number.
    pub order: String,
    /// The `Idempotency-Key` that came with the purchase: the client's own, else the claim's id.
    pub key: Option<String>,
    /// The `Penstock-Admission` that came with it.
    pub admission: Option<String>,
    /// Who bought.
    pub user: Option<String>,
    /// The pool.
    pub pool: Option<String>,
    /// Units; absent: 1.
    pub units: Option<u64>,
    /// `cancelled`: the order stood once. Anything else: it stands.
    pub status: Option<String>,
    /// When the purchase reached the shop, in Unix milliseconds.
    pub received_ms: Option<u64>,
}

/// Why a list of orders cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadOrders {
    /// The file cannot be read, or is no CSV.
    #[error("{file}: {cause}")]
    File {
        /// The file.
        file: String,
        /// Why.
        cause: csv::Error,
    },
    /// A column is missing.
    #[error(
        "{file}: its first line must name the column `order` and one of `key`, `admission`, `user`; \
         it names: {found}"
    )]
    Columns {
        /// The file.
        file: String,
        /// What it names.
        found: String,
    },
    /// A field is wrong.
    #[error("{file}, line {line}: {what}")]
    Field {
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// What is wrong.
        what: String,
    },
}

/// Reads a CSV file. Columns that are not ours are skipped; empty fields count as absent.
pub fn read(path: &Path) -> Result<Vec<OrderRow>, BadOrders> {
    let file = path.display().to_string();
    let bad = |cause| BadOrders::File { file: file.clone(), cause };
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(bad)?;
    let names: Vec<String> =
        csv.headers().map_err(bad)?.iter().map(|name| name.to_ascii_lowercase()).collect();
    let has = |name: &str| names.iter().any(|n| n == name);
    if !has("order") || !["key", "admission", "user"].into_iter().any(has) {
        return Err(BadOrders::Columns { file, found: names.join(", ") });
    }
    let mut rows = Vec::new();
    for record in csv.into_records() {
        let record = record.map_err(bad)?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |what: String| BadOrders::Field { file: file.clone(), line, what };
        let field = |name: &str| {
            let at = names.iter().position(|n| n == name)?;
            record.get(at).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let number = |name: &str, of: &str| {
            let bad = |text: &str| wrong(format!("`{text}` is not a number of {of}"));
            field(name).map(|text| text.parse::<u64>().map_err(|_| bad(&text))).transpose()
        };
        rows.push(OrderRow {
            order: field("order").ok_or_else(|| wrong("an order without a number".to_owned()))?,
            key: field("key"),
            admission: field("admission"),
            user: field("user"),
            pool: field("pool"),
            units: number("units", "units")?,
            status: field("status"),
            received_ms: number("received_ms", "milliseconds")?,
        });
    }
    Ok(rows)
}

/// What ties an order to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ties {
    /// Claims that the row names: in its admission pass, or as its key.
    pub claims: Vec<ClaimId>,
    /// The attempt of its user and key.
    pub attempt: Option<AttemptId>,
    /// Its user.
    pub user: Option<UserKey>,
}

impl OrderRow {
    /// What ties it to a claim of the sale that owns `salt`.
    pub fn ties(&self, salt: &Salt) -> Ties {
        let of_pass = self.admission.as_deref().and_then(claim_of_pass);
        let of_key = self.key.as_deref().and_then(|key| key.parse().ok());
        let user = self.user.as_ref().map(|user| UserKey::of_identity(salt, user.as_bytes()));
        let attempt = user.zip(self.key.as_ref());
        let attempt = attempt.map(|(user, key)| AttemptId::of_key(salt, &user, key.as_bytes()));
        Ties { claims: of_pass.into_iter().chain(of_key).collect(), attempt, user }
    }

    /// Whether nothing but its user ties it to a claim.
    pub fn has_only_user(&self) -> bool {
        self.key.is_none() && self.admission.is_none()
    }

    /// Its units.
    pub fn units(&self) -> u64 {
        self.units.unwrap_or(1)
    }
}

/// The claim in a pass `v1 BASE64URL(JSON).SIGNATURE`. The signature is not verified: whoever brings
/// the shop's list could bring the claim's id as well.
fn claim_of_pass(pass: &str) -> Option<ClaimId> {
    #[derive(Deserialize)]
    struct Pass {
        claim: ClaimId,
    }
    let (payload, _) = pass.strip_prefix("v1 ")?.split_once('.')?;
    let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice::<Pass>(&json).ok().map(|pass| pass.claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<OrderRow>, BadOrders> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orders.csv");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn columns_come_in_any_order_and_others_are_skipped() {
        let read = rows("created,Key, order,status\n1,\"a,b\",S1,\n2,,S2,cancelled\n").unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].order.as_str(), read[0].key.as_deref()), ("S1", Some("a,b")));
        assert_eq!((read[0].units(), read[1].status.as_deref()), (1, Some("cancelled")));
        assert!(read[1].has_only_user());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let said = |text: &str| rows(text).unwrap_err().to_string();
        assert!(said("id,user\n1,u\n").contains("it names: id, user"));
        assert!(said("order,user,units\nS1,u,two\n").contains("line 2: `two`"));
        assert!(said("order,user,received_ms\nS1,u,1s\n").contains("`1s` is not a number of mi"));
        assert!(said("order,user\n,u\n").contains("line 2: an order without a number"));
    }

    #[test]
    fn an_order_is_tied_by_pass_key_or_attempt() {
        let salt = Salt([3; 16]);
        let claim = ClaimId([9; 12]);
        let json = format!("{{\"sale\":\"shop/drop\",\"claim\":\"{claim}\"}}");
        let pass = format!("v1 {}.sig", URL_SAFE_NO_PAD.encode(json));
        let row = OrderRow { admission: Some(pass), ..OrderRow::default() };
        assert_eq!(row.ties(&salt).claims, [claim]);
        let row = OrderRow { key: Some(claim.to_string()), ..OrderRow::default() };
        assert_eq!(row.ties(&salt).claims, [claim]);
        let (user, key) = (Some("u1".to_owned()), Some("k1".to_owned()));
        let user_key = UserKey::of_identity(&salt, b"u1");
        let ties = OrderRow { user, key, ..OrderRow::default() }.ties(&salt);
        assert_eq!(ties.attempt, Some(AttemptId::of_key(&salt, &user_key, b"k1")));
        assert_eq!(ties.claims, []);
    }
}
