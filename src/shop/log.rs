//! The shop's order log: one JSON line for each order and each cancellation, only ever appended to.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was made.
    Confirmed,
    /// It was cancelled; its units went back.
    Cancelled,
    /// Everything was forgotten: lines before this one are another run's.
    Reset,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Unix milliseconds.
    pub t: u64,
    /// What happened.
    pub event: Event,
    /// The shop's order number.
    pub order: String,
    /// The cookie `uid`.
    pub user: String,
    /// The pool.
    pub pool: String,
    /// Units.
    pub units: u64,
    /// The `Idempotency-Key` that came with it.
    pub key: Option<String>,
    /// The `Penstock-Admission` that came with it.
    pub admission: Option<String>,
}

/// The open file.
#[derive(Debug)]
pub struct Log {
    file: File,
}

impl Log {
    /// Opens or makes the file, to append.
    pub fn open(path: &Path) -> std::io::Result<Log> {
        File::options().create(true).append(true).open(path).map(|file| Log { file })
    }

    /// Writes one line. Nothing is buffered: what was answered is in the file.
    pub fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line).map_err(std::io::Error::other)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}
