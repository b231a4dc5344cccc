//! Making way for another binary: it is started beside this one with all sockets, and this one drains
//! when that one serves.

use std::os::fd::AsFd;
use std::process::Command;

use tokio::sync::oneshot;

use super::App;
use super::handover::Successor;
use super::snapshot;
use crate::admin::{Refused, Upgraded};
use crate::metrics::Counter;

/// An upgrade under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub successor: Successor,
    /// Who hears what came of it.
    pub told: Option<oneshot::Sender<Result<Upgraded, Refused>>>,
}

impl App {
    /// Starts the successor. Until it serves, everything goes on as before.
    pub(super) async fn begin_upgrade(
        &mut self,
        told: Option<oneshot::Sender<Result<Upgraded, Refused>>>,
    ) {
        if self.upgrade.is_some() {
            let what = "an upgrade is under way already".to_owned();
            return answer(told, Err(Refused::Failed(what)));
        }
        if std::process::id() == 1 {
            let what = "this is the first process of a container, which ends with it: start another \
                        container beside it instead";
            return answer(told, Err(Refused::Failed(what.to_owned())));
        }
        tracing::info!("upgrade: starting {}", self.binary.display());
        // Before the other one reads it.
        self.node.ledger.journal.share();
        snapshot::save(&self.node).await;
        match self.start_successor() {
            Ok(successor) => self.upgrade = Some(Upgrade { successor, told }),
            Err(cause) => {
                let what = format!("{} cannot be started: {cause}", self.binary.display());
                self.give_up_upgrade(told, what).await;
            }
        }
    }

    fn start_successor(&self) -> std::io::Result<Successor> {
        let mut command = Command::new(&self.binary);
        command.args(std::env::args_os().skip(1));
        let ledger = &self.node.ledger;
        let clients = self.workers.sockets();
        let clients = clients.map(|(address, socket)| (address.to_string(), socket.as_fd()));
        let operator = self.operator.sockets()?;
        let operator = operator.iter().map(|(address, socket)| (address.clone(), socket.as_fd()));
        let lock = ledger.journal.lock()?;
        Successor::start(command, ledger.node, lock.as_fd(), clients.chain(operator))
    }

    /// Waits until the successor serves; an error says why it will not. May be dropped and called
    /// again.
    pub(super) async fn upgraded(upgrade: &mut Option<Upgrade>) -> Result<(), String> {
        match upgrade {
            Some(upgrade) => upgrade.successor.ready().await,
            None => std::future::pending().await,
        }
    }

    /// What came of the upgrade; whether this process is to drain.
    pub(super) async fn end_upgrade(&mut self, ready: Result<(), String>) -> bool {
        let Some(Upgrade { successor, told }) = self.upgrade.take() else { return false };
        match ready {
            Ok(()) => {
                let pid = successor.pid();
                tracing::info!("upgrade: process {pid} serves, this one drains");
                self.workers.keep_files(false);
                self.operator.hand_over();
                self.node.context.closing.cancel();
                answer(told, Ok(Upgraded { pid }));
                // Its channel says to the other one when this process has ended.
                self.successor = Some(successor);
                true
            }
            Err(what) => {
                self.give_up_upgrade(told, what).await;
                false
            }
        }
    }

    async fn give_up_upgrade(
        &mut self,
        told: Option<oneshot::Sender<Result<Upgraded, Refused>>>,
        what: String,
    ) {
        snapshot::forget(&self.node).await;
        self.node.context.sink.inc(Counter::UpgradesFailed);
        tracing::error!("upgrade: {what}; this process goes on");
        answer(told, Err(Refused::Failed(format!("{what}; the old process goes on"))));
    }

    /// A process that is told to end takes its successor with it.
    pub(super) fn stop_successor(&mut self) {
        if let Some(Upgrade { mut successor, told }) = self.upgrade.take() {
            successor.end();
            answer(told, Err(Refused::Failed("the node is shutting down".to_owned())));
        }
    }
}

/// Who asked may have gone.
fn answer(
    told: Option<oneshot::Sender<Result<Upgraded, Refused>>>,
    result: Result<Upgraded, Refused>,
) {
    if let Some(told) = told {
        let _ = told.send(result);
    }
}
