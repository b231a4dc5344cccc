//! What all workers share of the upstreams: limits and health, as atomics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::address::{Address, ConnectError, Names};
use super::circuit::Circuit;
use super::places::Places;
use crate::config::schema;
use crate::ident::Name;
use crate::tls;

/// Limits and health of all groups.
#[derive(Debug)]
pub struct Shared {
    pub(super) groups: BTreeMap<Name, Arc<GroupShared>>,
}

/// How a server is, for operators.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ServerReport {
    /// The group.
    pub group: Name,
    /// The server, as the settings name it.
    pub server: String,
    /// Exchanges under way.
    pub in_flight: u32,
    /// Connections that are open, idle ones among them.
    pub open: u32,
    /// Connections that were made since the start.
    pub connects: u64,
    /// Attempts to connect that failed since the start.
    pub connect_errors: u64,
    /// Whether it is passed over because it could not be reached just now.
    pub held: bool,
    /// Whether nothing is claimed for the group, because the shop does not answer.
    pub circuit_open: bool,
    /// What went wrong last, connecting or in an exchange.
    pub last_error: Option<String>,
}

/// How a group is, for operators.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GroupReport {
    /// The group.
    pub group: Name,
    /// Exchanges under way, over all servers.
    pub in_flight: u32,
    /// Requests that wait for a connection.
    pub waiting: u32,
    /// Purchases that are on their way to it.
    pub purchases: u32,
    /// The most that there may be.
    pub purchases_max: u32,
    /// Purchases that wait for a place among them.
    pub purchases_waiting: u32,
    /// Servers of the group.
    pub servers: usize,
    /// Those that are passed over because they could not be reached just now.
    pub held: usize,
    /// Whether nothing is claimed for the group because the shop does not answer.
    pub circuit_open: bool,
}

impl Shared {
    /// For `[upstream]`, without TLS: a group that asks for it cannot be reached.
    pub fn new(settings: &BTreeMap<Name, schema::Upstream>) -> Arc<Shared> {
        let nothing = Shared { groups: BTreeMap::new() };
        nothing.after(settings, |_, _| Ok(None)).unwrap_or_else(|_: String| Arc::new(nothing))
    }

    /// For `[upstream]`, with the files that TLS needs. An error names the setting and the file.
    pub fn with_tls(settings: &BTreeMap<Name, schema::Upstream>) -> Result<Arc<Shared>, String> {
        let nothing = Shared { groups: BTreeMap::new() };
        nothing.next(settings)
    }

    /// The same with other settings. A group whose settings are the same is the same; limits and
    /// servers of a changed one go on with what they count.
    pub fn next(&self, settings: &BTreeMap<Name, schema::Upstream>) -> Result<Arc<Shared>, String> {
        self.after(settings, |name, group| {
            let made = |tls| tls::Client::new(name, tls, group.http2);
            group.tls.as_ref().map(made).transpose()
        })
    }

    fn after(
        &self,
        settings: &BTreeMap<Name, schema::Upstream>,
        tls: impl Fn(&Name, &schema::Upstream) -> Result<Option<Arc<tls::Client>>, String>,
    ) -> Result<Arc<Shared>, String> {
        let mut groups = BTreeMap::new();
        for (name, settings) in settings {
            let old = self.groups.get(name).map(|old| &**old);
            let group = match self.groups.get(name).filter(|old| old.is_of(settings)) {
                Some(same) => same.clone(),
                None => Arc::new(GroupShared {
                    tls: tls(name, settings)?,
                    ..GroupShared::new(name, settings.clone(), old)
                }),
            };
            groups.insert(name.clone(), group);
        }
        Ok(Arc::new(Shared { groups }))
    }

    /// What is made of files and can be read again.
    pub fn watched(&self) -> Vec<Arc<dyn tls::Watched>> {
        let clients = self.groups.values().filter_map(|group| group.tls.clone());
        clients.map(|client| client as Arc<dyn tls::Watched>).collect()
    }

    /// Makes limits as large as the settings say: when they are in use, and not before.
    pub fn resize(&self) {
        for group in self.groups.values() {
            group.limits.purchases.resize(group.settings.purchases_max);
            for server in &group.servers {
                server.open.resize(group.settings.connections_max);
            }
        }
    }

    /// Of each group, whether purchases are refused because the shop does not answer.
    pub fn circuits(&self) -> impl Iterator<Item = (&Name, bool)> {
        self.groups.iter().map(|(name, group)| (name, group.limits.circuit.is_open()))
    }

    /// How every server is.
    pub fn report(&self) -> Vec<ServerReport> {
        let servers = self.groups.iter().flat_map(|(name, group)| {
            let is_open = group.limits.circuit.is_open();
            group.servers.iter().map(move |one| one.report(name, is_open))
        });
        servers.collect()
    }

    /// How every group is.
    pub fn groups(&self) -> Vec<GroupReport> {
        self.groups.iter().map(|(name, group)| group.report(name)).collect()
    }
}

/// One group.
#[derive(Debug)]
pub(super) struct GroupShared {
    pub settings: schema::Upstream,
    pub servers: Vec<Arc<Server>>,
    /// How its servers are spoken to, where `settings.tls` is set.
    pub tls: Option<Arc<tls::Client>>,
    pub limits: Arc<GroupLimits>,
}

/// Limits of one group, whatever its settings were when somebody came to them.
#[derive(Debug)]
pub(super) struct GroupLimits {
    /// Requests that wait for a connection.
    pub waiting: Count,
    /// Woken when somebody waits: workers that have idle connections give one up.
    pub wanted: Notify,
    pub purchases: Arc<Places>,
    pub purchases_waiting: Count,
    /// Whether purchases may be sent at all.
    pub circuit: Arc<Circuit>,
    /// Workers that use this group.
    pub workers: AtomicUsize,
}

impl GroupShared {
    fn new(name: &Name, settings: schema::Upstream, old: Option<&GroupShared>) -> GroupShared {
        let server = |name: &String| {
            let known = old.and_then(|old| old.servers.iter().find(|one| one.name == *name));
            let new = || Arc::new(Server::new(name, settings.connections_max));
            known.cloned().unwrap_or_else(new)
        };
        let limits = || {
            Arc::new(GroupLimits {
                waiting: Count::default(),
                wanted: Notify::new(),
                purchases: Places::new(settings.purchases_max),
                purchases_waiting: Count::default(),
                circuit: Arc::new(Circuit::new(name.clone())),
                workers: AtomicUsize::new(0),
            })
        };
        GroupShared {
            servers: settings.servers.iter().map(server).collect(),
            tls: None,
            limits: old.map_or_else(limits, |old| old.limits.clone()),
            settings,
        }
    }

    fn report(&self, name: &Name) -> GroupReport {
        let limits = &self.limits;
        let in_flight = |server: &Arc<Server>| server.in_flight.load(Ordering::Relaxed);
        GroupReport {
            group: name.clone(),
            in_flight: self.servers.iter().map(in_flight).sum(),
            waiting: limits.waiting.get(),
            purchases: limits.purchases.taken(),
            purchases_max: self.settings.purchases_max,
            purchases_waiting: limits.purchases_waiting.get(),
            servers: self.servers.len(),
            held: self.servers.iter().filter(|server| server.is_held()).count(),
            circuit_open: limits.circuit.is_open(),
        }
    }

    fn is_of(&self, settings: &schema::Upstream) -> bool {
        self.settings == *settings
    }
}

/// One server of a group.
#[derive(Debug)]
pub(super) struct Server {
    name: String,
    pub address: Address,
    pub names: Arc<Names>,
    /// Places for connections, `connections_max` of them.
    pub open: Arc<Places>,
    pub in_flight: AtomicU32,
    connects: AtomicU64,
    connect_errors: AtomicU64,
    /// Milliseconds from `start` until which the server is passed over; 0 if it is well.
    held_until_ms: AtomicU64,
    start: Instant,
    last_error: Mutex<Option<String>>,
}

impl Server {
    fn new(name: &str, connections_max: u32) -> Server {
        Server {
            name: name.to_owned(),
            address: Address::new(name),
            names: Arc::default(),
            open: Places::new(connections_max),
            in_flight: AtomicU32::new(0),
            connects: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            held_until_ms: AtomicU64::new(0),
            start: Instant::now(),
            last_error: Mutex::new(None),
        }
    }

    /// Whether the server just failed to connect.
    pub(super) fn is_held(&self) -> bool {
        self.now_ms() < self.held_until_ms.load(Ordering::Relaxed)
    }

    /// Called before connecting. A server that failed before is tried by this request; the others go
    /// on passing it over until it is known how that went.
    pub(super) fn connecting(&self) {
        if self.held_until_ms.load(Ordering::Relaxed) != 0 {
            self.held_until_ms.store(self.now_ms() + HOLD_MS, Ordering::Relaxed);
        }
    }

    pub(super) fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.held_until_ms.store(0, Ordering::Relaxed);
    }

    pub(super) fn connect_failed(&self, error: &ConnectError) {
        self.connect_errors.fetch_add(1, Ordering::Relaxed);
        self.held_until_ms.store(self.now_ms() + HOLD_MS, Ordering::Relaxed);
        self.failed(&error.cause);
    }

    /// Notes what went wrong, for the report.
    pub(super) fn failed(&self, cause: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause.to_owned());
    }

    fn now_ms(&self) -> u64 {
        // Never 0, which means "not held".
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2) + 1
    }

    fn report(&self, group: &Name, circuit_open: bool) -> ServerReport {
        ServerReport {
            group: group.clone(),
            server: self.name.clone(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            open: self.open.taken(),
            connects: self.connects.load(Ordering::Relaxed),
            connect_errors: self.connect_errors.load(Ordering::Relaxed),
            held: self.is_held(),
            circuit_open,
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// A bounded number of waiters.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU32);

/// One waiter, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a Count);

impl Count {
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, if there are fewer than `max`.
    pub(super) fn enter(&self, max: u32) -> Option<Counted<'_>> {
        let more = |n: u32| (n < max).then(|| n + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Counted(self))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A server that could not be reached is passed over for so long, and then tried by one request.
pub(super) const HOLD_MS: u64 = 500;
