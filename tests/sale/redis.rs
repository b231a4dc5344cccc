//! A real `redis-server` that forgets when it ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::rig::{free, until};

/// A server on a port of its own; ended with the test.
pub struct Redis {
    process: Child,
    pub at: SocketAddr,
    dir: tempfile::TempDir,
}

impl Redis {
    /// Starts one that keeps nothing on its disk.
    pub fn start(options: &[&str]) -> Redis {
        let (dir, at) = (tempfile::tempdir().expect("a directory"), free());
        let process = run(at, dir.path(), options);
        Redis { process, at, dir }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill().expect("a child");
        self.process.wait().expect("a child");
    }

    /// `kill -9`, and it starts again: empty.
    pub fn restart(&mut self) {
        self.kill();
        self.process = run(self.at, self.dir.path(), &[]);
    }

    /// Says one command, and returns the first line of the answer.
    pub fn say(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(self.at).expect("a connection");
        let mut text = format!("*{}\r\n", words.len());
        words.iter().for_each(|w| text += &format!("${}\r\n{w}\r\n", w.len()));
        stream.write_all(text.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            answer.extend(byte);
        }
        String::from_utf8_lossy(&answer).trim().to_owned()
    }

    /// Stops the process, or lets it go on: `-STOP`, `-CONT`.
    pub fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let done = Command::new("kill").args([signal, &id]).status().expect("kill");
        assert!(done.success());
    }

    /// How many scripts it has run.
    pub fn scripts_run(&self) -> u64 {
        let text = self.info("commandstats");
        let of = |verb: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{verb}:calls=")));
            line.map_or(0, |l| l.split(',').next().and_then(|n| n.parse().ok()).expect("a number"))
        };
        of("evalsha") + of("eval")
    }

    /// Whether it has caught up with its master.
    pub fn is_synced_replica(&self) -> bool {
        let text = self.info("replication");
        text.contains("master_link_status:up") && text.contains("master_sync_in_progress:0")
    }
}

impl Redis {
    fn info(&self, section: &str) -> String {
        let mut stream = TcpStream::connect(self.at).expect("a connection");
        let ask = format!("INFO {section}\r\nQUIT\r\n");
        stream.write_all(ask.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(at: SocketAddr, dir: &std::path::Path, options: &[&str]) -> Child {
    let process = Command::new("redis-server")
        .args(["--port", &at.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--repl-diskless-sync-delay", "0"])
        .arg("--dir")
        .arg(dir)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed: apt-get install redis-server");
    until("redis answers", || TcpStream::connect(at).is_ok());
    process
}
