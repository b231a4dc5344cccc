//! One request and its answer over a pooled connection. Nothing is ever sent twice here: whether to
//! try again is the person's decision, and is counted.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::pool::{Connection, NoConnection, Pool};
use super::wire::{self, Body, Reply};

/// Why there was no complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoAnswer {
    /// The connection was refused: nobody listens.
    Refused,
    /// No connection came about for another reason.
    NoConnection,
    /// The connection ended before the answer was complete.
    Closed,
    /// It took longer than `timeout_ms`.
    Timeout,
    /// What came is not HTTP/1.
    Malformed,
}

impl NoAnswer {
    /// Name in reports.
    pub fn label(self) -> &'static str {
        match self {
            NoAnswer::Refused => "connection_refused",
            NoAnswer::NoConnection => "connection_failed",
            NoAnswer::Closed => "closed_without_answer",
            NoAnswer::Timeout => "timeout",
            NoAnswer::Malformed => "malformed",
        }
    }

    /// Whether the request provably never left.
    pub fn is_unsent(self) -> bool {
        matches!(self, NoAnswer::Refused | NoAnswer::NoConnection)
    }
}

/// Sends `request` from `source` and reads the answer, within `timeout`. `sending` is told when the
/// first byte is about to be written.
pub async fn exchange(
    pool: &Pool,
    source: u32,
    request: &[u8],
    timeout: Duration,
    sending: impl FnOnce(Instant),
) -> Result<Reply, NoAnswer> {
    let whole = async {
        let mut lease = pool.lease(source).await.map_err(|cause| match cause {
            NoConnection::Refused => NoAnswer::Refused,
            NoConnection::Failed => NoAnswer::NoConnection,
        })?;
        sending(Instant::now());
        let (reply, keep) = once(&mut lease.connection, request).await?;
        if keep {
            pool.give_back(lease);
        }
        Ok(reply)
    };
    tokio::time::timeout(timeout, whole).await.unwrap_or(Err(NoAnswer::Timeout))
}

async fn once(connection: &mut Connection, request: &[u8]) -> Result<(Reply, bool), NoAnswer> {
    let Connection { stream, buffer, .. } = connection;
    stream.write_all(request).await.map_err(|_| NoAnswer::Closed)?;
    let head = loop {
        match wire::head(buffer) {
            Ok(Some(head)) => break head,
            Ok(None) => {}
            Err(_) => return Err(NoAnswer::Malformed),
        }
        buffer.reserve(4 * 1024);
        match stream.read_buf(buffer).await {
            Ok(0) | Err(_) => return Err(NoAnswer::Closed),
            Ok(_) => {}
        }
    };
    let mut keep = head.keep_alive;
    let mut reply = head.reply;
    let mut body = Body::new(head.framing);
    let mut used = head.bytes;
    loop {
        let took = body.feed(&buffer[used..], &mut reply).map_err(|_| NoAnswer::Malformed)?;
        bytes::Buf::advance(buffer, used + took);
        used = 0;
        if body.is_done() {
            break;
        }
        buffer.reserve(16 * 1024);
        match stream.read_buf(buffer).await {
            Ok(0) if body.ends_with_close() => {
                keep = false;
                break;
            }
            Ok(0) | Err(_) => return Err(NoAnswer::Closed),
            Ok(_) => {}
        }
    }
    Ok((reply, keep && buffer.is_empty()))
}
