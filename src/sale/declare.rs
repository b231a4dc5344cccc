//! Declarations: what an operator, the config or the shop says a sale should be.
//!
//! All of them take one JSON form. The ledger decides what to make of one (DESIGN section 4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::schema::{PerUser, Pool, Restock, Sale};
use crate::config::units::{Span, Time};
use crate::ident::Name;

/// Name of the only pool of a sale that has one stock number.
pub const DEFAULT_POOL: &str = "default";

/// A sale as it is declared, in the JSON form of `want`, of the admin API and of `sale put`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// The activity that is sold.
    pub activity: Name,
    /// T0.
    pub opens_at: Time,
    /// The end; `null`: by the operator.
    #[serde(default)]
    pub ends_at: Option<Time>,
    /// What one user may buy.
    #[serde(default)]
    pub per_user: PerUser,
    /// Admissions in flight per unsold unit, 1.0 to 2.0.
    #[serde(default = "one")]
    pub overshoot: f64,
    /// Stock by pool; a single pool may be called anything, `default` from a config with `stock`.
    pub pools: BTreeMap<Name, Pool>,
    /// What becomes of units that come back.
    #[serde(default)]
    pub restock: Restock,
    /// With the policy `auto`: so many units that came back are sold together.
    #[serde(default = "Sale::restock_batch_default", skip_serializing_if = "is_default_batch")]
    pub restock_batch: u64,
    /// With the policy `auto`: so long a batch waits for more.
    #[serde(
        default = "Sale::restock_debounce_default",
        skip_serializing_if = "is_default_debounce"
    )]
    pub restock_debounce: Span,
    /// Must rise with each JSON declaration; absent in what a config renders to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Why a declaration makes no sense by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDeclaration {
    /// Not JSON, or not of this form; the text says where.
    #[error("{0}")]
    Form(String),
    /// No pool.
    #[error("pools: a sale needs at least one pool")]
    NoPool,
    /// More pools than an availability answer can show.
    #[error("pools: at most {POOLS_MAX} pools, here are {0}")]
    TooManyPools(usize),
    /// A pool without units, or whose number nobody could find.
    #[error("pools.{0}.stock: {1}")]
    Stock(Name, &'static str),
    /// The end is not after the start.
    #[error("ends_at: must be after opens_at")]
    Ends,
    /// Outside its range.
    #[error("overshoot: must be 1.0 to 2.0")]
    Overshoot,
    /// Outside its range.
    #[error("restock_batch: must be 1 to 1000000000, and restock_debounce at most 1d")]
    Restock,
    /// Outside their ranges.
    #[error("per_user: orders must be 1 to 8, units 1 to 1000 and at least as many as orders")]
    PerUser,
}

/// Most pools of one sale.
pub const POOLS_MAX: usize = 200;

fn one() -> f64 {
    1.0
}

// Declarations that were hashed before there was such a policy keep their hash.
fn is_default_batch(batch: &u64) -> bool {
    *batch == Sale::restock_batch_default()
}

fn is_default_debounce(debounce: &Span) -> bool {
    *debounce == Sale::restock_debounce_default()
}

impl Declaration {
    /// Reads the JSON form and checks it.
    pub fn parse(json: &[u8]) -> Result<Declaration, BadDeclaration> {
        let declaration: Declaration =
            serde_json::from_slice(json).map_err(|e| BadDeclaration::Form(e.to_string()))?;
        declaration.check()?;
        Ok(declaration)
    }

    /// Renders a `[sale.NAME]` of the config, checked already, to the JSON form without a revision.
    pub fn of_config(name: &Name, sale: &Sale) -> Declaration {
        let default = || Name::new(DEFAULT_POOL).unwrap_or_else(|_| name.clone());
        let pools = match &sale.stock {
            Some(stock) => BTreeMap::from([(default(), Pool { stock: stock.clone() })]),
            None => sale.pool.clone(),
        };
        Declaration {
            activity: sale.activity.clone().unwrap_or_else(|| name.clone()),
            opens_at: sale.opens_at,
            ends_at: sale.ends_at,
            per_user: sale.per_user,
            overshoot: sale.overshoot,
            pools,
            restock: sale.restock,
            restock_batch: sale.restock_batch,
            restock_debounce: sale.restock_debounce,
            revision: None,
        }
    }

    /// Checks what can be checked without the ledger.
    pub fn check(&self) -> Result<(), BadDeclaration> {
        if self.pools.is_empty() {
            return Err(BadDeclaration::NoPool);
        }
        if self.pools.len() > POOLS_MAX {
            return Err(BadDeclaration::TooManyPools(self.pools.len()));
        }
        for (name, pool) in &self.pools {
            pool.stock.check().map_err(|why| BadDeclaration::Stock(name.clone(), why))?;
        }
        if self.ends_at.is_some_and(|end| end <= self.opens_at) {
            return Err(BadDeclaration::Ends);
        }
        if !(1.0..=2.0).contains(&self.overshoot) {
            return Err(BadDeclaration::Overshoot);
        }
        let is_batch = (1..=1_000_000_000).contains(&self.restock_batch);
        if !is_batch || self.restock_debounce > Span::from_secs(86_400) {
            return Err(BadDeclaration::Restock);
        }
        let PerUser { orders, units } = self.per_user;
        if !(1..=8).contains(&orders) || !(1..=1000).contains(&units) || units < orders {
            return Err(BadDeclaration::PerUser);
        }
        Ok(())
    }

    /// Overshoot in thousandths, as the ledger computes with it.
    pub fn overshoot_permille(&self) -> u32 {
        (self.overshoot * 1000.0).round() as u32
    }

    /// Hash over everything but the revision: a config's declaration is applied once.
    pub fn hash(&self) -> u64 {
        let bare = Declaration { revision: None, ..self.clone() };
        let json = serde_json::to_vec(&bare).unwrap_or_default();
        let mut out = [0; 8];
        out.copy_from_slice(&blake3::hash(&json).as_bytes()[..8]);
        u64::from_le_bytes(out)
    }
}
