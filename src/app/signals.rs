//! What an operator says by signals.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// TERM, INT or QUIT: finish; the second one: at once.
    End,
    /// USR1: logs were moved, open them again.
    ReopenLogs,
    /// HUP: read the config again.
    Reload,
    /// USR2: make way for the binary that is installed now.
    Upgrade,
}

/// The signals that are listened to from now on; none of them ends the process by itself.
#[derive(Debug)]
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next word. May be dropped and asked again.
    pub(super) async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.term.recv() => Word::End,
            _ = self.int.recv() => Word::End,
            _ = self.quit.recv() => Word::End,
            _ = self.usr1.recv() => Word::ReopenLogs,
            _ = self.hup.recv() => Word::Reload,
            _ = self.usr2.recv() => Word::Upgrade,
        }
    }

    /// Waits for the next word to end, for whoever is ending already.
    pub(super) async fn end_again(&mut self) {
        while self.next().await != Word::End {}
    }
}
