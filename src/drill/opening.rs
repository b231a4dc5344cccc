//! When the sale opens, on our own monotonic clock: from the setting, or from what the target's
//! availability flag says about its own clock.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::client::{NoAnswer, exchange};
use super::pool::Pool;
use super::wire::{self, Reply};
use super::{DrillError, Opens, Settings};
use crate::clock::{Clock, UnixMs};

/// The start of the drill and T0.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// When the drill began.
    pub start: Instant,
    /// The same on the wall clock.
    pub start_wall: UnixMs,
    /// When the sale opens; the start itself, if it is open already.
    pub t0: Instant,
    /// Requests that it took to find out.
    pub probes: u64,
}

impl Opening {
    /// Milliseconds from the start to T0.
    pub fn lead_ms(&self) -> u64 {
        u64::try_from((self.t0 - self.start).as_millis()).unwrap_or(0)
    }
}

/// What an availability answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flag {
    /// `state`.
    pub state: String,
    /// `buyable`.
    pub buyable: bool,
    /// `final`.
    pub is_final: bool,
    /// `opens_at_ms`.
    pub opens_at_ms: Option<u64>,
    /// `server_time_ms`.
    pub server_time_ms: Option<u64>,
    /// `poll_ms`; none: stop.
    pub poll_ms: Option<u64>,
    /// `jitter_ms`.
    pub jitter_ms: u64,
}

impl Flag {
    /// Reads the bare object or the one in an envelope; None if it is neither.
    pub fn read(reply: &Reply) -> Option<Flag> {
        let body: Value = serde_json::from_slice(&reply.body).ok()?;
        let flag = body.get("data").filter(|data| data.is_object()).unwrap_or(&body);
        let number = |name: &str| flag.get(name).and_then(Value::as_u64);
        let yes = |name: &str| flag.get(name).and_then(Value::as_bool).unwrap_or(false);
        Some(Flag {
            state: flag.get("state")?.as_str()?.to_owned(),
            buyable: yes("buyable"),
            is_final: yes("final"),
            opens_at_ms: number("opens_at_ms"),
            server_time_ms: number("server_time_ms"),
            poll_ms: number("poll_ms"),
            jitter_ms: number("jitter_ms").unwrap_or(0),
        })
    }
}

/// Asks the target and fixes T0. An error only if nobody answers at all.
pub async fn find(settings: &Settings, address: SocketAddr) -> Result<Opening, DrillError> {
    let clock = Clock::system();
    let path = settings.paths.availability.as_ref().or(settings.paths.page.as_ref());
    let asked = match path {
        Some(path) => Some(ask(settings, address, path).await?),
        None => None,
    };
    let start = Instant::now();
    let start_wall = clock.now().wall;
    let wait_ms = match (settings.opens, asked.flatten()) {
        (Opens::At(at), _) => at.since(start_wall),
        (Opens::Asked { .. }, Some(Seen { flag, half_way, .. })) if flag.opens_at_ms.is_some() => {
            // The server read its clock about half-way between our request and its answer.
            let server_ms = flag.server_time_ms.unwrap_or(start_wall.0);
            let passed = start.saturating_duration_since(half_way).as_millis();
            let server_now = server_ms + u64::try_from(passed).unwrap_or(0);
            flag.opens_at_ms.unwrap_or(0).saturating_sub(server_now)
        }
        (Opens::Asked { or_in_ms }, _) => or_in_ms,
    };
    let t0 = start + Duration::from_millis(wait_ms);
    Ok(Opening { start, start_wall, t0, probes: u64::from(path.is_some()) })
}

struct Seen {
    flag: Flag,
    half_way: Instant,
}

async fn ask(
    settings: &Settings,
    address: SocketAddr,
    path: &str,
) -> Result<Option<Seen>, DrillError> {
    let pool = Pool::new(address, 1, false);
    let host = settings.dress.host.clone().unwrap_or_else(|| settings.target.authority());
    let request = wire::request("GET", path, &host, "Accept: application/json\r\n", None);
    let timeout = Duration::from_millis(settings.timeout_ms);
    let sent = Instant::now();
    match exchange(&pool, 0, &request, timeout, |_| {}).await {
        Ok(reply) => {
            let half_way = sent + sent.elapsed() / 2;
            Ok(Flag::read(&reply).map(|flag| Seen { flag, half_way }))
        }
        Err(cause @ (NoAnswer::Refused | NoAnswer::NoConnection)) => {
            let target = settings.target.authority();
            Err(DrillError::Unreachable { target, cause: cause.label().replace('_', " ") })
        }
        // It answers badly, but it is there: that is what a drill finds out.
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &str) -> Reply {
        Reply { body: body.as_bytes().to_vec(), ..Reply::default() }
    }

    #[test]
    fn flags_are_read_bare_and_in_an_envelope() {
        let bare = r#"{"state":"not_started","buyable":false,"final":false,"opens_at_ms":5,"server_time_ms":3,"poll_ms":20,"jitter_ms":10}"#;
        let flag = Flag::read(&reply(bare)).unwrap();
        assert_eq!((flag.opens_at_ms, flag.poll_ms, flag.jitter_ms), (Some(5), Some(20), 10));
        let wrapped = format!(r#"{{"code":0,"data":{bare}}}"#);
        assert_eq!(Flag::read(&reply(&wrapped)), Some(flag));
        assert_eq!(
            Flag::read(&reply(r#"{"state":"ended","poll_ms":null}"#)).unwrap().poll_ms,
            None
        );
        assert_eq!(Flag::read(&reply("<html>")), None);
        assert_eq!(Flag::read(&reply(r#"{"error":"no"}"#)), None);
    }
}
