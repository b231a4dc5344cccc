//! The tasks of one connection's requests. They end with it.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::JoinSet;

use crate::metrics::{Counter, Sink};

/// Runs what hyper wants run; clones share the tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(Rc<RefCell<JoinSet<()>>>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Tasks {
    /// A request that has its answer at once never becomes a task.
    fn execute(&self, future: F) {
        let mut future = Box::pin(future);
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.0.borrow_mut().spawn_local(future);
        }
    }
}

impl Tasks {
    /// Forgets tasks that are over; one that panicked cost its request.
    pub(super) fn reap(&self, cx: &mut Context<'_>, sink: &Sink) {
        let mut tasks = self.0.borrow_mut();
        while let Poll::Ready(Some(ended)) = tasks.poll_join_next(cx) {
            if ended.is_err_and(|error| error.is_panic()) {
                sink.inc(Counter::Panics);
            }
        }
    }

    /// Ends them all.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().abort_all();
    }
}
