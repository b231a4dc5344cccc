//! From a sale to the server that has it: one link, or the links of a cluster.
//!
//! What a server says it did not do (`MOVED`, `TRYAGAIN`, `LOADING`, …) is sent again, there or
//! elsewhere, until the caller's deadline; then it is said to be not applied. What may have been
//! applied is never sent again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::context::Context;
use super::fault::{Again, Fault};
use super::link::{Link, Seat};
use super::sentinel::Sentinels;
use super::slot::Slot;
use super::target::{Server, Target};
use crate::clock::Clock;
use crate::config::redis_url::{Host, Place};
use crate::metrics::{Counter, Sink};

/// The way to every sale.
#[derive(Debug)]
pub(super) struct Routes {
    context: Arc<Context>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Link(Box<Link>),
    Cluster(Cluster),
}

/// One command, and perhaps one that goes with it.
#[derive(Clone, Copy)]
struct Call<'a> {
    cmd: &'a Cmd,
    then: Option<&'a Cmd>,
}

impl Call<'_> {
    async fn send(self, link: &Link, end: Instant) -> Result<(Value, Option<Value>), Fault> {
        let Some(then) = self.then else { return Ok((link.send(self.cmd, end).await?, None)) };
        let mut both = redis::pipe();
        both.add_command(self.cmd.clone()).add_command(then.clone());
        let mut answers = link.send_all(&both, end).await?.into_iter();
        let first = answers.next().unwrap_or(Err(Fault::Maybe))?;
        Ok((first, answers.next().and_then(Result::ok)))
    }
}

impl Routes {
    /// Must be called inside the runtime on which the connections shall live.
    pub(super) fn new(target: Target, clock: Clock, sink: Sink) -> Routes {
        let place = target.place.clone();
        let context = Arc::new(Context::new(target.clone(), clock, sink));
        let link = |seat| Way::Link(Box::new(Link::new(context.clone(), seat)));
        let way = match place {
            Place::Server(host) => link(Seat::Fixed(Server::Tcp(host))),
            Place::Socket(path) => link(Seat::Fixed(Server::Unix(path))),
            Place::Sentinel { sentinels, master } => {
                link(Seat::Named(Box::new(Sentinels::new(target, sentinels, master))))
            }
            Place::Cluster(seeds) => Way::Cluster(Cluster::new(context.clone(), seeds)),
        };
        Routes { context, way }
    }

    /// Keeps the connections for as long as it is polled.
    pub(super) async fn supervise(&self) {
        match &self.way {
            Way::Link(link) => link.supervise().await,
            Way::Cluster(cluster) => cluster.supervise().await,
        }
    }

    /// Sends one command and waits for its answer until `end`.
    pub(super) async fn send(&self, slot: Slot, cmd: &Cmd, end: Instant) -> Result<Value, Fault> {
        self.deliver(slot, Call { cmd, then: None }, end).await.map(|(value, _)| value)
    }

    /// The same, and sends `then` behind it on the same connection. `None` in place of its answer
    /// where it was refused, or not sent because the slot is being moved.
    pub(super) async fn send_then(
        &self,
        slot: Slot,
        cmd: &Cmd,
        then: &Cmd,
        end: Instant,
    ) -> Result<(Value, Option<Value>), Fault> {
        self.deliver(slot, Call { cmd, then: Some(then) }, end).await
    }

    async fn deliver(
        &self,
        slot: Slot,
        call: Call<'_>,
        end: Instant,
    ) -> Result<(Value, Option<Value>), Fault> {
        let (mut ask, mut hops, mut pause) = (None, 0, PAUSE_MIN);
        loop {
            let fault = match self.once(slot, call, ask.take(), end).await {
                Ok(values) => return Ok(values),
                Err(fault) => fault,
            };
            let again = match (fault.again(), &self.way) {
                // Only a cluster sends elsewhere.
                (Some(Again::Moved(_) | Again::Ask(_)), Way::Link(_)) | (None, _) => {
                    return Err(self.last(fault));
                }
                (Some(again), _) => again,
            };
            let is_later = again == Again::Later;
            let counter = if is_later { Counter::StoreRetries } else { Counter::StoreRedirects };
            self.context.sink.inc(counter);
            if let Way::Cluster(cluster) = &self.way {
                match again {
                    Again::Moved(host) => cluster.moved(slot, host),
                    Again::Ask(host) => ask = Some(cluster.named(slot, host)),
                    Again::Later => self.context.astray.notify_one(),
                }
            }
            hops += 1;
            let is_paused = is_later || hops > HOPS_AT_ONCE;
            let wait = if is_paused { pause.mul_f64(rand::random_range(0.5..=1.0)) } else { ZERO };
            // What is sent too late to be answered would be unknown, and it is known now.
            if Instant::now() + wait + ANSWER_MIN > end {
                return Err(self.last(fault));
            }
            if is_paused {
                tokio::time::sleep(wait).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Sends several commands at once, those of one server together. Each has an answer of its own.
    pub(super) async fn send_each(
        &self,
        all: Vec<(Slot, Cmd)>,
        end: Instant,
    ) -> Vec<Result<Value, Fault>> {
        match &self.way {
            Way::Link(link) => together(link, all.iter().map(|(_, cmd)| cmd), end).await,
            Way::Cluster(cluster) => self.send_to_each(cluster, all, end).await,
        }
    }

    async fn send_to_each(
        &self,
        cluster: &Cluster,
        all: Vec<(Slot, Cmd)>,
        end: Instant,
    ) -> Vec<Result<Value, Fault>> {
        let all = Arc::new(all);
        let mut answers: Vec<Result<Value, Fault>> =
            all.iter().map(|_| Err(Fault::Maybe)).collect();
        let mut by_link: BTreeMap<usize, (Arc<Link>, Vec<usize>)> = BTreeMap::new();
        for (at, (slot, _)) in all.iter().enumerate() {
            match cluster.of_slot(*slot) {
                Ok(link) => {
                    let address = Arc::as_ptr(&link).addr();
                    let (_, ats) = by_link.entry(address).or_insert((link, Vec::new()));
                    ats.push(at);
                }
                Err(fault) => answers[at] = Err(self.last(fault)),
            }
        }
        let mut flying = JoinSet::new();
        for (link, ats) in by_link.into_values() {
            let all = all.clone();
            let flight = async move {
                let said = together(&link, ats.iter().map(|at| &all[*at].1), end).await;
                ats.into_iter().zip(said).collect::<Vec<_>>()
            };
            flying.spawn_on(flight, cluster.runtime());
        }
        while let Some(said) = flying.join_next().await {
            for (at, answer) in said.unwrap_or_default() {
                answers[at] = match answer {
                    Err(fault)
                        if matches!(fault.again(), Some(Again::Moved(_) | Again::Ask(_))) =>
                    {
                        let (slot, cmd) = &all[at];
                        self.send(*slot, cmd, end).await
                    }
                    answer => answer.map_err(|fault| self.last(fault)),
                };
            }
        }
        answers
    }

    /// Why nobody may be admitted to the sales of this slot although Redis answers.
    pub(super) fn refusal(&self, slot: Slot) -> Option<Arc<String>> {
        match &self.way {
            Way::Link(link) => link.refusal(),
            Way::Cluster(cluster) => cluster.known(slot)?.refusal(),
        }
    }

    /// What is wrong, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.way {
            Way::Link(link) => link.trouble(),
            Way::Cluster(cluster) => cluster.trouble(),
        }
    }

    /// A server that is connected, and the token of that connection's end: a message that is published
    /// anywhere in a cluster is heard everywhere.
    pub(super) fn any(&self) -> Option<(Server, CancellationToken)> {
        match &self.way {
            Way::Link(link) => link.connected(),
            Way::Cluster(cluster) => cluster.links().iter().find_map(|link| link.connected()),
        }
    }

    /// Where Redis is.
    pub(super) fn target(&self) -> &Target {
        &self.context.target
    }

    /// Resolves at the next connection.
    pub(super) fn connected(&self) -> impl Future<Output = ()> + '_ {
        self.context.connected.notified()
    }

    /// Resolves when the first attempt to connect has ended, well or not.
    pub(super) async fn tried(&self) {
        self.context.tried.cancelled().await;
    }

    async fn once(
        &self,
        slot: Slot,
        call: Call<'_>,
        ask: Option<Host>,
        end: Instant,
    ) -> Result<(Value, Option<Value>), Fault> {
        let cluster = match &self.way {
            Way::Link(link) => return call.send(link, end).await,
            Way::Cluster(cluster) => cluster,
        };
        match ask {
            None => {
                let link = cluster.of_slot(slot)?;
                link.ready(end).await;
                call.send(&link, end).await
            }
            Some(host) => {
                let link = cluster.to(&host, true);
                link.ready(end).await;
                Ok((link.send_asking(call.cmd, end).await?, None))
            }
        }
    }

    /// What the caller hears. A master that is away closes its own sales, not those of the others, so
    /// in a cluster it is no loss of the store.
    fn last(&self, fault: Fault) -> Fault {
        if fault.again().is_some() {
            self.context.sink.inc(Counter::StoreErrors);
        }
        let is_reached = match &self.way {
            Way::Link(_) => false,
            Way::Cluster(cluster) => !cluster.links().is_empty(),
        };
        match fault {
            Fault::NotSent(why) if is_reached => Fault::Away(why),
            fault if is_reached && fault.again().is_some() => Fault::Away(fault.text()),
            fault => fault,
        }
    }
}

/// One pipeline. Where there is no connection, all have the same answer.
async fn together<'a>(
    link: &Link,
    all: impl ExactSizeIterator<Item = &'a Cmd> + Clone,
    end: Instant,
) -> Vec<Result<Value, Fault>> {
    let mut pipeline = redis::pipe();
    all.clone().for_each(|cmd| {
        pipeline.add_command(cmd.clone());
    });
    match link.send_all(&pipeline, end).await {
        Ok(answers) => answers,
        Err(fault) => all.map(|_| Err(fault.clone())).collect(),
    }
}

/// Redirects that are followed without a pause: one by a stale table, one to a slot on its way.
const HOPS_AT_ONCE: u32 = 2;

/// Pauses before a command is sent again: doubled each time, with jitter.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
const ZERO: Duration = Duration::ZERO;

/// Time that an answer gets: nothing is sent again with less.
const ANSWER_MIN: Duration = Duration::from_millis(4);
