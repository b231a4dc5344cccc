//! Binding every listener, and starting and ending the workers.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::AppError;
use super::kit::Kit;
use crate::claims::Claims;
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::address::{ListenAddress, socket_mode};
use crate::http::Limits;
use crate::listener::{self, Bound, Caps, Phase, Pressure, Seat, Sockets, Worker};
use crate::metrics::Registry;

/// The workers of a process.
#[derive(Debug)]
pub(super) struct Workers {
    workers: Vec<Worker>,
    /// Acceptors of Unix sockets, on the control runtime.
    acceptors: JoinSet<std::io::Result<()>>,
    died: mpsc::Receiver<usize>,
}

/// How many workers there are: as the settings say, or one for each processor we may use.
pub(super) fn count(settings: &Settings) -> usize {
    match settings.http.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => usize::try_from(workers).unwrap_or(1),
    }
}

/// Binds all listeners, for so many workers.
pub(super) fn bind(settings: &Settings, workers: usize) -> Result<Vec<Bound>, AppError> {
    if settings.listen.is_empty() {
        let said = "listen: there is no listener; write [listen.http] with an address";
        return Err(AppError::Config(said.to_owned()));
    }
    let mut bound = Vec::new();
    for (name, listen) in &settings.listen {
        let address: ListenAddress = listen
            .address
            .parse()
            .map_err(|bad| AppError::Config(format!("listen.{name}.address: {bad}")))?;
        let mode = listen.mode.as_deref().map(socket_mode).transpose();
        let mode = mode.map_err(|bad| AppError::Config(format!("listen.{name}.mode: {bad}")))?;
        let one = listener::bind(name, &address, mode, workers);
        bound.push(one.map_err(|error| AppError::Boot(error.to_string()))?);
    }
    Ok(bound)
}

/// What the workers are started with.
pub(super) struct Start {
    pub bound: Vec<Bound>,
    pub workers: usize,
    pub kit: Kit,
    pub claims: Claims,
    pub caps: std::sync::Arc<Caps>,
    pub clock: Clock,
    pub registry: Registry,
    pub phase: watch::Receiver<Phase>,
    pub pressure: watch::Receiver<Pressure>,
}

impl Workers {
    /// Starts them. Needs the control runtime, on which Unix sockets are accepted.
    pub(super) fn start(start: Start) -> std::io::Result<Workers> {
        let Start { bound, workers: count, kit, claims, caps, clock, registry, .. } = start;
        let (phase, pressure) = (start.phase, start.pressure);
        let settings = kit.settings.clone();
        let entries: Vec<_> = bound.iter().map(|bound| kit.entry(&bound.name)).collect();
        let mut tcp: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        let mut unix = Vec::new();
        for (listener, bound) in bound.into_iter().enumerate() {
            match bound.sockets {
                Sockets::Tcp(sockets) => {
                    for (seat, socket) in tcp.iter_mut().zip(sockets) {
                        seat.push((listener, socket));
                    }
                }
                Sockets::Unix(socket) => unix.push((listener, socket)),
            }
        }
        let (dead, died) = mpsc::channel(1);
        let mut workers = Vec::new();
        for (index, tcp) in tcp.into_iter().enumerate() {
            let sink = registry.sink();
            let seat = Seat {
                index,
                tcp,
                caps: caps.clone(),
                limits: Limits::from(&settings.http),
                clock: clock.clone(),
                sink: sink.clone(),
                phase: phase.clone(),
                pressure: pressure.clone(),
                died: dead.clone(),
            };
            let (kit, claims, entries) = (kit.clone(), claims.clone(), entries.clone());
            workers.push(listener::spawn(seat, move || kit.entrances(claims, entries, &sink))?);
        }
        let mut acceptors = JoinSet::new();
        for (listener, socket) in unix {
            let queues = workers.iter().map(|worker| worker.dealt.clone()).collect();
            let (caps, phase, sink) = (caps.clone(), phase.clone(), registry.sink());
            acceptors.spawn(listener::deal(socket, listener, caps, queues, phase, sink));
        }
        Ok(Workers { workers, acceptors, died })
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
                    Ok(Err(cause)) => return format!("a Unix socket failed: {cause}"),
                    Err(panic) => return format!("the acceptor of a Unix socket died: {panic}"),
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

const JOIN_LONGEST: Duration = Duration::from_secs(2);
const JOIN_LOOK_EVERY: Duration = Duration::from_millis(5);
