//! The workers and the listeners they serve: binding, opening and closing them while the rest goes on.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::AppError;
use super::kit::Kit;
use super::notify::Notifier;
use crate::claims::Claims;
use crate::clock::Clock;
use crate::config::address::{ListenAddress, socket_mode};
use crate::config::{Settings, schema};
use crate::edge::{Entrance, Entry};
use crate::http::Limits;
use crate::ident::Name;
use crate::listener::{
    self, BindError, Bound, Caps, Change, Inherited, Make, Order, Phase, Pressure, Seat, Shared,
    Sockets, UnixSocket, Worker,
};
use crate::metrics::{Registry, Sink};

/// The workers of a process.
#[derive(Debug)]
pub(super) struct Workers {
    workers: Vec<Worker<Entrance>>,
    /// The workers' own counters.
    sinks: Vec<Sink>,
    listeners: Vec<Listener>,
    /// The number of the next listener.
    next: usize,
    /// Acceptors of sockets that all workers share, on the control runtime.
    acceptors: JoinSet<std::io::Result<()>>,
    acceptors_sink: Sink,
    died: mpsc::Receiver<usize>,
    caps: Arc<Caps>,
}

/// A listener that is open.
#[derive(Debug)]
struct Listener {
    number: usize,
    name: Name,
    /// As the config has it.
    configured: ListenAddress,
    /// As it is: a port of 0 has become the one that was taken.
    address: ListenAddress,
    entry: Entry,
    /// Other descriptors of its sockets, to hand them over. They are given up before it closes.
    copies: Vec<OwnedFd>,
    unix: Option<UnixSocket>,
    dealer: Option<Dealer>,
}

/// The acceptor of a socket that all workers share.
#[derive(Debug)]
struct Dealer {
    closes: CancellationToken,
    /// Ends with it.
    ended: oneshot::Receiver<()>,
}

/// Which listeners stay, open and close.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Numbers of those that stay, with their names from now on.
    stay: Vec<(usize, Name)>,
    open: Vec<(Bound, ListenAddress)>,
    close: Vec<usize>,
}

/// What the workers are started with.
pub(super) struct Start {
    pub workers: usize,
    pub caps: Arc<Caps>,
    pub clock: Clock,
    pub registry: Registry,
    pub phase: watch::Receiver<Phase>,
    pub pressure: watch::Receiver<Pressure>,
}

/// How many workers there are: as the settings say, or one for each processor we may use. A quota of
/// the control group counts: two processors' time is two workers, however many processors there are.
pub(super) fn count(settings: &Settings) -> usize {
    match settings.http.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => usize::try_from(workers).unwrap_or(1),
    }
}

/// Binds the listeners of a process that has none yet.
pub(super) fn bind(
    settings: &Settings,
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Plan, AppError> {
    if settings.listen.is_empty() {
        let said = "listen: there is no listener; write [listen.http] with an address";
        return Err(AppError::Config(said.to_owned()));
    }
    plan(&[], settings, workers, inherited).map_err(|error| AppError::Boot(error.to_string()))
}

/// A listener is the same one while it has its address; a name may move to another.
fn plan(
    listeners: &[Listener],
    settings: &Settings,
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Plan, BindError> {
    let mut plan = Plan::default();
    let mut left: Vec<&Listener> = listeners.iter().collect();
    let mut new = Vec::new();
    for (name, listen) in &settings.listen {
        let Ok(address) = listen.address.parse::<ListenAddress>() else { continue };
        let same = |one: &&Listener| one.configured == address;
        let at = left.iter().position(|one| same(one) && one.name == *name);
        match at.or_else(|| left.iter().position(same)) {
            Some(at) => {
                let number = left.swap_remove(at).number;
                plan.stay.push((number, name.clone()));
            }
            None => new.push((name, address, listen)),
        }
    }
    plan.close = left.iter().map(|one| one.number).collect();
    for (name, address, listen) in new {
        let has_port = port(&address).is_some_and(|wanted| {
            let has = |one: &Listener| port(&one.address) == Some(wanted);
            listeners.iter().any(has) || inherited.has_port(wanted)
        });
        // The config was checked: a mode that is there can be read.
        let mode = listen.mode.as_deref().and_then(|mode| socket_mode(mode).ok());
        let bound = listener::bind(name, &address, mode, workers, inherited, has_port)?;
        plan.open.push((bound, address));
    }
    Ok(plan)
}

fn port(address: &ListenAddress) -> Option<u16> {
    match address {
        ListenAddress::Tcp(address) => Some(address.port()).filter(|port| *port != 0),
        ListenAddress::Unix(_) => None,
    }
}

impl Plan {
    /// Where those listen that open, for people.
    pub(super) fn addresses(&self) -> impl Iterator<Item = String> {
        self.open.iter().map(|(bound, _)| format!("{}={}", bound.name, bound.address))
    }
}

impl Workers {
    /// Starts them, without a listener.
    pub(super) fn start(start: Start) -> std::io::Result<Workers> {
        let Start { workers: count, caps, clock, registry, phase, pressure } = start;
        let (dead, died) = mpsc::channel(1);
        let (mut workers, mut sinks) = (Vec::new(), Vec::new());
        for index in 0..count {
            let sink = registry.sink();
            sinks.push(sink.clone());
            let (caps, clock) = (caps.clone(), clock.clone());
            let (phase, pressure, died) = (phase.clone(), pressure.clone(), dead.clone());
            let seat = Seat { index, caps, clock, sink, phase, pressure, died };
            workers.push(listener::spawn(seat)?);
        }
        let (listeners, acceptors) = (Vec::new(), JoinSet::new());
        let acceptors_sink = registry.sink();
        Ok(Workers { workers, sinks, listeners, next: 0, acceptors, acceptors_sink, died, caps })
    }

    /// What other settings mean for the listeners; those that come are bound. Nothing changes yet.
    pub(super) fn plan(&self, settings: &Settings) -> Result<Plan, BindError> {
        let mut inherited = Inherited::default();
        plan(&self.listeners, settings, self.workers.len(), &mut inherited)
    }

    /// From now on `kit` decides, on the listeners of `plan`. Each request sees all of it or nothing.
    pub(super) async fn apply(
        &mut self,
        plan: Plan,
        kit: &Kit,
        claims: &Claims,
    ) -> std::io::Result<()> {
        let Plan { stay, open, close } = plan;
        for (number, name) in stay {
            let listener = self.listeners.iter_mut().find(|one| one.number == number);
            if let Some(listener) = listener {
                (listener.entry, listener.name) = (kit.entry(&name), name);
            }
        }
        let mut leaving = Vec::new();
        for listener in self.listeners.extract_if(.., |one| close.contains(&one.number)) {
            leaving.push((listener.number, listener.entry.clone()));
            listener.close().await;
        }
        let mut sockets: Vec<Vec<_>> = self.workers.iter().map(|_| Vec::new()).collect();
        let mut shared = Vec::new();
        for (bound, configured) in open {
            let entry = kit.entry(&bound.name);
            self.add(bound, configured, entry, &mut sockets, &mut shared)?;
        }
        let entries = self.listeners.iter().map(|one| (one.number, one.entry.clone()));
        let entries: Vec<_> = entries.chain(leaving).collect();
        let limits = Limits::of(&kit.settings.http, &kit.settings.http2);
        let handshakes = handshakes(&kit.settings.limits, self.workers.len());
        let mut waits = Vec::new();
        let deadline = tokio::time::Instant::now() + OBEY_LONGEST;
        for ((worker, sink), open) in self.workers.iter().zip(&self.sinks).zip(sockets) {
            let (kit, claims, sink) = (kit.clone(), claims.clone(), sink.clone());
            let (entries, limits) = (entries.clone(), limits.clone());
            let make: Make<Entrance> =
                Box::new(move |old| kit.entrances(claims, entries, old, &sink));
            let (done, told) = oneshot::channel();
            let change = Change { make, limits, handshakes, open, close: close.clone(), done };
            // A worker that is dead is heard of elsewhere, and the process ends.
            let sent = worker.orders.send(Order::Change(Box::new(change)));
            let _ = tokio::time::timeout_at(deadline, sent).await;
            waits.push(told);
        }
        for (worker, told) in waits.into_iter().enumerate() {
            if tokio::time::timeout_at(deadline, told).await.is_err() {
                tracing::error!("worker {worker} hangs and does not hear of the config");
            }
        }
        for (number, socket) in shared {
            self.deal(number, socket);
        }
        Ok(())
    }

    /// Takes a bound listener in: its sockets go to the workers, or are shared by them.
    fn add(
        &mut self,
        bound: Bound,
        configured: ListenAddress,
        entry: Entry,
        sockets: &mut [Vec<(usize, std::net::TcpListener)>],
        shared: &mut Vec<(usize, Shared)>,
    ) -> std::io::Result<()> {
        let number = self.next;
        self.next += 1;
        let copies = bound.sockets.copies()?;
        let mut unix = None;
        match bound.sockets {
            Sockets::Tcp(all) => {
                let count = sockets.len().max(1);
                for (at, socket) in all.into_iter().enumerate() {
                    if let Some(own) = sockets.get_mut(at % count) {
                        own.push((number, socket));
                    }
                }
            }
            Sockets::One(all) => {
                shared.extend(all.into_iter().map(|socket| (number, Shared::Tcp(socket))));
            }
            Sockets::Unix(socket) => {
                shared.push((number, Shared::Unix(socket.listener()?)));
                unix = Some(socket);
            }
        }
        let (name, address) = (bound.name, bound.address);
        let dealer = None;
        let listener = Listener { number, name, configured, address, entry, copies, unix, dealer };
        self.listeners.push(listener);
        Ok(())
    }

    /// Begins to accept on a socket that all workers share.
    fn deal(&mut self, number: usize, socket: Shared) {
        let queues = self.workers.iter().map(|worker| worker.orders.clone()).collect();
        let (caps, sink) = (self.caps.clone(), self.acceptors_sink.clone());
        let closes = CancellationToken::new();
        let (ends, ended) = oneshot::channel::<()>();
        let accept = listener::deal(socket, number, caps, queues, closes.clone(), sink);
        self.acceptors.spawn(async move {
            let _ends = ends;
            accept.await
        });
        if let Some(listener) = self.listeners.iter_mut().find(|one| one.number == number) {
            listener.dealer = Some(Dealer { closes, ended });
        }
    }

    /// Closes every listener, once the phase says so to the workers: those that the kernel had accepted
    /// are still taken.
    pub(super) async fn close(&mut self) {
        for listener in std::mem::take(&mut self.listeners) {
            listener.close().await;
        }
    }

    /// Gives up the copies of the sockets, so that they close where the workers close them.
    pub(super) fn forget_copies(&mut self) {
        for listener in &mut self.listeners {
            listener.copies.clear();
        }
    }

    /// Every listening socket with the address of its config, to be handed over.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (&ListenAddress, &OwnedFd)> {
        let all = self.listeners.iter();
        all.flat_map(|one| one.copies.iter().map(move |copy| (&one.configured, copy)))
    }

    /// Whether the files of Unix sockets are this process's to remove.
    pub(super) fn keep_files(&self, are_ours: bool) {
        for socket in self.listeners.iter().filter_map(|one| one.unix.as_ref()) {
            socket.keep_file(are_ours);
        }
    }

    /// Where each of them is told what to do.
    pub(super) fn orders(&self) -> Vec<mpsc::Sender<Order<Entrance>>> {
        self.workers.iter().map(|worker| worker.orders.clone()).collect()
    }

    /// What feels whether they live.
    pub(super) fn pulse(&self) -> Pulse {
        Pulse(self.workers.iter().map(|worker| worker.orders.clone()).collect())
    }

    /// Waits until one of them is dead; says how. It does not end while all are well.
    pub(super) async fn death(&mut self) -> String {
        loop {
            tokio::select! {
                worker = self.died.recv() => match worker {
                    Some(worker) => return format!("worker {worker} panicked"),
                    None => return "all workers ended".to_owned(),
                },
                Some(ended) = self.acceptors.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(cause)) => return format!("a listening socket failed: {cause}"),
                    Err(panic) => return format!("an acceptor died: {panic}"),
                },
            }
        }
    }

    /// Waits for the threads to end, once the phase is [`Phase::Stopped`], but not for ever.
    pub(super) async fn join(mut self) {
        self.acceptors.shutdown().await;
        let deadline = tokio::time::Instant::now() + JOIN_LONGEST;
        while tokio::time::Instant::now() < deadline
            && self.workers.iter().any(|worker| !worker.thread.is_finished())
        {
            tokio::time::sleep(JOIN_LOOK_EVERY).await;
        }
    }
}

/// One worker's share of the handshakes, and how long each may take.
fn handshakes(limits: &schema::Limits, workers: usize) -> (usize, Duration) {
    let max = usize::try_from(limits.handshakes_max).unwrap_or(usize::MAX);
    (max.div_ceil(workers.max(1)), limits.handshake_timeout.duration())
}

/// Feels whether the workers live.
#[derive(Debug)]
pub(super) struct Pulse(Vec<mpsc::Sender<Order<Entrance>>>);

impl Pulse {
    /// Tells systemd again and again that the process lives, for as long as every worker does.
    pub(super) async fn tell(self, notifier: Notifier, watchdog: Duration) -> String {
        loop {
            tokio::time::sleep(watchdog / 4).await;
            match self.silent(watchdog / 4).await {
                None => notifier.alive(),
                Some(worker) => tracing::error!(
                    "worker {worker} gives no sign of life; if that lasts {watchdog:?}, systemd starts \
                     the process anew"
                ),
            }
        }
    }

    /// Asks each worker for a sign of life; the first that gives none in time.
    async fn silent(&self, longest: Duration) -> Option<usize> {
        let mut waits = Vec::new();
        for orders in &self.0 {
            let (told, seen) = oneshot::channel();
            let orders = orders.clone();
            waits.push(async move {
                orders.send(Order::Look(told)).await.is_ok() && seen.await.is_ok()
            });
        }
        let deadline = tokio::time::Instant::now() + longest;
        for (at, seen) in waits.into_iter().enumerate() {
            if tokio::time::timeout_at(deadline, seen).await != Ok(true) {
                return Some(at);
            }
        }
        None
    }
}

impl Listener {
    /// Closes what is ours of it. The workers close their own sockets, and empty them before.
    async fn close(self) {
        // The name goes first, so that nobody comes between the last look and the end.
        drop(self.unix);
        drop(self.copies);
        if let Some(Dealer { closes, ended }) = self.dealer {
            closes.cancel();
            // Ends with the acceptor, whose sender is dropped and never used. One that a hanging worker
            // keeps is not waited for for ever.
            let _ = tokio::time::timeout(OBEY_LONGEST, ended).await;
        }
    }
}

/// A worker that lives obeys within milliseconds.
const OBEY_LONGEST: Duration = Duration::from_secs(10);
const JOIN_LONGEST: Duration = Duration::from_secs(2);
const JOIN_LOOK_EVERY: Duration = Duration::from_millis(5);
