//! A real redis-server on a free loopback port, in a directory of its own. Dropped, it is killed.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use penstock::config::schema;
use penstock::config::units::Span;
use tempfile::TempDir;

/// A server, running or not.
pub struct Server {
    dir: TempDir,
    port: u16,
    /// `{port}` and `{dir}` stand for the server's own.
    options: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts a server that keeps nothing on disk, with more options of its command line.
    pub fn start(options: &[&str]) -> Server {
        let mut server = Server::stopped(options);
        server.run();
        server
    }

    /// Only takes a port.
    pub fn stopped(options: &[&str]) -> Server {
        let port = free_port();
        let dir = tempfile::tempdir().expect("a directory");
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        Server { dir, port, options, child: None }
    }

    /// Runs it, on what it wrote to its disk before.
    pub fn run(&mut self) {
        let (port, dir) = (self.port.to_string(), self.dir.path().display().to_string());
        let own = |option: &String| option.replace("{port}", &port).replace("{dir}", &dir);
        let is_sentinel = self.options.iter().any(|option| option == "--sentinel");
        let is_tls = self.options.iter().any(|option| option == "--tls-port");
        let plain = if is_tls { "0" } else { &port };
        let usual = ["--port", plain, "--bind", "127.0.0.1", "--save", "", "--dir", &dir];
        let log = std::fs::File::options().create(true).append(true).open(self.log());
        let child = Command::new("redis-server")
            .args(self.options.iter().map(own))
            .args(usual.iter().filter(|_| !is_sentinel))
            .stdout(log.expect("a log"))
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|e| {
            panic!("redis-server cannot be started ({e}): apt-get install redis-server")
        });
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        let has_ended = self
            .child
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|end| end.is_some()));
        assert!(!has_ended, "redis-server ended at once: {}", self.said());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A stopped process: connections stay, nothing answers.
    pub fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("a running server");
        let done = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(done.expect("kill").success());
    }

    /// A Sentinel of the master `drop`, with more lines of its file.
    pub fn sentinel(master: &Server, quorum: u32, more: &[&str]) -> Server {
        let mut server = Server::stopped(&["{dir}/sentinel.conf", "--sentinel"]);
        let mut lines = vec![
            format!("port {}", server.port),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", server.dir.path().display()),
            format!("sentinel monitor drop 127.0.0.1 {} {quorum}", master.port),
            "sentinel down-after-milliseconds drop 500".to_owned(),
            "sentinel failover-timeout drop 3000".to_owned(),
        ];
        lines.extend(more.iter().map(|line| (*line).to_owned()));
        std::fs::write(server.dir().join("sentinel.conf"), lines.join("\n")).expect("written");
        server.run();
        server
    }

    /// A server that follows this one.
    pub fn replica(&self) -> Server {
        Server::start(&[
            "--replicaof",
            &format!("127.0.0.1 {}", self.port),
            "--repl-diskless-sync-delay",
            "0",
        ])
    }

    /// Until a replica has the keys of a sale. One that is online may yet be waited for by its master,
    /// and would be promoted without what was written meanwhile.
    pub async fn follows(&self) {
        crate::rig::until("the replica has the sale", async || {
            self.shop().ask::<u64>(&["DBSIZE"]) >= 3
        })
        .await;
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What stands behind an option.
    pub fn option(&self, name: &str) -> String {
        let at = self.options.iter().position(|option| option == name).expect("the option");
        self.options[at + 1].clone()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `[store]` for this server.
    pub fn settings(&self) -> schema::Store {
        settings(format!("redis://{}", self.address()))
    }

    /// A directory for files of the test.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A plain connection, as a shop has one.
    pub fn shop(&self) -> Shop {
        self.shop_with("")
    }

    /// The same with a login, `user:password@`.
    pub fn shop_with(&self, login: &str) -> Shop {
        let url = format!("redis://{login}127.0.0.1:{}", self.port);
        let client = redis::Client::open(url).expect("a URL");
        let connection = client.get_connection();
        Shop(connection.unwrap_or_else(|e| panic!("no connection ({e}): {}", self.said())))
    }

    /// What it answers, if it does: a Sentinel cuts all connections to a server whose part it changes.
    pub fn heard<T: redis::FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        let (verb, args) = words.split_first().expect("a command");
        redis::cmd(verb).arg(args).query(&mut client.get_connection().ok()?).ok()
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("server.log")
    }

    /// What the server wrote to its log.
    fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

/// A port that no connection gets by itself, as those of higher numbers may between a look and a bind;
/// other runs of the tests begin elsewhere.
fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = (std::process::id() % 20_000) * 97;
    let next = || 12_000 + (first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
    let ports = std::iter::repeat_with(next).take(20_000);
    let mut ports = ports.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// `[store]` for a URL.
pub fn settings(url: String) -> schema::Store {
    schema::Store {
        kind: schema::StoreKind::Redis,
        url: Some(url),
        connect_timeout: Span::from_ms(1_000),
        poll: Span::from_ms(100),
        ..schema::Store::default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a shop, an operator or another program does with Redis.
pub struct Shop(redis::Connection);

impl Shop {
    /// Runs a command and reads its answer.
    pub fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let (verb, args) = words.split_first().expect("a command");
        redis::cmd(verb).arg(args).query(&mut self.0).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// Runs a command; what the server says against it.
    pub fn refusal(&mut self, words: &[&str]) -> Option<String> {
        let (verb, args) = words.split_first().expect("a command");
        let said = redis::cmd(verb).arg(args).query::<redis::Value>(&mut self.0);
        said.err().map(|error| error.to_string())
    }

    /// Runs a command.
    pub fn run(&mut self, words: &[&str]) {
        let _: redis::Value = self.ask(words);
    }

    /// A hash.
    pub fn hash(&mut self, key: &str) -> std::collections::BTreeMap<String, String> {
        self.ask(&["HGETALL", key])
    }

    /// Everything there is, byte for byte.
    pub fn everything(&mut self) -> std::collections::BTreeMap<String, Vec<u8>> {
        let keys: Vec<String> = self.ask(&["KEYS", "*"]);
        let dump = |key: String| (key.clone(), self.ask(&["DUMP", &key]));
        keys.into_iter().map(dump).collect()
    }

    /// Every entry of a stream: its fields, as a map.
    pub fn stream(&mut self, key: &str) -> Vec<std::collections::BTreeMap<String, String>> {
        type Entries = Vec<(String, Vec<String>)>;
        let entries: Entries = self.ask(&["XRANGE", key, "-", "+"]);
        let map = |flat: Vec<String>| {
            flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        };
        entries.into_iter().map(|(_, flat)| map(flat)).collect()
    }

    /// The events told in a sale's `out`, with their text.
    pub fn events(&mut self, sale: &str) -> Vec<String> {
        let out = self.stream(&format!("ps:{{{sale}}}:out"));
        out.iter().map(|e| format!("{} {}", e["event"], e["text"]).trim().to_owned()).collect()
    }
}
