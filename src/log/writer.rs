//! The thread that writes the access log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::{Entry, Line};
use crate::metrics::{Counter, Sink};

/// What the thread is to do beside writing. They stand beside the queue, which may be full.
#[derive(Debug, Default)]
pub(super) struct Orders {
    reopen: AtomicBool,
    finish: AtomicBool,
}

impl Orders {
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    pub(super) fn finish(&self) {
        self.finish.store(true, Ordering::Release);
    }
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Target {
    Stdout,
    File(PathBuf, File),
}

impl Target {
    /// `-` is standard output.
    pub(super) fn open(access: &str) -> io::Result<Target> {
        if access == "-" {
            return Ok(Target::Stdout);
        }
        let path = PathBuf::from(access);
        let file = append_to(&path)?;
        Ok(Target::File(path, file))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Stdout => io::stdout().write(bytes),
            Target::File(_, file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Stdout => io::stdout().flush(),
            Target::File(_, file) => file.flush(),
        }
    }
}

/// Owned by the thread.
#[derive(Debug)]
pub(super) struct Writer {
    target: Target,
    entries: Receiver<Entry>,
    queue_max: u32,
    orders: Arc<Orders>,
    sink: Sink,
    /// Whole lines that are not written yet.
    buffer: Vec<u8>,
    lines: u64,
    /// Whether the last write failed, so that it is said once.
    fails: bool,
    /// Whether it ended within a line: the next one must not go on there.
    is_torn: bool,
}

impl Writer {
    pub(super) fn new(
        target: Target,
        entries: Receiver<Entry>,
        queue_max: u32,
        orders: Arc<Orders>,
        sink: Sink,
    ) -> Writer {
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        let (lines, fails, is_torn) = (0, false, false);
        Writer { target, entries, queue_max, orders, sink, buffer, lines, fails, is_torn }
    }

    /// Writes until told to finish, or until nobody can send any more. Lines are collected for a moment
    /// and while there are more: to wake this thread for each of them would cost the workers a call for
    /// each.
    pub(super) fn run(mut self) {
        while let Ok(entry) = self.entries.recv() {
            let is_line = matches!(entry, Entry::Line(_));
            self.take(entry);
            if is_line && !self.orders.finish.load(Ordering::Acquire) {
                std::thread::sleep(GATHER);
            }
            self.take_queued();
            self.obey();
            if self.orders.finish.load(Ordering::Acquire) {
                break;
            }
        }
        self.take_queued();
    }

    /// Takes what is queued, but no more than a queue holds, however fast more comes.
    fn take_queued(&mut self) {
        for _ in 0..self.queue_max {
            let Ok(entry) = self.entries.try_recv() else { break };
            self.take(entry);
        }
        self.write_out();
    }

    fn take(&mut self, entry: Entry) {
        if let Entry::Line(line) = entry {
            self.append(&line);
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out();
            self.obey();
        }
    }

    fn append(&mut self, line: &Line) {
        let start = self.buffer.len();
        match serde_json::to_writer(&mut self.buffer, line) {
            Ok(()) => {
                self.buffer.push(b'\n');
                self.lines += 1;
            }
            // No part of a line may stay.
            Err(_) => {
                self.buffer.truncate(start);
                self.sink.inc(Counter::LogDropped);
            }
        }
    }

    /// Writes what was collected. What cannot be written is dropped and counted: the disk may be full
    /// for long.
    fn write_out(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let result = self.end_torn_line().and_then(|()| self.write_lines());
        match &result {
            Ok(()) if self.fails => tracing::warn!("the access log is written again"),
            Ok(()) => {}
            Err(error) => {
                self.sink.add(Counter::LogDropped, self.lines);
                if !self.fails {
                    tracing::error!(%error, "the access log cannot be written; lines are dropped");
                }
            }
        }
        self.fails = result.is_err();
        self.buffer.clear();
        self.lines = 0;
    }

    fn end_torn_line(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.target.write_all(b"\n")?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Writes the buffer. Where that fails halfway, what got out as whole lines is not lost.
    fn write_lines(&mut self) -> io::Result<()> {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let written = match self.target.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let (out, left) = rest.split_at(written);
            let whole = out.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.lines = self.lines.saturating_sub(whole);
            self.is_torn = out.last() != Some(&b'\n');
            rest = left;
        }
        self.target.flush()
    }

    fn obey(&mut self) {
        if !self.orders.reopen.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Target::File(path, file) = &mut self.target {
            match append_to(path) {
                Ok(new) => {
                    self.is_torn &= new.metadata().is_ok_and(|new| new.len() > 0);
                    *file = new;
                }
                Err(error) => tracing::error!(
                    path = %path.display(), %error,
                    "the access log cannot be opened anew; the old file stays in use"
                ),
            }
        }
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// So much is written at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long lines are collected before they are written.
const GATHER: Duration = Duration::from_millis(5);
