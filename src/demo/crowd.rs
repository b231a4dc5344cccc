//! The demo's crowd: `penstock drill` in a process of its own, heard line by line.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;

use super::DemoError;
use super::place::{Place, this_binary};
use super::process::Process;
use super::stop::Stop;
use crate::clock::UnixMs;
use crate::drill::{Progress, Report};

/// Who comes.
#[derive(Clone, Copy, Debug)]
pub struct Guests {
    /// People.
    pub people: u32,
    /// Bots.
    pub bots: u32,
    /// Milliseconds after T0 within which they act.
    pub spread_ms: u64,
    /// How often each one loads the page again.
    pub reloads: u32,
    /// Whether there is an availability flag to look at.
    pub polls: bool,
    /// Milliseconds after which they go in any case.
    pub longest_ms: u64,
    /// Their seed.
    pub seed: u64,
}

/// The crowd.
#[derive(Debug)]
pub struct Crowd {
    process: Process,
    heard: Arc<Mutex<Heard>>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Heard {
    progress: Option<Progress>,
    report: Option<Report>,
}

/// A line of the drill's output.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(Progress),
    Report(Box<Report>),
}

const END_LONGEST: Duration = Duration::from_secs(15);

impl Crowd {
    /// Sends the crowd to `target`, for a sale that opens at `t0`.
    pub fn start(
        place: &Place,
        target: SocketAddr,
        t0: UnixMs,
        guests: &Guests,
    ) -> Result<Crowd, DemoError> {
        let mut command = this_binary()?;
        command
            .args(["drill", &format!("http://{target}{}", place.page())])
            .args(["--opens-at", &t0.0.to_string()])
            .args(["--people", &guests.people.to_string()])
            .args(["--bots", &guests.bots.to_string()])
            .args(["--spread", &format!("{}ms", guests.spread_ms)])
            .args(["--reloads", &guests.reloads.to_string()])
            .args(["--duration", &format!("{}ms", guests.longest_ms)])
            .args(["--seed", &guests.seed.to_string()])
            .args(["--retries", "6", "--backoff", "500ms", "--poll-max", "1s"])
            .args(["--cities", "beijing,shanghai,paris,london,lagos"])
            .args(["--connections", "6000"])
            .args(["--progress", "json", "--progress-every", "250ms"]);
        if !guests.polls {
            command.args(["--availability", "none"]);
        }
        let mut process = Process::start("crowd", command, place.log("crowd"), true)?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let output = process.take_output();
        let listener = {
            let heard = heard.clone();
            let listen = move || {
                if let Some(output) = output {
                    listen(output, &heard);
                }
            };
            let named = std::thread::Builder::new().name("crowd".to_owned());
            named.spawn(listen).map_err(DemoError::system("cannot start a thread"))?
        };
        Ok(Crowd { process, heard, listener: Some(listener) })
    }

    /// How it stands, as it said last; none before it said anything.
    pub fn progress(&self) -> Option<Progress> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).progress.clone()
    }

    /// Whether everyone has gone home.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Sends home whoever is still there; returns the report.
    pub fn end(mut self, stop: &Stop) -> Result<Report, DemoError> {
        self.process.ask_to_end();
        let log = self.process.log();
        let late = || DemoError::Late { what: "the crowd's end".to_owned(), after_ms: 15_000, log };
        stop.wait_for(END_LONGEST, late, || Ok(self.process.has_ended().then_some(())))?;
        if let Some(listener) = self.listener.take() {
            // It ends with the process's output; a panic there leaves no report, which is told below.
            let _ = listener.join();
        }
        let report = self.heard.lock().unwrap_or_else(PoisonError::into_inner).report.take();
        report.ok_or_else(|| DemoError::Died { name: "crowd", log: self.process.log() })
    }
}

fn listen(output: impl Read, heard: &Mutex<Heard>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        // What is no line of ours is not for us.
        let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        match line {
            Line::Progress(progress) => heard.progress = Some(progress),
            Line::Report(report) => heard.report = Some(*report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_drill_are_understood_and_others_are_not_minded() {
        let progress = Progress { pages: 7, ..Progress::default() };
        let report = Report { sold: 9, ..Report::default() };
        let output = format!(
            "{}\nwarning: something\n{}\n",
            serde_json::json!({ "progress": progress }),
            serde_json::json!({ "report": report })
        );
        let heard = Mutex::new(Heard::default());
        listen(output.as_bytes(), &heard);
        let heard = heard.into_inner().unwrap();
        assert_eq!(heard.progress.unwrap().pages, 7);
        assert_eq!(heard.report.map(|report| report.sold), Some(9));
    }
}
