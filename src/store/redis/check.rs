//! What must hold before Redis is trusted with a ledger, looked at with every new connection and
//! every few seconds.

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::fault::Fault;
use super::scripts;
use crate::store::StoreError;

/// Checks everything. `Err`: this server cannot be used at all. `Ok(Some)`: it can be read, but
/// nobody may be admitted.
pub(super) async fn whole(
    connection: &mut MultiplexedConnection,
) -> Result<Option<String>, String> {
    let info = match ask(connection, &redis::cmd("INFO")).await? {
        Ok(value) => redis::from_redis_value::<String>(value)
            .map_err(|_| "INFO has an odd answer".to_owned())?,
        Err(fault) => return Err(format!("INFO is needed and was refused: {}", words(fault))),
    };
    if let Some(refusal) = judge(&info)? {
        return Ok(Some(refusal));
    }
    // Rights, memory and disk: every command that a script uses is tried on a key of its own, since
    // one that fails in the middle of a script would leave the ledger half written.
    match ask(connection, &scripts::probe()).await? {
        Ok(_) => Ok(None),
        Err(fault) => Ok(Some(words(fault))),
    }
}

async fn ask(
    connection: &mut MultiplexedConnection,
    cmd: &redis::Cmd,
) -> Result<Result<Value, Fault>, String> {
    match connection.send_packed_command(cmd).await {
        Ok(Value::ServerError(error)) => Ok(Err(Fault::of_server(&error))),
        Ok(value) => Ok(Ok(value)),
        Err(error) => Err(error.to_string()),
    }
}

fn words(fault: Fault) -> String {
    match StoreError::from(fault) {
        StoreError::Refused(why) | StoreError::NotSent(why) => why,
        StoreError::MaybeApplied | StoreError::NotDurable => "no answer".into(),
    }
}

/// What `INFO` tells.
fn judge(info: &str) -> Result<Option<String>, String> {
    let field = |name: &str| {
        info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    if field("loading") == Some("1") {
        return Err("it is loading its data; it can be used when that is done".into());
    }
    if field("cluster_enabled") == Some("1") {
        return Err("it is a Redis Cluster, which this version does not speak: \
                    use a standalone Redis"
            .into());
    }
    let version = field("redis_version").unwrap_or("unknown");
    if !is_new_enough(version) {
        return Err(format!("its version is {version}; 6.2 or newer is needed"));
    }
    if field("role") == Some("slave") {
        return Ok(Some("it is a replica: point store.url at the master".into()));
    }
    match field("maxmemory_policy") {
        Some("noeviction") => Ok(None),
        Some(policy) => Ok(Some(format!(
            "its maxmemory-policy is {policy}: it could forget admissions. \
             Set maxmemory-policy noeviction; nobody is admitted until then"
        ))),
        None => Ok(Some(
            "its INFO does not tell maxmemory_policy, so it may forget admissions: \
             nobody is admitted"
                .into(),
        )),
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= VERSION_MIN
}

/// Exclusive ranges of streams came with it.
const VERSION_MIN: (u32, u32) = (6, 2);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\n\
        maxmemory_policy:noeviction\r\n# Persistence\r\nloading:0\r\n# Replication\r\n\
        role:master\r\n# Cluster\r\ncluster_enabled:0\r\n";

    #[test]
    fn a_good_server_is_used() {
        assert_eq!(judge(GOOD), Ok(None));
        assert_eq!(judge(&GOOD.replace("7.0.15", "6.2.0")), Ok(None));
        assert_eq!(judge(&GOOD.replace("7.0.15", "10.1")), Ok(None));
    }

    #[test]
    fn each_thing_that_must_hold_is_named() {
        let unusable = |from: &str, to: &str| judge(&GOOD.replace(from, to)).expect_err("unusable");
        assert!(unusable("7.0.15", "6.0.16").contains("6.2 or newer"));
        assert!(unusable("cluster_enabled:0", "cluster_enabled:1").contains("Cluster"));
        assert!(unusable("loading:0", "loading:1").contains("loading"));
        let closed = |from: &str, to: &str| {
            judge(&GOOD.replace(from, to)).expect("usable").expect("a refusal")
        };
        assert!(closed("noeviction", "allkeys-lru").contains("maxmemory-policy noeviction"));
        assert!(closed("maxmemory_policy:noeviction", "x:y").contains("nobody is admitted"));
        assert!(closed("role:master", "role:slave").contains("replica"));
    }
}
