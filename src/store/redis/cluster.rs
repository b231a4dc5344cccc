//! The masters of a cluster: which of them has which slot, and a link to each.
//!
//! The library's own cluster client sends a command again when its connection broke, although it may
//! have been applied, and one count of retries stands for redirects and for that. Here a command is
//! sent again only where a server said that it did nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rand::seq::SliceRandom;
use redis::{AsyncConnectionConfig, ProtocolVersion, Value};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::context::Context;
use super::dial::{ask, open};
use super::fault::Fault;
use super::link::{Link, Seat};
use super::slot::{Slot, Table};
use super::target::{Peer, Server};
use crate::config::redis_url::Host;
use crate::metrics::Counter;

/// The masters of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    context: Arc<Context>,
    /// The nodes that the settings name.
    seeds: Vec<Host>,
    table: ArcSwap<Table>,
    links: Mutex<BTreeMap<Host, Held>>,
    /// Why the table cannot be read, or is not whole.
    trouble: Mutex<Option<String>>,
    /// Where the links live.
    runtime: Handle,
}

#[derive(Debug)]
struct Held {
    link: Arc<Link>,
    /// Whether a slot that is being moved led here since the table was read last.
    is_asked: bool,
    _supervisor: AbortOnDropHandle<()>,
}

impl Cluster {
    pub(super) fn new(context: Arc<Context>, seeds: Vec<Host>) -> Cluster {
        let trouble = Mutex::new(Some(format!("{}: not connected yet", context.target)));
        let (table, links) = Default::default();
        Cluster { context, seeds, table, links, trouble, runtime: Handle::current() }
    }

    /// The link to the master of a slot.
    pub(super) fn of_slot(&self, slot: Slot) -> Result<Arc<Link>, Fault> {
        let table = self.table.load();
        match table.owner(slot) {
            Some(owner) => Ok(self.to(owner, false)),
            None if table.owners().is_empty() => {
                Err(Fault::NotSent(self.trouble().unwrap_or_default()))
            }
            None => {
                self.context.astray.notify_one();
                Err(Fault::NotSent("no master of the cluster has the slot of this sale".into()))
            }
        }
    }

    /// The link to a server that a redirect named.
    pub(super) fn to(&self, host: &Host, is_asked: bool) -> Arc<Link> {
        let mut links = self.lock();
        let held = links.entry(host.clone()).or_insert_with(|| self.hold(host));
        held.is_asked |= is_asked;
        held.link.clone()
    }

    /// Takes note that a slot is with another master. A name that is missing is that of the one asked.
    pub(super) fn moved(&self, slot: Slot, host: Host) {
        let host = self.named(slot, host);
        self.table.rcu(|table| table.with(slot, host.clone()));
        self.context.astray.notify_one();
    }

    /// A host with the name that it has for us.
    pub(super) fn named(&self, slot: Slot, host: Host) -> Host {
        let table = self.table.load();
        match table.owner(slot) {
            Some(owner) if host.name.is_empty() => Host { name: owner.name.clone(), ..host },
            _ => host,
        }
    }

    /// The link of a slot's master, if there is one: to read what it says of itself.
    pub(super) fn known(&self, slot: Slot) -> Option<Arc<Link>> {
        let table = self.table.load();
        self.lock().get(table.owner(slot)?).map(|held| held.link.clone())
    }

    /// Every link.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.lock().values().map(|held| held.link.clone()).collect()
    }

    /// Where the links live.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// What is wrong with the cluster or one of its masters, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        let own = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        own.or_else(|| {
            let table = self.table.load();
            let links = self.lock();
            table.owners().iter().find_map(|owner| links.get(owner)?.link.trouble())
        })
    }

    /// Keeps the table for as long as it is polled: reads it every few seconds, and at once when
    /// something is not where it was.
    pub(super) async fn supervise(&self) {
        loop {
            match self.read().await {
                Ok(table) => self.adopt(table),
                Err(why) => self.note(Some(why)),
            }
            let pause = if self.trouble().is_some() { READ_SOON } else { READ_EVERY };
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..=1.2))) => {}
                () = self.context.astray.notified() => tokio::time::sleep(READ_PAUSE).await,
            }
        }
    }

    /// Asks one of the masters, each time another; where none answers, the nodes of the settings.
    async fn read(&self) -> Result<Table, String> {
        let mut links = self.links();
        links.shuffle(&mut rand::rng());
        let mut whys = Vec::new();
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        for link in links {
            let Some((Server::Tcp(host), _)) = link.connected() else { continue };
            let end = Instant::now() + self.context.target.connect_timeout;
            match link.send(&slots, end).await.map(|value| Table::read(value, &host)) {
                Ok(Some(table)) if !table.owners().is_empty() => return Ok(table),
                Ok(_) => whys.push(format!("{host}: CLUSTER SLOTS makes no sense")),
                Err(fault) => whys.push(format!("{host}: {}", fault.text())),
            }
        }
        let table = self.table.load_full();
        let known = table.owners().iter().filter(|owner| !self.seeds.contains(owner));
        for host in self.seeds.iter().chain(known) {
            match self.ask(host, &slots).await {
                Ok(value) => match Table::read(value, host) {
                    Some(table) if !table.owners().is_empty() => return Ok(table),
                    Some(_) => whys.push(format!("{host}: its cluster has no slots yet")),
                    None => whys.push(format!("{host}: CLUSTER SLOTS makes no sense")),
                },
                Err(why) => whys.push(format!("{host}: {why}")),
            }
        }
        Err(format!("no node of the Redis Cluster answers: {}", whys.join("; ")))
    }

    async fn ask(&self, host: &Host, slots: &redis::Cmd) -> Result<Value, String> {
        let target = &self.context.target;
        let server = Server::Tcp(host.clone());
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (mut connection, closed) =
            open(target, &server, Peer::Redis, ProtocolVersion::RESP2, config).await?;
        let _close = closed.drop_guard();
        let answer = timeout(target.connect_timeout, ask(&mut connection, slots)).await;
        match answer.map_err(|_| "no answer in time")?? {
            Err(Fault::Server { detail, .. }) if detail.contains("cluster support disabled") => {
                Err("it is no node of a Redis Cluster: begin store.url with redis://".into())
            }
            answer => answer.map_err(Fault::text),
        }
    }

    /// Takes a new table: links to the masters that it names, and to no others.
    fn adopt(&self, table: Table) {
        let old = self.table.swap(Arc::new(table.clone()));
        self.tell(&old, &table);
        let mut links = self.lock();
        links.retain(|host, held| {
            table.owners().contains(host) || std::mem::take(&mut held.is_asked)
        });
        for owner in table.owners().iter().take(MASTERS_MAX) {
            let held = links.entry(owner.clone()).or_insert_with(|| self.hold(owner));
            held.link.set_probe(table.tag_of(owner));
        }
        drop(links);
        self.note(match table.orphans() {
            0 => None,
            n => Some(format!(
                "{n} slots of the Redis Cluster have no master: sales in them cannot be reached; \
                 look at CLUSTER INFO"
            )),
        });
    }

    fn tell(&self, old: &Table, new: &Table) {
        let names = |table: &Table| {
            let mut names: Vec<_> = table.owners().iter().map(ToString::to_string).collect();
            names.sort();
            names.join(" ")
        };
        let (was, masters) = (names(old), names(new));
        if was.is_empty() {
            tracing::info!(%masters, "read the slots of the Redis Cluster");
        } else if was != masters {
            self.context.sink.inc(Counter::StoreRoleChanges);
            tracing::warn!(%masters, %was, "the Redis Cluster has other masters");
        } else if old != new {
            tracing::info!(%masters, "slots of the Redis Cluster moved");
        }
    }

    /// A link and the task that keeps it.
    fn hold(&self, host: &Host) -> Held {
        let link = Arc::new(Link::new(self.context.clone(), Seat::Master(host.clone())));
        let kept = link.clone();
        let supervisor = self.runtime.spawn(async move { kept.supervise().await });
        Held { link, is_asked: false, _supervisor: AbortOnDropHandle::new(supervisor) }
    }

    fn note(&self, trouble: Option<String>) {
        let mut held = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != trouble {
            if let Some(why) = &trouble {
                tracing::warn!("{why}");
                self.context.tried.cancel();
            }
            *held = trouble;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Host, Held>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between two looks at the table while all is well.
const READ_EVERY: Duration = Duration::from_secs(5);

/// The same while something is wrong: a replica may take over at any time.
const READ_SOON: Duration = Duration::from_millis(250);

/// Between two looks that were asked for: one answers for many redirects.
const READ_PAUSE: Duration = Duration::from_millis(50);

/// Most masters of a cluster that get a link before a redirect leads there.
const MASTERS_MAX: usize = 256;
