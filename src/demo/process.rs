//! Processes that the demo started. Each is ended by its id when its owner goes, also on an error.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::DemoError;

/// A process of ours.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; standard error, and standard output unless `piped`, are appended to `log`.
    pub fn start(
        name: &'static str,
        mut command: Command,
        log: PathBuf,
        piped: bool,
    ) -> Result<Process, DemoError> {
        let open = || File::options().create(true).append(true).open(&log);
        let at = || DemoError::system(format!("{}", log.display()));
        let errors = open().map_err(at())?;
        let output = if piped { Stdio::piped() } else { Stdio::from(open().map_err(at())?) };
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(DemoError::system(format!("cannot start {name}")))?;
        Ok(Process { name, child, log })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its piped output, once.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Where its output is.
    pub fn log(&self) -> String {
        self.log.display().to_string()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// An error if it is not running any more.
    pub fn check(&mut self) -> Result<(), DemoError> {
        match self.has_ended() {
            true => Err(DemoError::Died { name: self.name, log: self.log() }),
            false => Ok(()),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Asks it to end, as an operator would (TERM).
    pub fn ask_to_end(&mut self) {
        if self.has_ended() {
            return;
        }
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may end by itself in between; that is what we want.
            let _ = kill_process(id, Signal::TERM);
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
