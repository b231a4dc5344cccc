//! A node: a config in a directory of its own, the built binary, and where it listens.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use penstock::shop::{self, Running};
use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, until};

/// What a test changes in the usual config.
pub struct Config {
    pub listen: String,
    /// Lines of `[upstream.shop]`.
    pub upstream: String,
    pub admin: String,
    pub site: String,
    pub activity: String,
    pub sale: String,
    pub more: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: "[listen.http]\naddress = \"127.0.0.1:0\"\nhealth = \"/health\"\n".to_owned(),
            upstream: String::new(),
            admin: String::new(),
            site: "hosts = [\"shop.example\", \"www.shop.example\"]\n".to_owned(),
            activity: String::new(),
            sale: sale("2020-01-01T00:00:00Z", 5),
            more: String::new(),
        }
    }
}

/// A sale of activity 8848.
pub fn sale(opens_at: &str, stock: u32) -> String {
    format!("[sale.drop]\nactivity = \"8848\"\nopens_at = {opens_at}\nstock = {stock}\n")
}

/// A shop that answers at once, on a free port.
pub fn quick_shop() -> Running {
    shop_with(|_| {})
}

pub fn shop_with(change: impl FnOnce(&mut shop::Settings)) -> Running {
    let mut settings = shop::Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        orders_per_s: 100_000,
        workers: 100,
        latency_ms: 0,
        gap_ms: 0,
        page_ms: 0,
        page_bytes: 2_000,
        ..shop::Settings::default()
    };
    change(&mut settings);
    Running::start(settings).expect("a shop")
}

/// A directory with a config.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new(shop: SocketAddr, config: &Config) -> Place {
        Place::in_dir(tempfile::tempdir().expect("a directory"), shop, config)
    }

    /// The same, beside files that are there already.
    pub fn in_dir(dir: tempfile::TempDir, shop: SocketAddr, config: &Config) -> Place {
        let place = Place { dir };
        let Config { listen, upstream, admin, site, activity, sale, more } = config;
        let state = place.path("state");
        let text = format!(
            "state_dir = \"{}\"\n{more}\n{listen}\n[http]\nworkers = 2\n[admin]\n{admin}\n\
             [upstream.shop]\nservers = [\"{shop}\"]\noutcome = \"status\"\n{upstream}\n\
             [site.shop]\nupstream = \"shop\"\n{site}\n[site.shop.activity]\n\
             page = \"/activity/{{activity}}\"\n\
             availability = \"/activity/{{activity}}/availability\"\n\
             purchase = \"/activity/{{activity}}/orders\"\n\
             city = [\"query:city\"]\nuser = [\"cookie:uid\"]\n{activity}\n{sale}\n",
            state.display()
        );
        std::fs::write(place.config(), text).expect("written");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("penstock.toml")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.path("state/admin.sock")
    }

    /// The binary with a verb and this config.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        command.args(args).arg("-c").arg(self.config()).env_remove("PENSTOCK_CONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a verb to its end.
    pub fn verb(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    /// Runs a verb that must succeed; what it printed.
    pub fn good(&self, args: &[&str]) -> String {
        let output = self.verb(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub fn start(self) -> Node {
        let command = self.command(&["run"]);
        Node::start(self, command)
    }

    /// Starts it where `groups` stands for the file system of control groups, in a mount namespace of
    /// its own. `None`: that is not allowed here.
    pub fn start_with_groups(self, groups: &Path) -> Option<Node> {
        self.start_mounted("mount --bind \"$0\" /sys/fs/cgroup && exec \"$@\"", groups)
    }

    /// Starts it where `dir` is a disk of its own, so large: from outside it is under `/proc/PID/root`.
    /// `None`: that is not allowed here.
    pub fn start_on_disk(self, dir: &Path, size: &str) -> Option<Node> {
        std::fs::create_dir_all(dir).expect("a directory");
        let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
        self.start_mounted(&mount, dir)
    }

    fn start_mounted(self, script: &str, place: &Path) -> Option<Node> {
        let unshared = |program: &[&std::ffi::OsStr]| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script]).arg(place).args(program);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        let can = unshared(&["true".as_ref()]).status().is_ok_and(|status| status.success());
        let (binary, config) = (env!("CARGO_BIN_EXE_penstock"), self.config());
        let run = ["run".as_ref(), "-c".as_ref(), config.as_os_str()];
        let run: Vec<_> = std::iter::once(binary.as_ref()).chain(run).collect();
        can.then(|| Node::start(self, unshared(&run)))
    }

    /// Starts it with more in its environment.
    pub fn start_with(self, environment: &[(&str, &str)]) -> Node {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied());
        Node::start(self, command)
    }

    /// Starts it by another program; `nudge` is called until it runs.
    pub fn start_by(self, mut command: Command, nudge: impl Fn()) -> Node {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Node::start_nudged(self, command, nudge)
    }

    /// Starts it with so many file descriptors.
    pub fn start_with_files(self, files: u32) -> Node {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {files}; exec \"$0\" run -c \"$1\"");
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_penstock")).arg(self.config());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Node::start(self, command)
    }
}

/// A running node; killed when dropped.
pub struct Node {
    pub place: Place,
    child: Child,
    events: Arc<Mutex<Vec<String>>>,
    /// `name=address` of each listener.
    addresses: Vec<(String, String)>,
}

impl Node {
    fn start(place: Place, command: Command) -> Node {
        Node::start_nudged(place, command, || {})
    }

    fn start_nudged(place: Place, mut command: Command, nudge: impl Fn()) -> Node {
        let mut child = command.spawn().expect("the node starts");
        let events: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, kept) = (child.stderr.take().expect("stderr"), events.clone());
        // Read to the end, or the node would wait for somebody to read what it says.
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                kept.lock().expect("events").push(line);
            }
        });
        let mut node = Node { place, child, events, addresses: Vec::new() };
        until("the node listens", || {
            assert!(node.child.try_wait().expect("wait").is_none(), "{:?}", node.events());
            nudge();
            node.said("listening on ")
        });
        let events = node.events();
        let line = events.iter().find_map(|line| line.split("listening on ").nth(1));
        let pairs = line.expect("where").split(' ').filter_map(|word| word.split_once('='));
        node.addresses = pairs.map(|(name, at)| (name.to_owned(), at.to_owned())).collect();
        until("the ledger has the sale", || {
            node.said("the declaration") || node.said("PAUSED") || node.said("waits")
        });
        node
    }

    /// The TCP address of a listener, or of the admin interface (`admin`).
    pub fn address(&self, name: &str) -> SocketAddr {
        let of = |(listener, at): &(String, String)| {
            (listener == name).then(|| at.parse().ok()).flatten()
        };
        self.addresses.iter().find_map(of).expect("a TCP listener of that name")
    }

    pub fn client(&self) -> Client {
        Client::tcp(self.address("http"))
    }

    pub fn events(&self) -> Vec<String> {
        self.events.lock().expect("events").clone()
    }

    /// Whether an event says so.
    pub fn said(&self, text: &str) -> bool {
        self.events().iter().any(|line| line.contains(text))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its threads are called.
    pub fn thread_names(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("tasks");
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        let names = tasks.filter_map(|task| name(task.ok()?));
        names.map(|name| name.trim().to_owned()).collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// Waits for its end; the exit code.
    pub fn end(&mut self) -> Option<i32> {
        let mut ended = None;
        until("the node ends", || {
            ended = self.child.try_wait().expect("wait");
            ended.is_some()
        });
        ended.and_then(|status| status.code())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// One number of `penstock ctl metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.place.good(&["ctl", "metrics"]);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the node said:\n{}", self.events().join("\n"));
        }
    }
}
