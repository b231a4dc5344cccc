//! Declarations: the config's `[sale]`s are applied until the ledger has them, and one activity has one
//! sale that is not ended.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::shared::{CALL_DEADLINE, Concern, Shared};
use super::{Claims, learn};
use crate::config::Settings;
use crate::ident::{SaleId, Salt};
use crate::ledger::{Declare, Declared, Op, OpResult, Reply};
use crate::metrics::Counter;
use crate::sale::Declaration;
use crate::store::StoreError;

/// The config's sales as declarations. An error names the sale and says what to do.
pub fn of_config(settings: &Settings) -> Result<Vec<(SaleId, Declaration)>, String> {
    let declared = settings.sale.iter().map(|(name, sale)| {
        let Some(id) = settings.sale_id(name) else {
            return Err(format!("sale.{name}: say which site it belongs to, with `site`"));
        };
        let declaration = Declaration::of_config(name, sale);
        declaration.check().map_err(|bad| format!("sale.{name}.{bad}"))?;
        Ok((id, declaration))
    });
    declared.collect()
}

impl Claims {
    /// Declares a sale. Refused where the activity has another sale that is not ended; the ledger
    /// decides about the rest. Two nodes that declare two new sales of one activity in the same
    /// instant may both succeed: the check and the declaration are two steps.
    pub async fn declare(
        &self,
        sale: &SaleId,
        declaration: Declaration,
    ) -> Result<Declared, StoreError> {
        declare(&self.shared, sale, declaration).await
    }

    /// Applies the declarations of another config: those that differ from what was declared before, and
    /// those that were not applied. Sales that are in it no more stay as they are.
    pub fn redeclare(&self, declarations: Vec<(SaleId, Declaration)>) {
        let shared = &self.shared;
        let mut of_config = shared.of_config.lock().unwrap_or_else(PoisonError::into_inner);
        of_config.stop.cancel();
        let gone = of_config.declarations.iter().map(|(sale, _)| sale);
        for sale in gone.filter(|sale| !declarations.iter().any(|(id, _)| id == *sale)) {
            shared.set_trouble(Concern::Declaration, sale, None);
        }
        let is_done = |one: &(SaleId, Declaration)| {
            of_config.declarations.contains(one)
                && !shared.has_trouble(Concern::Declaration, &one.0)
        };
        let left = declarations.iter().filter(|one| !is_done(one)).cloned().collect();
        *of_config = OfConfig { declarations, stop: CancellationToken::new() };
        let stop = of_config.stop.clone();
        drop(of_config);
        begin(shared, left, stop);
    }

    /// Waits until each of the config's declarations was tried once.
    pub async fn declared(&self) {
        // The sender lives as long as the claims do.
        let _ = self.shared.declared.subscribe().wait_for(|tried| *tried).await;
    }

    /// What became of the config's declarations that are not applied, in words.
    pub fn declaration_troubles(&self) -> Vec<String> {
        self.shared.troubles(|concern| concern == Concern::Declaration)
    }
}

/// What the config declares.
#[derive(Debug, Default)]
pub(super) struct OfConfig {
    declarations: Vec<(SaleId, Declaration)>,
    /// Ends the task that applies them.
    stop: CancellationToken,
}

/// Applies the first config's declarations.
pub(super) fn start(shared: &Arc<Shared>, declarations: Vec<(SaleId, Declaration)>) {
    let mut of_config = shared.of_config.lock().unwrap_or_else(PoisonError::into_inner);
    let stop = of_config.stop.clone();
    of_config.declarations.clone_from(&declarations);
    drop(of_config);
    begin(shared, declarations, stop);
}

fn begin(shared: &Arc<Shared>, left: Vec<(SaleId, Declaration)>, stop: CancellationToken) {
    shared.declared.send_replace(false);
    let apply = run(shared.clone(), left);
    shared.task("declarations", async move {
        // Another config took its place otherwise, and declares for itself.
        let _ = stop.run_until_cancelled(apply).await;
    });
}

/// Applies the config's declarations; those that the store did not answer again and again.
async fn run(shared: Arc<Shared>, mut left: Vec<(SaleId, Declaration)>) {
    let mut wait = RETRY_FIRST;
    loop {
        let mut again = Vec::new();
        for (sale, declaration) in left {
            match declare(&shared, &sale, declaration.clone()).await {
                Ok(declared) => {
                    let refused = match declared {
                        Declared::Refused(why) => {
                            Some(format!("the config's [sale.{}] is not applied: {why}", sale.sale))
                        }
                        _ => None,
                    };
                    shared.set_trouble(Concern::Declaration, &sale, refused);
                }
                Err(error) => {
                    let text = format!("the config's [sale.{}] waits: {error}", sale.sale);
                    shared.set_trouble(Concern::Declaration, &sale, Some(text));
                    again.push((sale, declaration));
                }
            }
        }
        shared.declared.send_replace(true);
        if again.is_empty() {
            return;
        }
        left = again;
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_LAST);
    }
}

async fn declare(
    shared: &Shared,
    sale: &SaleId,
    declaration: Declaration,
) -> Result<Declared, StoreError> {
    if let Err(bad) = declaration.check() {
        return Ok(refused(shared, bad.to_string()));
    }
    if let Some(other) = running(shared, sale, &declaration).await? {
        return Ok(refused(
            shared,
            format!(
                "activity {} has the sale {other}, which is not ended: an activity has one sale at \
                 a time; end it with `penstock sale end {other}`, or change it instead",
                declaration.activity
            ),
        ));
    }
    learn::before_declaring(shared, sale).await?;
    let op = Op::Declare(Box::new(Declare { declaration, salt: Salt::random() }));
    let reply = shared.call(sale, op, CALL_DEADLINE).await?;
    let OpResult::Declared(declared) = reply.result else {
        return Err(StoreError::Refused("its answer to a declaration makes no sense".to_owned()));
    };
    match &declared {
        Declared::Applied => {
            shared.sink.inc(Counter::DeclarationsApplied);
            tracing::info!("sale {sale}: the declaration is applied");
        }
        Declared::Unchanged => tracing::info!("sale {sale}: the declaration was applied before"),
        Declared::CreatedPaused => {
            shared.sink.inc(Counter::DeclarationsApplied);
            tracing::error!(
                "sale {sale} is new to the ledger and its opens_at is past, so it is PAUSED and sells \
                 nothing: a ledger that was lost must not sell again; `penstock sale resume {sale}` \
                 opens it"
            );
        }
        Declared::Refused(_) => shared.sink.inc(Counter::DeclarationsRefused),
    }
    Ok(declared)
}

fn refused(shared: &Shared, why: String) -> Declared {
    shared.sink.inc(Counter::DeclarationsRefused);
    Declared::Refused(why)
}

/// Another sale of the same activity that is not ended.
async fn running(
    shared: &Shared,
    sale: &SaleId,
    declaration: &Declaration,
) -> Result<Option<SaleId>, StoreError> {
    for other in shared.sales().await? {
        if other.site != sale.site || other == *sale {
            continue;
        }
        let Reply { state, now, .. } = shared.call(&other, Op::Read, CALL_DEADLINE).await?;
        let same = |state: &crate::sale::SaleState| state.activity == declaration.activity;
        if state.is_some_and(|state| same(&state) && !state.is_ended_at(now)) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(2);
