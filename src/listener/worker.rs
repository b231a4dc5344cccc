//! One worker: a thread, its runtime, its sockets and its connections.
//!
//! It obeys [`Order`]s in the order they come: a connection that was dealt to it is served before a
//! change that came after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Phase;
use super::accept;
use super::caps::{Caps, Ticket};
use super::greet::{Peek, greet};
use super::handshake::Handshakes;
use super::pressure::Pressure;
use crate::clock::Clock;
use crate::http::{self, Door, Drainer, Limits, Peer, Service};
use crate::metrics::{Counter, Sink};
use crate::tls::Front;

/// What one worker needs besides its services.
#[derive(Debug)]
pub struct Seat {
    /// Its number, from 0.
    pub index: usize,
    /// Caps of the process.
    pub caps: Arc<Caps>,
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

/// What a worker is told to do.
pub enum Order<S> {
    /// Serve a connection.
    Serve(Dealt),
    /// Exchange services, open and close listeners.
    Change(Box<Change<S>>),
    /// Say that it is alive.
    Look(oneshot::Sender<()>),
    /// Do this with one of its services, if it has any.
    Do(Errand<S>),
}

/// Something to do on a worker's thread, within its runtime; it must not block.
pub type Errand<S> = Box<dyn FnOnce(&S) + Send>;

/// From now on. Each request sees all of it or nothing.
pub struct Change<S> {
    /// Makes the services, on the worker's thread, from one of the old ones (none at the start): one
    /// for each listener there is, by its number, those that close among them.
    pub make: Make<S>,
    /// Bounds of connections that come from now on.
    pub limits: Limits,
    /// TLS handshakes that this worker may have under way, and how long each may take.
    pub handshakes: (usize, Duration),
    /// TCP sockets of this worker that open, each with the number of its listener.
    pub open: Vec<(usize, std::net::TcpListener)>,
    /// Listeners that close: they take whom the kernel had accepted already, and their connections end
    /// with their current response.
    pub close: Vec<usize>,
    /// Told when it is done.
    pub done: oneshot::Sender<()>,
}

/// Makes the services of a worker.
pub type Make<S> = Box<dyn FnOnce(Option<&S>) -> Vec<(usize, Rc<S>)> + Send>;

/// A connection of a socket that all workers share, on its way to the worker it was dealt to.
#[derive(Debug)]
pub struct Dealt {
    /// The connection, not blocking.
    pub stream: DealtStream,
    /// Who is there.
    pub peer: Peer,
    /// The number of its listener.
    pub listener: usize,
    /// Its ticket.
    pub ticket: Ticket,
}

/// A connection that no runtime has yet.
#[derive(Debug)]
pub enum DealtStream {
    /// Of TCP.
    Tcp(std::net::TcpStream),
    /// Of a Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl std::os::fd::AsRawFd for DealtStream {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        match self {
            DealtStream::Tcp(stream) => stream.as_raw_fd(),
            DealtStream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker<S> {
    /// What it is told.
    pub orders: mpsc::Sender<Order<S>>,
    /// Ends when the phase is [`Phase::Stopped`].
    pub thread: JoinHandle<()>,
}

/// Starts a worker, which has no listener until it is told of one.
pub fn spawn<S: Service>(seat: Seat) -> io::Result<Worker<S>> {
    let (orders, told) = mpsc::channel(ORDERS_MAX);
    let thread = std::thread::Builder::new().name(format!("worker-{}", seat.index));
    let thread = thread.spawn(move || {
        let _watch = Obituary { worker: seat.index, died: seat.died.clone() };
        // A runtime whose tasks are all local: a set of local tasks within another runtime would cost
        // every request one more queue.
        let runtime = Builder::new_current_thread().enable_all().build_local(Default::default());
        match runtime {
            Ok(runtime) => runtime.block_on(work(seat, told)),
            Err(cause) => {
                std::panic::resume_unwind(Box::new(format!("a worker has no runtime: {cause}")))
            }
        }
    })?;
    Ok(Worker { orders, thread })
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
    /// By the numbers of the listeners. One that closes stays until its sockets are empty.
    doors: RefCell<BTreeMap<usize, Rc<Door<S>>>>,
    caps: Arc<Caps>,
    sink: Sink,
    connections: TaskTracker,
    handshakes: Rc<Handshakes>,
}

/// The worker's own side of its orders.
struct Desk<S> {
    room: Rc<Room<S>>,
    drainer: Drainer,
    clock: Clock,
    /// The bounds of the doors that are made now.
    limits: Rc<Limits>,
    /// What closes each listener that has sockets of this worker's own.
    closers: BTreeMap<usize, CancellationToken>,
    /// Loops that accept, one for each socket; each ends with the number of its listener.
    accepting: JoinSet<io::Result<usize>>,
    /// Sockets that are not closed yet, by listener.
    sockets: BTreeMap<usize, usize>,
}

async fn work<S: Service>(seat: Seat, mut told: mpsc::Receiver<Order<S>>) {
    let (mut phase, mut pressure) = (seat.phase, seat.pressure);
    let room = Room {
        index: seat.index,
        doors: RefCell::default(),
        caps: seat.caps,
        connections: TaskTracker::new(),
        // Told what it may be with the first change.
        handshakes: Handshakes::new(seat.sink.clone()),
        sink: seat.sink,
    };
    let mut desk = Desk {
        room: Rc::new(room),
        drainer: Drainer::new(),
        clock: seat.clock,
        limits: Rc::default(),
        closers: BTreeMap::new(),
        accepting: JoinSet::new(),
        sockets: BTreeMap::new(),
    };
    // Not among those that accept: it never ends.
    let mut time = JoinSet::new();
    time.spawn_local(desk.drainer.keep_time());
    loop {
        tokio::select! {
            ended = desk.accepting.join_next(), if !desk.accepting.is_empty() => {
                desk.ended(ended);
            }
            Some(order) = told.recv() => desk.obey(order),
            changed = phase.changed() => {
                let now = *phase.borrow_and_update();
                if changed.is_err() || now == Phase::Stopped {
                    return;
                }
                desk.drainer.begin();
                if now >= Phase::Closed {
                    desk.closers.values().for_each(CancellationToken::cancel);
                }
            }
            Ok(()) = pressure.changed() => {
                desk.drainer.shed(pressure.borrow_and_update().patience());
            }
        }
    }
}

impl<S: Service> Desk<S> {
    /// A socket is empty and closed; the door goes with the last one of its listener. A loop that
    /// ended by a panic or an error would leave its socket deaf: the worker goes with it, and the
    /// process says so.
    fn ended(&mut self, ended: Option<Result<io::Result<usize>, tokio::task::JoinError>>) {
        let listener = match ended {
            Some(Err(panic)) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Some(Ok(Err(cause))) => {
                std::panic::resume_unwind(Box::new(format!("a listener failed: {cause}")))
            }
            Some(Ok(Ok(listener))) => listener,
            _ => return,
        };
        let left = self.sockets.entry(listener).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.sockets.remove(&listener);
            self.shut(listener);
        }
    }

    fn shut(&self, listener: usize) {
        if let Some(door) = self.room.doors.borrow_mut().remove(&listener) {
            door.close();
        }
    }

    fn obey(&mut self, order: Order<S>) {
        match order {
            Order::Serve(dealt) => self.room.dealt(dealt),
            // Who asked may have given up.
            Order::Look(seen) => drop(seen.send(())),
            Order::Change(change) => self.change(*change),
            Order::Do(errand) => {
                let service = self.room.doors.borrow().values().next().map(|door| door.service());
                // Dropped where there is none: who waits for it hears that.
                if let Some(service) = service {
                    errand(&service);
                }
            }
        }
    }

    fn change(&mut self, change: Change<S>) {
        let Change { make, limits, handshakes, open, close, done } = change;
        self.room.handshakes.set(handshakes);
        let same_limits = *self.limits == limits;
        if !same_limits {
            self.limits = Rc::new(limits);
        }
        let old = self.room.doors.borrow().values().next().map(|door| door.service());
        let services = make(old.as_deref());
        let mut doors = self.room.doors.borrow_mut();
        for (listener, service) in services {
            match doors.get_mut(&listener) {
                Some(door) => {
                    door.set_service(service);
                    if !same_limits || !door.fits() {
                        *door = door.with_limits(self.limits.clone());
                    }
                }
                None => {
                    let (clock, sink) = (self.clock.clone(), self.room.sink.clone());
                    let limits = self.limits.clone();
                    let door = Door::new(service, limits, clock, sink, self.drainer.signal());
                    doors.insert(listener, door);
                }
            }
        }
        drop(doors);
        for listener in close {
            match self.closers.remove(&listener) {
                // Its last socket takes the door away.
                Some(closer) => closer.cancel(),
                None => self.shut(listener),
            }
        }
        for (listener, socket) in open {
            self.open(listener, socket);
        }
        // Who asked may have given up.
        let _ = done.send(());
    }

    fn open(&mut self, listener: usize, socket: std::net::TcpListener) {
        let closer = self.closers.entry(listener).or_default().clone();
        let (sink, room) = (self.room.sink.clone(), self.room.clone());
        let take = move |stream, from| room.accepted(stream, from, listener);
        *self.sockets.entry(listener).or_default() += 1;
        self.accepting.spawn_local(async move {
            accept::tcp(socket, closer, sink, take).await?;
            Ok(listener)
        });
    }
}

impl<S: Service> Room<S> {
    fn accepted(&self, stream: tokio::net::TcpStream, from: SocketAddr, listener: usize) {
        self.sink.inc(Counter::Connections);
        let peer = accept::tcp_peer(from);
        match self.caps.admit(&stream, self.index) {
            Ok(ticket) => self.serve(stream, peer, listener, ticket),
            Err(why) => self.sink.close(why),
        }
    }

    fn dealt(&self, dealt: Dealt) {
        let Dealt { stream, peer, listener, ticket } = dealt;
        self.sink.inc(Counter::Connections);
        let served = match stream {
            DealtStream::Tcp(stream) => tokio::net::TcpStream::from_std(stream)
                .map(|stream| self.serve(stream, peer, listener, ticket)),
            DealtStream::Unix(stream) => tokio::net::UnixStream::from_std(stream)
                .map(|stream| self.serve(stream, peer, listener, ticket)),
        };
        if served.is_err() {
            self.sink.inc(Counter::AcceptErrors);
        }
    }

    fn hall(&self) -> Hall {
        Hall { handshakes: self.handshakes.clone(), connections: self.connections.clone() }
    }

    /// The caps of the client are asked when it is known who that is.
    fn serve<IO>(&self, mut io: IO, peer: Peer, listener: usize, mut ticket: Ticket)
    where
        IO: Peek + AsyncWrite + 'static,
    {
        let Some(door) = self.doors.borrow().get(&listener).cloned() else { return };
        let Some(rules) = door.proxy_header() else {
            match ticket.charge(&peer) {
                Ok(()) => self.hall().meet(io, peer, door, ticket),
                Err(why) => self.sink.close(why),
            }
            return;
        };
        let (sink, hall) = (self.sink.clone(), self.hall());
        self.connections.spawn_local(async move {
            let greeted = greet(&mut io, peer, door, &rules, &mut ticket, &sink).await;
            if let Some((peer, door)) = greeted {
                hall.meet(io, peer, door, ticket);
            }
        });
    }
}

/// Where a connection goes when it is known who is there.
struct Hall {
    handshakes: Rc<Handshakes>,
    connections: TaskTracker,
}

impl Hall {
    /// Each in a task of its own, so that the memory of a handshake goes with it.
    fn meet<IO, S>(self, io: IO, peer: Peer, door: Rc<Door<S>>, ticket: Ticket)
    where
        IO: Peek + AsyncWrite + 'static,
        S: Service,
    {
        let Hall { handshakes, connections } = self;
        let all = connections.clone();
        match door.front() {
            Front { tls: Some(server), .. } => {
                let io: http::Plain = Box::new(io);
                all.spawn_local(async move {
                    let Some(stream) = handshakes.shake(&server, io).await else { return };
                    let terms = server.terms(stream.get_ref().1);
                    let door = terms.map_or(door.clone(), |terms| door.with_terms(terms));
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        let io = Box::new(stream);
                        connections.spawn_local(http::serve_h2(io, peer, door, ticket));
                    } else {
                        connections.spawn_local(http::serve(stream, peer, door, ticket));
                    }
                });
            }
            Front { http2: true, .. } => {
                let io: http::Plain = Box::new(io);
                all.spawn_local(async move {
                    let Some((io, is_h2)) = http::sniff(io, &door).await else { return };
                    if is_h2 {
                        connections.spawn_local(http::serve_h2(Box::new(io), peer, door, ticket));
                    } else {
                        connections.spawn_local(http::serve(io, peer, door, ticket));
                    }
                });
            }
            Front { .. } => drop(all.spawn_local(http::serve(io, peer, door, ticket))),
        }
    }
}

/// Orders on their way to one worker; the kernel's queues hold more connections.
const ORDERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;
    use crate::http::{Done, Exchange, Head, Step, Trust};

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
        let caps =
            Caps::new(&schema::Limits::default(), Arc::new(Trust::default()), clock.clone(), 1);
        let seat = Seat { index: 7, caps, clock, sink: Sink::detached(), phase, pressure, died };
        let worker = spawn::<Nobody>(seat).unwrap();
        let (done, _) = oneshot::channel();
        let (open, close) = (Vec::new(), Vec::new());
        let handshakes = (1, Duration::from_secs(1));
        let make: Make<Nobody> = Box::new(|_| panic!("on purpose"));
        let change = Change { make, limits: Limits::default(), handshakes, open, close, done };
        assert!(worker.orders.blocking_send(Order::Change(Box::new(change))).is_ok());
        assert_eq!(dead.blocking_recv(), Some(7));
        assert!(worker.thread.join().is_err());
    }
}
