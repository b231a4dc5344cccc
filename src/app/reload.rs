//! Another config while the node runs: all of it or nothing.
//!
//! ```text
//! read → what changes, what waits → parts → sockets        any error: everything stays as it was
//!      → limits, workers, listeners → sales                nothing can fail any more
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::App;
use super::context::{purger, view};
use crate::admin::{ConfigState, Refused, Reloaded};
use crate::claims;
use crate::config::change::Changes;
use crate::config::{self, Loaded, Settings};
use crate::metrics::Counter;

impl App {
    /// Reads the config again and takes it.
    pub(super) async fn reload(&mut self) -> Result<Reloaded, Refused> {
        let sink = self.node.context.sink.clone();
        self.notifier.reloading();
        let done = self.take().await;
        self.notifier.ready("serving");
        match &done {
            Ok(told) => {
                sink.inc(Counter::Reloads);
                for line in &told.changed {
                    tracing::info!("reload: {line}");
                }
                for line in &told.config.waiting {
                    tracing::warn!("reload: waits for `penstock upgrade` or a restart: {line}");
                }
                let ConfigState { generation, hash, .. } = &told.config;
                let changed = told.changed.len();
                tracing::info!("reloaded: config {generation} ({hash}), {changed} changes");
            }
            Err(refused) => {
                sink.inc(Counter::ReloadsRefused);
                let lines = match refused {
                    Refused::Config(problems) => problems.join("\n"),
                    Refused::Failed(what) => what.clone(),
                };
                tracing::error!("reload: refused, everything stays as it was:\n{lines}");
            }
        }
        done
    }

    async fn take(&mut self) -> Result<Reloaded, Refused> {
        if self.upgrade.is_some() {
            let what = "an upgrade is under way: the new process reads the config itself";
            return Err(Refused::Failed(what.to_owned()));
        }
        let loaded = read(&self.node.file).await?;
        let running = self.node.settings.clone();
        let Changes { settings, now, waiting } =
            Changes::between(&running, &loaded.settings).map_err(|what| refuse(&loaded, &what))?;
        let (settings, node) = (Arc::new(settings), &mut self.node);
        let sink = node.context.sink.clone();
        let log = node.kit.log.next(&running.log, &settings.log, sink);
        let log = log.map_err(|cause| refuse(&loaded, &format!("log.access: {cause}")))?;
        let log = log.unwrap_or_else(|| node.kit.log.clone());
        let kit = node.kit.next(&settings, &node.context.book, log);
        let kit = kit.map_err(|what| refuse(&loaded, &what))?;
        let declarations =
            claims::declare::of_config(&settings).map_err(|what| refuse(&loaded, &what))?;
        let token = self.operator.next_token(&settings).map_err(|what| refuse(&loaded, &what))?;
        let plan = self.workers.plan(&settings);
        let plan = plan.map_err(|error| refuse(&loaded, &error.to_string()))?;

        kit.take_effect();
        self.operator.set_token(token.as_ref());
        node.caps.set(&settings.limits, kit.trust.clone());
        node.memory.send_if_modified(|memory| {
            let is_other = *memory != settings.memory;
            memory.clone_from(&settings.memory);
            is_other
        });
        let claims = &node.ledger.claims;
        claims.set_limits(claims::Limits::of(&settings));
        let applied = self.workers.apply(plan, &kit, claims).await;
        applied.map_err(|cause| Refused::Failed(format!("a socket cannot be copied: {cause}")))?;
        // An access log that goes elsewhere now ends with the last request that began before.
        node.kit = kit;
        node.certificates.set(node.kit.watched());
        node.certificates.reload().await;
        node.settings = settings;
        let config = ConfigState {
            generation: node.context.view().config.generation + 1,
            hash: node.settings.fleet_hash(),
            file: node.file.display().to_string(),
            waiting: waiting.iter().map(ToString::to_string).collect(),
        };
        node.kit.edge.purge_by(purger(&node.context));
        node.context.view.store(Arc::new(view(&node.settings, &node.kit, config.clone())));
        node.ledger.lists.rename(&node.settings);
        claims.redeclare(declarations);
        // A store that does not answer is not waited for: it is in `declarations` then.
        let _ = tokio::time::timeout(DECLARED_LONGEST, claims.declared()).await;
        Ok(Reloaded {
            config,
            changed: now.iter().map(ToString::to_string).collect(),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            declarations: claims.declaration_troubles(),
        })
    }
}

async fn read(file: &Path) -> Result<Loaded, Refused> {
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || config::load(&file)).await;
    let read = read.map_err(|panic| Refused::Failed(format!("reading the config: {panic}")))?;
    read.map_err(|problems| Refused::Config(problems.iter().map(ToString::to_string).collect()))
}

/// What a part says of its setting, `SETTING: WHAT`, at its place in the file.
fn refuse(loaded: &Loaded, said: &str) -> Refused {
    let problem = match said.split_once(": ") {
        Some((path, what)) if !path.contains(' ') => loaded.problem(path, what.to_owned()),
        _ => loaded.problem("", said.to_owned()),
    };
    Refused::Config(vec![problem.to_string()])
}

/// What the config is called at the start.
pub(super) fn first(settings: &Settings, file: &Path) -> ConfigState {
    let (hash, file) = (settings.fleet_hash(), file.display().to_string());
    ConfigState { generation: 1, hash, file, waiting: Vec::new() }
}

const DECLARED_LONGEST: Duration = Duration::from_secs(2);
