//! Ctrl-C and TERM: a flag that every wait looks at, so that the demo takes its processes with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::DemoError;

/// Whether to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// Begins to watch for INT and TERM, on a thread of its own.
    pub fn watch() -> Result<Stop, DemoError> {
        use tokio::signal::unix::{SignalKind, signal};
        let what = || DemoError::system("cannot watch for signals");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(what())?;
        let (mut int, mut term) = {
            let _guard = runtime.enter();
            let int = signal(SignalKind::interrupt()).map_err(what())?;
            (int, signal(SignalKind::terminate()).map_err(what())?)
        };
        let stop = Stop::default();
        let asked = stop.asked.clone();
        let watch = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
            });
            asked.store(true, Ordering::Relaxed);
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(what())?;
        Ok(stop)
    }

    /// An error if it was asked for.
    pub fn check(&self) -> Result<(), DemoError> {
        match self.asked.load(Ordering::Relaxed) {
            true => Err(DemoError::Interrupted),
            false => Ok(()),
        }
    }

    /// Looks every now and then until `look` finds something; an error after `longest`.
    pub fn wait_for<T>(
        &self,
        longest: Duration,
        late: impl FnOnce() -> DemoError,
        mut look: impl FnMut() -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        let ends = Instant::now() + longest;
        loop {
            self.check()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() >= ends {
                return Err(late());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn late() -> DemoError {
        DemoError::Late { what: "it".to_owned(), after_ms: 0, log: String::new() }
    }

    #[test]
    fn a_wait_ends_by_finding_by_stopping_or_by_being_late() {
        let stop = Stop::default();
        let mut looks = 0;
        let found = stop.wait_for(Duration::from_secs(60), late, || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.ok(), Some(3));
        let none = stop.wait_for(Duration::ZERO, late, || Ok(None::<()>));
        assert!(matches!(none, Err(DemoError::Late { .. })));
        stop.asked.store(true, Ordering::Relaxed);
        let stopped = stop.wait_for(Duration::from_secs(60), late, || Ok(None::<()>));
        assert!(matches!(stopped, Err(DemoError::Interrupted)));
    }
}
