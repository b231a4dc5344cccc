//! Publish and subscribe: makes a change known within a round trip. Messages may be lost; the poll is
//! the guarantee.

use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, Value};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, timeout};

use super::READ_TIMEOUT;
use super::dial::open;
use super::keys::{self, Word};
use super::pace::Backoff;
use super::routes::Routes;
use super::slot::Slot;
use super::target::Peer;
use crate::ident::SaleId;

/// What the bus says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A message.
    Word(Word),
    /// Subscribed anew: what was said before went unheard.
    Anew,
}

/// Publishes every sale that changed.
pub(super) async fn publish(routes: Arc<Routes>, mut changed: Receiver<SaleId>) {
    while let Some(sale) = changed.recv().await {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(keys::BUS).arg(sale.to_string());
        // In a cluster any node tells all. Lost or refused, the poll tells it.
        let (slot, end) = (Slot::of_sale(&sale), Instant::now() + READ_TIMEOUT);
        if let Err(fault) = routes.send(slot, &publish, end).await {
            tracing::debug!(%sale, ?fault, "a change was not published");
        }
    }
}

/// Listens to the bus for as long as it is polled, on a connection of its own to a server that is
/// used. Where `heard` is full a message is dropped.
pub(super) async fn listen(routes: &Routes, heard: &Sender<Heard>) {
    let mut backoff = Backoff::default();
    loop {
        if let Err(why) = subscribed(routes, heard, &mut backoff).await {
            tracing::debug!(%why, "not subscribed");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn subscribed(
    routes: &Routes,
    heard: &Sender<Heard>,
    backoff: &mut Backoff,
) -> Result<(), String> {
    let (server, left) = routes.any().ok_or("Redis is not connected")?;
    let target = routes.target();
    let words = heard.clone();
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(
        move |push: PushInfo| {
            if let Some(word) = word(&push) {
                let _ = words.try_send(Heard::Word(word));
            }
            Ok::<(), ()>(())
        },
    );
    let (mut connection, closed) =
        open(target, &server, Peer::Redis, ProtocolVersion::RESP3, config).await?;
    let _close = closed.clone().drop_guard();
    match timeout(target.connect_timeout, connection.subscribe(keys::BUS)).await {
        Ok(done) => done.map_err(|e| e.to_string())?,
        Err(_) => return Err("no answer to SUBSCRIBE".into()),
    }
    backoff.reset();
    let _ = heard.try_send(Heard::Anew);
    loop {
        tokio::select! {
            () = closed.cancelled() => return Err("the connection was lost".into()),
            // Another server may be the master, and this one cut off from it.
            () = left.cancelled() => return Err("the server is not used any more".into()),
            () = tokio::time::sleep(PING) => {}
        }
        // A dead peer says nothing, and says nothing of being dead.
        let ping = redis::cmd("PING");
        match timeout(PING, connection.send_packed_command(&ping)).await {
            Ok(Ok(Value::ServerError(error))) => return Err(error.to_string()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("no answer to PING".into()),
        }
    }
}

fn word(push: &PushInfo) -> Option<Word> {
    match (&push.kind, push.data.as_slice()) {
        (PushKind::Message, [_, Value::BulkString(text)]) => Word::parse(text),
        _ => None,
    }
}

/// Between two looks at whether the connection lives, and how long an answer may take.
const PING: Duration = Duration::from_secs(1);
