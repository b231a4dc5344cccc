//! Limbo: what nobody knows, and what settles it.

use serde_json::{Value, json};

use super::Context;
use super::reply::{Reply, Result};
use super::route::Ask;
use super::sales::no_sale;
use crate::claims::limbo::{LimboError, LimboReport};
use crate::ident::SaleId;

/// `GET /v1/sales/SITE/SALE/limbo`.
pub(super) async fn list(id: &SaleId, context: &Context) -> Result {
    let limbo = context.claims.limbo(id).await?;
    Ok(Reply::ok(&json!({ "limbo": limbo })))
}

/// `POST …/limbo/resolve`.
pub(super) async fn resolve(id: &SaleId, ask: &Ask<'_>, context: &Context) -> Result {
    tracing::info!("sale {id}: limbo resolve, says {}", ask.who);
    told(&context.claims.limbo_resolve(id, &ask.json()?).await?)
}

/// `POST …/limbo/match`.
pub(super) async fn match_orders(id: &SaleId, ask: &Ask<'_>, context: &Context) -> Result {
    tracing::info!("sale {id}: limbo match, says {}", ask.who);
    told(&context.claims.limbo_match(id, &ask.json()?).await?)
}

/// `POST …/limbo/reclassify`.
pub(super) async fn reclassify(id: &SaleId, ask: &Ask<'_>, context: &Context) -> Result {
    tracing::info!("sale {id}: limbo reclassify, says {}", ask.who);
    told(&context.claims.limbo_reclassify(id, &ask.json()?).await?)
}

fn told(report: &LimboReport) -> Result {
    // A report is names and numbers: it always renders.
    Ok(Reply::ok(&serde_json::to_value(report).unwrap_or(Value::Null)))
}

impl From<LimboError> for Reply {
    fn from(error: LimboError) -> Reply {
        match error {
            LimboError::NoSale(sale) => no_sale(&sale),
            LimboError::Nothing => Reply::bad(error),
            LimboError::Store(error) => error.into(),
        }
    }
}
