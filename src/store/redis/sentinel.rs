//! Which server is the master, by its Sentinels.
//!
//! All are asked at once, and the answer with the highest configuration epoch wins: each failover has
//! a higher one, so a Sentinel that was cut off cannot lead us back to an old master.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::decode;
use super::dial::{ask, open};
use super::fault::Fault;
use super::pace::Backoff;
use super::target::{Peer, Server, Target};
use crate::config::redis_url::Host;

/// The Sentinels of one master.
#[derive(Clone, Debug)]
pub(super) struct Sentinels {
    target: Target,
    hosts: Vec<Host>,
    master: String,
}

/// What one Sentinel says.
struct Said {
    epoch: u64,
    master: Host,
}

impl Sentinels {
    pub(super) fn new(target: Target, hosts: Vec<Host>, master: String) -> Sentinels {
        Sentinels { target, hosts, master }
    }

    /// The master that most Sentinels have had time to speak about, or why nobody says.
    pub(super) async fn master(&self) -> Result<Host, String> {
        let mut asked = JoinSet::new();
        for host in &self.hosts {
            let (all, host) = (self.clone(), host.clone());
            asked.spawn(async move {
                let said = all.one(&host).await;
                said.map_err(|why| format!("the Sentinel at {host}: {why}"))
            });
        }
        let (mut newest, mut heard, mut whys) = (None::<Said>, 0, Vec::new());
        while let Some(said) = asked.join_next().await {
            match said {
                Ok(Ok(said)) => {
                    heard += 1;
                    if newest.as_ref().is_none_or(|newest| said.epoch > newest.epoch) {
                        newest = Some(said);
                    }
                }
                Ok(Err(why)) => whys.push(why),
                Err(error) => whys.push(error.to_string()),
            }
            // No failover happens without most of them.
            if heard > self.hosts.len() / 2 {
                break;
            }
        }
        whys.sort();
        newest.map(|said| said.master).ok_or_else(|| whys.join("; "))
    }

    /// Resolves when another master is named than `known`.
    pub(super) async fn moved_from(&self, known: &Host) -> Host {
        let (mut backoff, mut is_deaf) = (Backoff::default(), false);
        loop {
            let (mut was_heard, mut last) = (false, String::new());
            for host in &self.hosts {
                match self.watch(host, known, &mut was_heard).await {
                    Ok(master) => return master,
                    Err(why) => last = format!("the Sentinel at {host}: {why}"),
                }
            }
            if was_heard {
                backoff.reset();
            } else if !is_deaf {
                tracing::warn!("no Sentinel answers, so a failover is not heard of: {last}");
            }
            is_deaf = !was_heard;
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn one(&self, host: &Host) -> Result<Said, String> {
        let server = Server::Tcp(host.clone());
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (mut connection, closed) =
            open(&self.target, &server, Peer::Sentinel, ProtocolVersion::RESP2, config).await?;
        let _close = closed.drop_guard();
        self.ask(&mut connection).await
    }

    async fn ask(&self, connection: &mut MultiplexedConnection) -> Result<Said, String> {
        let mut cmd = redis::cmd("SENTINEL");
        cmd.arg("MASTER").arg(&self.master);
        let answer = timeout(self.target.connect_timeout, ask(connection, &cmd)).await;
        match answer.map_err(|_| "no answer in time")?? {
            Ok(value) => read(value).ok_or_else(|| "its answer makes no sense".into()),
            Err(Fault::Server { detail, .. }) if detail.contains("No such master") => {
                Err(format!("it knows no master called {}: look at store.url", self.master))
            }
            Err(fault) => Err(fault.text()),
        }
    }

    /// Listens to one Sentinel and asks it every second, since a message may be lost. What it says is
    /// believed when the others do not know better.
    async fn watch(&self, host: &Host, known: &Host, was_heard: &mut bool) -> Result<Host, String> {
        let (switched, mut heard) = mpsc::channel(1);
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(
            move |push: PushInfo| {
                if push.kind == PushKind::Message {
                    let _ = switched.try_send(());
                }
                Ok::<(), ()>(())
            },
        );
        let server = Server::Tcp(host.clone());
        let (mut connection, closed) =
            open(&self.target, &server, Peer::Sentinel, ProtocolVersion::RESP3, config).await?;
        let _close = closed.clone().drop_guard();
        let subscribed = timeout(self.target.connect_timeout, connection.subscribe(SWITCHED)).await;
        subscribed.map_err(|_| "no answer to SUBSCRIBE")?.map_err(|error| error.to_string())?;
        loop {
            let said = self.ask(&mut connection).await?;
            *was_heard = true;
            if said.master != *known
                && let Ok(master) = self.master().await
                && master != *known
            {
                return Ok(master);
            }
            tokio::select! {
                () = closed.cancelled() => return Err("the connection was lost".into()),
                _ = heard.recv() => {}
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
        }
    }
}

/// The flat list of `SENTINEL MASTER`.
fn read(value: Value) -> Option<Said> {
    let words: Vec<String> = match value {
        Value::Array(flat) => flat.into_iter().filter_map(|v| decode::text(v).ok()).collect(),
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(k, v)| {
                [decode::text(k).unwrap_or_default(), decode::text(v).unwrap_or_default()]
            })
            .collect(),
        _ => return None,
    };
    let field = |name: &str| {
        words.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
    };
    let port = field("port")?.parse().ok().filter(|port| *port > 0)?;
    let master = Host { name: field("ip")?.to_owned(), port };
    Some(Said { epoch: field("config-epoch")?.parse().ok()?, master })
}

/// The channel on which Sentinels tell of a failover.
const SWITCHED: &str = "+switch-master";

/// Between two questions to the Sentinel that is listened to.
const ASK_EVERY: Duration = Duration::from_secs(1);
