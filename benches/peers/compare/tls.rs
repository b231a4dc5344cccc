//! What the rows over TLS need: a certificate for all, and h2load, which speaks both protocols.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Outcome;
use super::server::find;

/// Writes `bench.crt`, `bench.key`, and both in `bench.pem`.
pub fn certify(dir: &Path) -> Outcome<()> {
    let done = Command::new(find("openssl")?)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args([
            "-keyout",
            "bench.key",
            "-out",
            "bench.crt",
            "-days",
            "2",
            "-subj",
            "/CN=shop.example",
        ])
        .current_dir(dir)
        .output()?;
    if !done.status.success() {
        return Err(format!("openssl: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    let [mut both, key] = ["bench.crt", "bench.key"].map(|file| std::fs::read(dir.join(file)));
    if let (Ok(both), Ok(key)) = (&mut both, key) {
        both.extend(key);
    }
    Ok(std::fs::write(dir.join("bench.pem"), both?)?)
}

/// Asks for a page over and over; how many answers came. All servers are offered the same cipher.
pub fn load(
    address: SocketAddr,
    connections: usize,
    protocol: &[&str],
    kb: usize,
    span: Duration,
) -> Outcome<u64> {
    let mut command = Command::new(find("h2load")?);
    command.args(["-t", "1", "--tls13-ciphers=TLS_AES_128_GCM_SHA256"]).args(protocol);
    command.arg("-c").arg(connections.to_string());
    command.arg("-D").arg(span.as_secs_f64().ceil().to_string());
    for field in FIELDS {
        command.args(["-H", field]);
    }
    let output =
        command.arg(format!("https://{address}/activity/page{kb}?city=c000000000000")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("status codes: "));
    let counts = line.and_then(|line| line.strip_prefix("status codes: ")).unwrap_or_default();
    let good = counts.split_once(" 2xx").and_then(|(count, _)| count.parse::<u64>().ok());
    match good {
        Some(answers @ 1..) if counts.contains(" 0 4xx, 0 5xx") => Ok(answers),
        _ => Err(format!("h2load: {text} {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// What the other rows send too.
const FIELDS: &[&str] = &[
    "user-agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 \
     (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "accept: text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8",
    "accept-language: en-GB,en;q=0.9",
    "accept-encoding: gzip, deflate, br",
    "cookie: uid=u000000000000; theme=dark; first_visit=2026-11-02",
];
