//! The ten-minute guide, as a newcomer follows it: every command of docs/start.md as it is printed.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::client::{Client, get, purchase, until};
use super::node::quick_shop;

/// What stands in fences of one language, in its order.
fn blocks(guide: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let rest = guide.split(&begin).skip(1);
    rest.map(|rest| rest.split("```").next().expect("an end").to_owned()).collect()
}

/// A newcomer's directory, with the binary on the way.
struct Newcomer {
    dir: tempfile::TempDir,
}

impl Newcomer {
    /// What is typed, in one shell that stops at the first mistake; what was said.
    fn types(&self, lines: &str) -> String {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_penstock"));
        let path = std::env::var("PATH").expect("a path");
        let path = format!("{}:{path}", binary.parent().expect("a directory").display());
        let mut shell = Command::new("sh");
        shell.args(["-ec", lines]).current_dir(self.dir.path()).env("PATH", path);
        let done = shell.env_remove("PENSTOCK_CONFIG").output().expect("a shell");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{lines}\nsaid: {said}\n{wrong}");
        said
    }

    fn edit(&self, change: impl Fn(String) -> String) {
        let file = self.dir.path().join("penstock.toml");
        let text = std::fs::read_to_string(&file).expect("the config");
        std::fs::write(&file, change(text)).expect("written");
    }
}

/// Ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `penstock run`, and where it listens.
fn run(dir: &Path) -> (Process, SocketAddr) {
    let log = dir.join("run.log");
    let file = std::fs::File::create(&log).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.arg("run").current_dir(dir).stdin(Stdio::null()).stderr(file);
    let process = Process(command.spawn().expect("it starts"));
    let mut at = None;
    until("it listens", || {
        let said = std::fs::read_to_string(&log).expect("a log");
        let word = said.split("listening on http=").nth(1);
        at = word.and_then(|word| word.split_whitespace().next()?.parse().ok());
        at.is_some()
    });
    (process, at.expect("an address"))
}

/// The guide's `location` in a real nginx, at a Unix socket. `None`: there is none here.
fn nginx(dir: &Path, block: &str) -> Option<Process> {
    if Command::new("nginx").arg("-v").output().is_err() {
        eprintln!("nginx is not here: its part is not tried");
        return None;
    }
    let (above, location) = block.split_once("location").expect("a location");
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {}/{of};", dir.display()))
        .join("\n");
    let text = format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log;\n\
         events {{}}\nhttp {{\n{temp}\naccess_log off;\n{above}\n\
         server {{ listen unix:{dir}/front.sock;\nlocation{location}\n}}\n}}\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("nginx.conf"), text).expect("written");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(dir.join("nginx.conf")).arg("-p").arg(dir).stdin(Stdio::null());
    let process = Process(command.spawn().expect("it starts"));
    until("nginx listens", || UnixStream::connect(dir.join("front.sock")).is_ok());
    Some(process)
}

#[test]
fn every_command_of_the_guide_works_as_it_is_printed() {
    let guide = include_str!("../../docs/start.md");
    let (shell, toml) = (blocks(guide, "sh"), blocks(guide, "toml"));
    let [init, classify, look, declare, drill, after] = &shell[..] else {
        panic!("{} blocks of shell", shell.len())
    };
    let [trust, rules] = &toml[..] else { panic!("{} blocks of TOML", toml.len()) };
    let shop = quick_shop();
    let newcomer = Newcomer { dir: tempfile::tempdir().expect("a directory") };
    let dir = newcomer.dir.path();

    let upstream = format!("http://{}", shop.address());
    let init = init.replace("http://10.0.0.11:8080", &format!("{upstream} --listen 127.0.0.1:0"));
    assert!(newcomer.types(&init).contains("penstock.toml: ok"));
    newcomer.edit(|text| format!("{trust}{text}").replace("outcome = \"status\"\n", rules));
    let said = newcomer.types(classify);
    assert!(said.contains("failed: no order was made") && said.contains("stock is gone"), "{said}");
    newcomer.edit(|text| text.replace(rules.as_str(), "outcome = \"status\"\n"));

    let (_node, at) = run(dir);
    let here = |text: &str| text.replace("127.0.0.1:8080", &at.to_string());
    let asked: String = here(look).lines().skip(1).map(|line| format!("{line}\n")).collect();
    let said = newcomer.types(&format!("{asked}{asked}"));
    assert!(said.contains("penstock; hit") && said.contains("unknown_activity"), "{said}");

    let said = newcomer.types(&declare.replace("+1 minute", "+5 seconds"));
    assert!(said.contains("sale.trial: added") && said.contains("not_started"), "{said}");
    let drill = here(drill).replace("2000 --duration 75s", "300 --duration 9s");
    let said = newcomer.types(&drill);
    assert!(said.contains("5 orders seen by clients, 0 users with two, 0 before T0"), "{said}");
    let said = newcomer.types(after);
    assert!(said.contains("sold_out") && said.contains("admitted 5 = sold 5"), "{said}");

    let block = &blocks(guide, "nginx")[0];
    let Some(_nginx) = nginx(dir, &here(block)) else { return };
    let mut client = Client::unix(&dir.join("front.sock"));
    let page = client.ask(get("/activity/8848"));
    assert_eq!(page.status, 200);
    assert!(page.field("cache-status").is_some_and(|said| said.starts_with("penstock; ")));
    let mut client = Client::unix(&dir.join("front.sock"));
    let refused = client.ask(purchase("late"));
    assert_eq!((refused.status, refused.reason()), (409, "sold_out"));
}
