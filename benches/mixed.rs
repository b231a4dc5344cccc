//! `make bench-mixed`: pages, polls and purchases 90/9/1 over 512 keep-alive connections to one edge on
//! this machine, load and edge on the same cores.
//!
//! It prints requests per second and the edge's CPU time per request (all its threads, by the
//! kernel's own accounting), as the median of the rounds. Every answer's status and whole length are
//! checked; purchases come from ever new users after the sale is sold out, so that each is a refusal.

use std::cell::Cell;
use std::error::Error;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

const CONNECTIONS: usize = 512;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(2);
/// Pages that are asked for: activity 8848 in so many cities.
const CITIES: u64 = 100;
const STOCK: u64 = 10;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    // `cargo test --benches` calls with other arguments; there is nothing to measure then.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let (edge, shop) = (free_port()?, free_port()?);
    let _shop = Running::start(&["shop", "--listen", &shop.to_string(), "--page-bytes", "4096"])?;
    let config = dir.path().join("penstock.toml");
    fs::write(&config, settings(dir.path(), edge, shop)?)?;
    let edge_process = Running::start(&["run", "-c", &config.display().to_string()])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        until(|| async move { status(edge, "GET", "/_penstock/health", 0).await == Some(200) })
            .await?;
        sell_out(edge).await?;
        measure(edge, edge_process.0.id()).await
    })
}

/// Rounds of load, then the table.
async fn measure(edge: SocketAddr, pid: u32) -> Outcome<()> {
    let mut rounds = Vec::new();
    load(edge, ROUND).await?;
    for _ in 0..ROUNDS {
        let before = cpu_ns(pid)?;
        let began = Instant::now();
        let answers = load(edge, ROUND).await?;
        let took = began.elapsed().as_secs_f64();
        let cpu_us = (cpu_ns(pid)? - before) as f64 / 1_000.0;
        rounds.push((answers as f64 / took, cpu_us / answers as f64));
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        (values[0], values[values.len() / 2], values[values.len() - 1])
    };
    let (low, rate, high) = median(rounds.iter().map(|r| r.0).collect());
    let (least, cpu, most) = median(rounds.iter().map(|r| r.1).collect());
    let cores = std::thread::available_parallelism()?;
    println!("pages/polls/purchases 90/9/1, {CONNECTIONS} connections, pages of 4 KiB,");
    println!("load and edge together on {cores} cores, {ROUNDS} rounds of {} s", ROUND.as_secs());
    println!("  requests per second   median {rate:>8.0}   (from {low:.0} to {high:.0})");
    println!("  edge CPU per request  median {cpu:>6.2} µs   (from {least:.2} to {most:.2})");
    println!("  answers that were wrong: 0");
    Ok(())
}

/// Buys everything there is.
async fn sell_out(edge: SocketAddr) -> Outcome<()> {
    let user = Cell::new(0);
    let user = &user;
    until(|| async move {
        user.set(user.get() + 1);
        status(edge, "POST", "/activity/8848/orders", user.get()).await == Some(409)
    })
    .await
}

/// Closed loop over all connections for `span`; the number of answers.
async fn load(edge: SocketAddr, span: Duration) -> Outcome<u64> {
    let ends = Instant::now() + span;
    let turn = Rc::new(Cell::new(0u64));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        tasks.push(tokio::task::spawn_local(connection(edge, ends, turn.clone())));
    }
    let mut answers = 0;
    for task in tasks {
        answers += task.await??;
    }
    Ok(answers)
}

async fn connection(edge: SocketAddr, ends: Instant, turn: Rc<Cell<u64>>) -> Result<u64, String> {
    let said = |cause: std::io::Error| cause.to_string();
    let mut stream = TcpStream::connect(edge).await.map_err(said)?;
    stream.set_nodelay(true).map_err(said)?;
    let (mut buffer, mut answers) = (vec![0; 16 * 1024], 0);
    while Instant::now() < ends {
        let n = turn.get();
        turn.set(n + 1);
        let (request, expected) = match n % 100 {
            0 => (request("POST", "/activity/8848/orders", 1_000_000 + n), 409),
            1..=9 => (request("GET", "/activity/8848/availability", n), 200),
            _ => (request("GET", &format!("/activity/8848?city=c{}", n % CITIES), n), 200),
        };
        stream.write_all(request.as_bytes()).await.map_err(said)?;
        let status = answer(&mut stream, &mut buffer).await?;
        if status != expected {
            return Err(format!("status {status} in place of {expected}"));
        }
        answers += 1;
    }
    Ok(answers)
}

fn request(method: &str, target: &str, user: u64) -> String {
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: shop.example\r\n{length}Accept: */*\r\n\
         User-Agent: Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile\r\n\
         Accept-Encoding: identity\r\nCookie: uid=u{user}\r\n\r\n"
    )
}

/// Reads one answer whole; its status.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<u16, String> {
    let mut have = 0;
    loop {
        let read = stream.read(&mut buffer[have..]).await.map_err(|cause| cause.to_string())?;
        if read == 0 {
            return Err("closed within an answer".to_owned());
        }
        have += read;
        let Some(end) = buffer[..have].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).map_err(|cause| cause.to_string())?;
        let status = head.get(9..12).and_then(|s| s.parse().ok()).ok_or("no status")?;
        let length: usize = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.trim().parse().ok())
            .ok_or("no content-length")?;
        let whole = end + 4 + length;
        while have < whole {
            let read = stream.read(&mut buffer[have..]).await.map_err(|cause| cause.to_string())?;
            if read == 0 {
                return Err("closed within a body".to_owned());
            }
            have += read;
        }
        return if have == whole { Ok(status) } else { Err("more than an answer".to_owned()) };
    }
}

/// One request on a connection of its own; `None` if there is no answer.
async fn status(edge: SocketAddr, method: &str, target: &str, user: u64) -> Option<u16> {
    let mut stream = TcpStream::connect(edge).await.ok()?;
    stream.write_all(request(method, target, user).as_bytes()).await.ok()?;
    answer(&mut stream, &mut vec![0; 16 * 1024]).await.ok()
}

/// Asks again until `is_so`, for at most 30 seconds.
async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) -> Outcome<()> {
    let ends = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        if Instant::now() >= ends {
            return Err("the edge did not come so far within 30 s".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// CPU time of all threads of a process, in nanoseconds.
fn cpu_ns(pid: u32) -> Outcome<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

fn free_port() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn settings(dir: &Path, edge: SocketAddr, shop: SocketAddr) -> Outcome<String> {
    let opens_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() + 3_000;
    let opens_at = jiff::Timestamp::from_millisecond(i64::try_from(opens_at)?)?;
    Ok(format!(
        r#"state_dir = {:?}
[listen.http]
address = "{edge}"
[limits]
address = "off"
[upstream.shop]
servers = ["{shop}"]
outcome = "status"
[site.shop]
upstream = "shop"
[site.shop.activity]
page = {{ path = "/activity/{{activity}}", ttl = "1h" }}
availability = "/activity/{{activity}}/availability"
purchase = "/activity/{{activity}}/orders"
city = ["query:city"]
user = ["cookie:uid"]
[sale.spring-drop]
activity = "8848"
opens_at = {opens_at}
stock = {STOCK}
"#,
        dir.join("state")
    ))
}

/// A process of the measured binary, ended with the measurement.
struct Running(Child);

impl Running {
    fn start(args: &[&str]) -> Outcome<Running> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        Ok(Running(command.spawn()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
