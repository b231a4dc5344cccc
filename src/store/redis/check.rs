//! What must hold before Redis is trusted with a ledger, looked at with every new connection and
//! every few seconds.

use redis::aio::MultiplexedConnection;

use super::dial::ask;
use super::fault::Fault;
use super::scripts;

/// What the server is taken for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected<'a> {
    /// The one server of the settings.
    Any,
    /// What the Sentinels name as master.
    Master,
    /// A master of a cluster, with a hash tag of one of its slots, if it has any.
    ClusterMaster(Option<&'a str>),
}

/// What was found; the error beside it says that the server cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It can be read.
    Usable {
        /// Why nobody may be admitted, if so.
        refusal: Option<String>,
        /// What an operator should change nevertheless.
        advice: Vec<String>,
    },
    /// It is not the master that it was taken for: look for that one.
    Astray(String),
}

/// Checks everything.
pub(super) async fn whole(
    connection: &mut MultiplexedConnection,
    expected: Expected<'_>,
) -> Result<Found, String> {
    let info = match ask(connection, &redis::cmd("INFO")).await? {
        Ok(value) => redis::from_redis_value::<String>(value)
            .map_err(|_| "INFO has an odd answer".to_owned())?,
        Err(fault) => return Err(format!("INFO is needed and was refused: {}", fault.text())),
    };
    let advice = match judge(&info, expected)? {
        Found::Usable { refusal: None, advice } => advice,
        found => return Ok(found),
    };
    // Rights, memory and disk: every command that a script uses is tried on a key of its own, since
    // one that fails in the middle of a script would leave the ledger half written.
    let tag = match expected {
        Expected::ClusterMaster(None) => return Ok(Found::Usable { refusal: None, advice }),
        Expected::ClusterMaster(Some(tag)) => tag,
        Expected::Any | Expected::Master => "probe",
    };
    let refusal = match ask(connection, &scripts::probe(tag)).await? {
        Ok(_) => None,
        Err(fault) if has_moved(&fault) => None,
        Err(fault) => Some(fault.text()),
    };
    Ok(Found::Usable { refusal, advice })
}

/// What is odd about a clock that is so far ahead of this machine's.
pub(super) fn clock(offset_ms: i64) -> Option<String> {
    let away_ms = offset_ms.unsigned_abs();
    (away_ms > CLOCK_AWAY_MS).then(|| {
        let side = if offset_ms > 0 { "ahead of" } else { "behind" };
        format!(
            "its clock is more than {CLOCK_AWAY_MS} ms {side} this machine's. Sales open by the \
             clock of Redis: discipline both with NTP"
        )
    })
}

/// What the slot of the probe tells is told of the slot, not of this server.
fn has_moved(fault: &Fault) -> bool {
    matches!(fault, Fault::Server { code, .. } if matches!(code.as_str(), "MOVED" | "ASK" | "TRYAGAIN"))
}

/// What `INFO` tells.
fn judge(info: &str, expected: Expected<'_>) -> Result<Found, String> {
    let field = |name: &str| {
        info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    if field("loading") == Some("1") {
        return Err("it is loading its data; it can be used when that is done".into());
    }
    let is_cluster = field("cluster_enabled") == Some("1");
    match expected {
        Expected::ClusterMaster(_) if !is_cluster => {
            return Err("it is no node of a Redis Cluster: begin store.url with redis://".into());
        }
        Expected::Any | Expected::Master if is_cluster => {
            return Err(
                "it is a node of a Redis Cluster: begin store.url with redis+cluster://, or \
                        rediss+cluster:// for TLS"
                    .into(),
            );
        }
        _ => {}
    }
    let version = field("redis_version").unwrap_or("unknown");
    if !is_new_enough(version) {
        return Err(format!("its version is {version}; 6.2 or newer is needed"));
    }
    // The same word as in ROLE, which would be one more right.
    let is_replica = field("role") == Some("slave");
    let refusal = match (expected, field("maxmemory_policy")) {
        (Expected::Any, _) if is_replica => Some(REPLICA.to_owned()),
        _ if is_replica => {
            return Ok(Found::Astray(
                "it is a replica and no master; a failover is under way".into(),
            ));
        }
        (_, Some("noeviction")) => None,
        (_, Some(policy)) => Some(format!(
            "its maxmemory-policy is {policy}: it could forget admissions. \
             Set maxmemory-policy noeviction; nobody is admitted until then"
        )),
        (_, None) => Some(
            "its INFO does not tell maxmemory_policy, so it may forget admissions: \
             nobody is admitted"
                .into(),
        ),
    };
    Ok(Found::Usable { refusal, advice: advice(field, expected) })
}

/// What does not keep us from admitting, but would cost admissions after a failure.
fn advice<'a>(field: impl Fn(&str) -> Option<&'a str>, expected: Expected<'_>) -> Vec<String> {
    let mut advice = Vec::new();
    if field("aof_enabled") == Some("0") {
        advice.push(
            "appendonly is off: a restart forgets admissions. Set appendonly yes, and CONFIG REWRITE"
                .to_owned(),
        );
    }
    let replicas = field("connected_slaves").and_then(|n| n.parse::<u32>().ok());
    match (replicas, expected) {
        (Some(0), Expected::Master | Expected::ClusterMaster(_)) => advice.push(
            "it has no replica that is connected: if it is lost, its ledgers are lost. Attach one"
                .to_owned(),
        ),
        // The field is there only where both settings are.
        (Some(1..), _) if field("min_slaves_good_slaves").is_none() => advice.push(
            "min-replicas-to-write is 0: cut off from its replicas it would go on admitting what \
             their next master does not know. Set min-replicas-to-write 1 and min-replicas-max-lag 1"
                .to_owned(),
        ),
        _ => {}
    }
    advice
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= VERSION_MIN
}

/// Exclusive ranges of streams came with it.
const VERSION_MIN: (u32, u32) = (6, 2);

/// The one server of the settings is no master.
pub(super) const REPLICA: &str = "it is a replica: point store.url at the master";

/// Beyond this, somebody should look at the clocks.
const CLOCK_AWAY_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\n\
        maxmemory_policy:noeviction\r\n# Persistence\r\nloading:0\r\naof_enabled:1\r\n\
        # Replication\r\nrole:master\r\nconnected_slaves:1\r\nmin_slaves_good_slaves:1\r\n\
        # Cluster\r\ncluster_enabled:0\r\n";

    fn closed(from: &str, to: &str) -> String {
        match judge(&GOOD.replace(from, to), Expected::Any) {
            Ok(Found::Usable { refusal: Some(why), .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    fn advised(expected: Expected<'_>, from: &str, to: &str) -> Vec<String> {
        match judge(&GOOD.replace(from, to), expected) {
            Ok(Found::Usable { refusal: None, advice }) => advice,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_server_is_used() {
        for version in ["7.0.15", "6.2.0", "10.1"] {
            assert_eq!(advised(Expected::Any, "7.0.15", version), [""; 0]);
        }
        let cluster = Expected::ClusterMaster(None);
        assert_eq!(advised(cluster, "cluster_enabled:0", "cluster_enabled:1"), [""; 0]);
    }

    #[test]
    fn each_thing_that_must_hold_is_named() {
        let unusable = |from: &str, to: &str| {
            judge(&GOOD.replace(from, to), Expected::Any).expect_err("unusable")
        };
        assert!(unusable("7.0.15", "6.0.16").contains("6.2 or newer"));
        assert!(unusable("cluster_enabled:0", "cluster_enabled:1").contains("redis+cluster://"));
        assert!(unusable("loading:0", "loading:1").contains("loading"));
        let no_cluster = judge(GOOD, Expected::ClusterMaster(None)).expect_err("unusable");
        assert!(no_cluster.contains("no node of a Redis Cluster"));
        assert!(closed("noeviction", "allkeys-lru").contains("maxmemory-policy noeviction"));
        assert!(closed("maxmemory_policy:noeviction", "x:y").contains("nobody is admitted"));
        assert!(closed("role:master", "role:slave").contains("replica"));
        let astray = judge(&GOOD.replace("role:master", "role:slave"), Expected::Master);
        assert!(matches!(astray, Ok(Found::Astray(_))), "{astray:?}");
    }

    #[test]
    fn what_would_cost_admissions_is_advised() {
        let one = |expected, from, to| {
            let said = advised(expected, from, to);
            assert_eq!(said.len(), 1, "{said:?}");
            said[0].clone()
        };
        let any = Expected::Any;
        assert!(one(any, "aof_enabled:1", "aof_enabled:0").contains("appendonly yes"));
        let good_slaves = "min_slaves_good_slaves:1\r\n";
        assert!(one(any, good_slaves, "").contains("min-replicas-to-write 1"));
        let none = "connected_slaves:0";
        assert!(one(Expected::Master, "connected_slaves:1", none).contains("no replica"));
        assert_eq!(advised(any, "connected_slaves:1", none), [""; 0], "one server is a choice");
        assert_eq!(clock(-999), None);
        assert!(clock(5_000).is_some_and(|said| said.contains("ahead of")));
        assert!(clock(-5_000).is_some_and(|said| said.contains("behind")));
    }
}
