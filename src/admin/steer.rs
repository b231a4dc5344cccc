//! What an operator says to the process: take another config, make way for another binary.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::Context;
use super::reply::{Reply, Result};
use super::route::Ask;

/// What the process is told to do, and who hears what came of it.
#[derive(Debug)]
pub enum Order {
    /// Read the config again.
    Reload(oneshot::Sender<std::result::Result<Reloaded, Refused>>),
    /// Start the binary that is installed now and leave the work to it.
    Upgrade(oneshot::Sender<std::result::Result<Upgraded, Refused>>),
}

/// The config that runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConfigState {
    /// 1 for the config that the process started with; one more with each reload.
    pub generation: u64,
    /// A hash of what it says of the fleet: nodes with other ones differ in sites, sales, limits or
    /// upstreams.
    pub hash: String,
    /// Where it was read.
    pub file: String,
    /// What its file says differently and waits for an upgrade or a restart.
    pub waiting: Vec<String>,
}

/// A config that was taken.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    /// What runs now.
    #[serde(flatten)]
    pub config: ConfigState,
    /// What changed, a line for each setting.
    pub changed: Vec<String>,
    /// What is probably a mistake.
    pub warnings: Vec<String>,
    /// Sales that are not as the config declares them, and why.
    pub declarations: Vec<String>,
}

/// A process that took over.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Upgraded {
    /// Its number.
    pub pid: u32,
}

/// Why nothing was changed.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The config is not one that can be used: every mistake, with its place.
    Config(Vec<String>),
    /// Something else: what, and what to do.
    Failed(String),
}

/// `GET /v1/config`.
pub(super) fn config(context: &Context) -> Reply {
    Reply::ok(&json!(context.view().config))
}

/// `POST /v1/reload`, with `wait=true` when it is done.
pub(super) async fn reload(ask: &Ask<'_>, context: &Arc<Context>) -> Result {
    let (told, hears) = oneshot::channel();
    say(context, Order::Reload(told))?;
    finish(ask, hears, |reloaded| json!(reloaded)).await
}

/// `POST /v1/upgrade`, with `wait=true` when the new process serves.
pub(super) async fn upgrade(ask: &Ask<'_>, context: &Arc<Context>) -> Result {
    let (told, hears) = oneshot::channel();
    say(context, Order::Upgrade(told))?;
    finish(ask, hears, |upgraded| json!(upgraded)).await
}

fn say(context: &Context, order: Order) -> Result<()> {
    if context.is_draining() {
        return Err(Reply::conflict("the node is shutting down"));
    }
    context.orders.try_send(order).map_err(|refused| match refused {
        mpsc::error::TrySendError::Full(_) => {
            Reply::conflict("reloads and upgrades are waiting already: try again in a moment")
        }
        mpsc::error::TrySendError::Closed(_) => Reply::conflict("the node is shutting down"),
    })
}

async fn finish<T>(
    ask: &Ask<'_>,
    hears: oneshot::Receiver<std::result::Result<T, Refused>>,
    shown: impl Fn(T) -> serde_json::Value,
) -> Result {
    if ask.parsed::<bool>("wait")? != Some(true) {
        return Ok(Reply::json(StatusCode::ACCEPTED, &json!({ "accepted": true })));
    }
    match tokio::time::timeout(WAIT_LONGEST, hears).await {
        Ok(Ok(Ok(done))) => Ok(Reply::ok(&shown(done))),
        Ok(Ok(Err(Refused::Config(problems)))) => {
            let body = json!({ "error": "the config is not taken", "problems": problems });
            Err(Reply::json(StatusCode::UNPROCESSABLE_ENTITY, &body))
        }
        Ok(Ok(Err(Refused::Failed(what)))) => {
            Err(Reply::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": what })))
        }
        Ok(Err(_)) => Err(Reply::conflict("the node is shutting down")),
        Err(_) => {
            Err(Reply::unavailable("it takes longer than expected; the node's log has the end"))
        }
    }
}

/// Longer than a new process may take to come up.
const WAIT_LONGEST: Duration = Duration::from_secs(120);
