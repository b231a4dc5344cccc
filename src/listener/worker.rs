//! One worker: a thread, its runtime, its sockets and its connections.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::io::AsyncWrite;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::Phase;
use super::accept;
use super::caps::{Caps, Ticket};
use super::greet::{Peek, greet};
use super::pressure::Pressure;
use crate::clock::Clock;
use crate::http::{Door, Drainer, Limits, Peer, Service, serve};
use crate::metrics::{Counter, Sink};

/// What one worker needs besides its services.
#[derive(Debug)]
pub struct Seat {
    /// Its number, from 0.
    pub index: usize,
    /// Its TCP sockets, each with its place among the listeners.
    pub tcp: Vec<(usize, std::net::TcpListener)>,
    /// Caps of the process.
    pub caps: Arc<Caps>,
    /// Bounds of a connection.
    pub limits: Limits,
    /// The clock.
    pub clock: Clock,
    /// The worker's own counters.
    pub sink: Sink,
    /// How far the process is.
    pub phase: watch::Receiver<Phase>,
    /// How short memory is.
    pub pressure: watch::Receiver<Pressure>,
    /// Hears when the thread ends by a panic.
    pub died: mpsc::Sender<usize>,
}

/// A connection of a Unix socket, on its way to the worker it was dealt to.
#[derive(Debug)]
pub struct Dealt {
    /// The connection, not blocking.
    pub stream: UnixStream,
    /// The place of its listener.
    pub listener: usize,
    /// Its ticket.
    pub ticket: Ticket,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    /// Where connections are dealt to it.
    pub dealt: mpsc::Sender<Dealt>,
    /// Ends when the phase is [`Phase::Stopped`].
    pub thread: JoinHandle<()>,
}

/// Starts a worker. `make` runs on its thread and makes one service for each listener, in their
/// order.
pub fn spawn<S, F>(seat: Seat, make: F) -> io::Result<Worker>
where
    S: Service,
    F: FnOnce() -> Vec<Rc<S>> + Send + 'static,
{
    let (dealt, queue) = mpsc::channel(DEALT_MAX);
    let thread = std::thread::Builder::new().name(format!("worker-{}", seat.index));
    let thread = thread.spawn(move || {
        let _watch = Obituary { worker: seat.index, died: seat.died.clone() };
        // A runtime whose tasks are all local: a set of local tasks within another runtime would cost
        // every request one more queue.
        let runtime = Builder::new_current_thread().enable_all().build_local(Default::default());
        match runtime {
            Ok(runtime) => runtime.block_on(work(seat, queue, make)),
            Err(cause) => {
                std::panic::resume_unwind(Box::new(format!("a worker has no runtime: {cause}")))
            }
        }
    })?;
    Ok(Worker { dealt, thread })
}

/// Says that a worker's thread panicked.
struct Obituary {
    worker: usize,
    died: mpsc::Sender<usize>,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // One death is enough to end the process; where nobody listens it is ending already.
            let _ = self.died.try_send(self.worker);
        }
    }
}

/// What all connections of a worker share.
struct Room<S> {
    index: usize,
    /// One for each listener.
    doors: Vec<Rc<Door<S>>>,
    caps: Arc<Caps>,
    sink: Sink,
    connections: TaskTracker,
}

async fn work<S, F>(seat: Seat, queue: mpsc::Receiver<Dealt>, make: F)
where
    S: Service,
    F: FnOnce() -> Vec<Rc<S>>,
{
    let (mut phase, mut pressure) = (seat.phase, seat.pressure);
    let drainer = Drainer::new();
    let (limits, clock, sink) = (Rc::new(seat.limits), seat.clock, seat.sink);
    let door =
        |service| Door::new(service, limits.clone(), clock.clone(), sink.clone(), drainer.signal());
    let room = Rc::new(Room {
        index: seat.index,
        doors: make().into_iter().map(door).collect(),
        caps: seat.caps,
        sink: sink.clone(),
        connections: TaskTracker::new(),
    });
    let mut accepting = JoinSet::new();
    for (listener, socket) in seat.tcp {
        let (phase, sink, room) = (phase.clone(), room.sink.clone(), room.clone());
        accepting.spawn_local(accept::tcp(socket, phase, sink, move |stream, from| {
            room.accepted(stream, from, listener);
        }));
    }
    accepting.spawn_local(take_dealt(queue, room.clone()));
    // Not among those that accept: it never ends.
    let mut time = JoinSet::new();
    time.spawn_local(drainer.keep_time());
    loop {
        tokio::select! {
            ended = accepting.join_next(), if !accepting.is_empty() => answer_for(ended),
            changed = phase.changed() => {
                let now = *phase.borrow_and_update();
                if changed.is_err() || now == Phase::Stopped {
                    return;
                }
                drainer.begin();
            }
            Ok(()) = pressure.changed() => {
                drainer.shed(pressure.borrow_and_update().patience());
            }
        }
    }
}

/// An accept loop that ended by a panic or an error would leave its socket deaf: the worker goes
/// with it, and the process says so.
fn answer_for(ended: Option<Result<io::Result<()>, tokio::task::JoinError>>) {
    match ended {
        Some(Err(panic)) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
        Some(Ok(Err(cause))) => {
            std::panic::resume_unwind(Box::new(format!("a listener failed: {cause}")))
        }
        _ => {}
    }
}

async fn take_dealt<S: Service>(
    mut queue: mpsc::Receiver<Dealt>,
    room: Rc<Room<S>>,
) -> io::Result<()> {
    while let Some(Dealt { stream, listener, ticket }) = queue.recv().await {
        room.sink.inc(Counter::Connections);
        match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => room.serve(stream, Peer::Unix, listener, ticket),
            Err(_) => room.sink.inc(Counter::AcceptErrors),
        }
    }
    Ok(())
}

impl<S: Service> Room<S> {
    fn accepted(&self, stream: tokio::net::TcpStream, from: SocketAddr, listener: usize) {
        self.sink.inc(Counter::Connections);
        let peer = Peer::Tcp(SocketAddr::new(from.ip().to_canonical(), from.port()));
        let is_greeted = self.doors.get(listener).is_some_and(|door| door.proxy_header().is_some());
        let admitted = if is_greeted {
            self.caps.admit_unknown(&stream, self.index)
        } else {
            self.caps.admit(&stream, &peer, self.index)
        };
        match admitted {
            Ok(ticket) => self.serve(stream, peer, listener, ticket),
            Err(why) => self.sink.close(why),
        }
    }

    fn serve<IO>(&self, mut io: IO, peer: Peer, listener: usize, mut ticket: Ticket)
    where
        IO: Peek + AsyncWrite + 'static,
    {
        let Some(door) = self.doors.get(listener).cloned() else { return };
        let Some(rules) = door.proxy_header() else {
            self.connections.spawn_local(serve(io, peer, door, ticket));
            return;
        };
        let sink = self.sink.clone();
        self.connections.spawn_local(async move {
            let greeted = greet(&mut io, peer, door, &rules, &mut ticket, &sink).await;
            if let Some((peer, door)) = greeted {
                serve(io, peer, door, ticket).await;
            }
        });
    }
}

/// Connections on their way to one worker; the kernel's queue holds more.
const DEALT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;
    use crate::http::{Done, Exchange, Head, Step, Trust};
    use crate::listener::Phase;

    struct Nobody;

    impl Service for Nobody {
        fn decide(&self, _: &Head<'_>, _: &Exchange) -> Step {
            unreachable!("no request is sent")
        }

        fn finished(&self, _: &Exchange, _: &Done) {}
    }

    #[test]
    fn a_worker_that_panics_is_heard_of() {
        let clock = Clock::system();
        let (_phase, phase) = watch::channel(Phase::Serving);
        let (_pressure, pressure) = watch::channel(Pressure::Calm);
        let (died, mut dead) = mpsc::channel(1);
        let limits = schema::Limits::default();
        let seat = Seat {
            index: 7,
            tcp: Vec::new(),
            caps: Caps::new(&limits, Arc::new(Trust::default()), clock.clone(), 1),
            limits: Limits::default(),
            clock,
            sink: Sink::detached(),
            phase,
            pressure,
            died,
        };
        let worker = spawn::<Nobody, _>(seat, || panic!("on purpose")).unwrap();
        assert_eq!(dead.blocking_recv(), Some(7));
        assert!(worker.thread.join().is_err());
    }
}
