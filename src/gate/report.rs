//! What is known of an admission when it is over: the one place from which its line in the access log
//! is written, whether or not the client waited for it.

use std::fmt;
use std::rc::Rc;

use crate::clock::UnixMs;
use crate::http::Note;
use crate::ident::{ClaimId, Name, RequestId, SaleId, UserKey};
use crate::outcome::Verdict;

/// One admission.
#[derive(Clone, Debug)]
pub struct Report {
    /// The request that was admitted.
    pub request: RequestId,
    /// When its head was complete.
    pub at: UnixMs,
    /// What the log shows of it.
    pub note: Note,
    /// The sale.
    pub sale: SaleId,
    /// The claim.
    pub claim: ClaimId,
    /// The buyer.
    pub user: UserKey,
    /// The pool.
    pub pool: Name,
    /// Units.
    pub units: u32,
    /// What it came to.
    pub verdict: Verdict,
    /// What decided, in words.
    pub by: String,
    /// The shop's status, if a whole answer came.
    pub status: Option<u16>,
    /// Body bytes of its answer; 0 where none came whole.
    pub bytes: u64,
    /// The shop's code, if one was read.
    pub code: Option<String>,
    /// The order's number, if it was read.
    pub order: Option<String>,
    /// From the request's head to the end, in milliseconds.
    pub took_ms: u64,
}

/// Who hears of admissions on one worker.
#[derive(Clone, Default)]
pub struct Hook(Option<Hear>);

type Hear = Rc<dyn Fn(&Report)>;

impl Hook {
    /// Calls `hear` for every admission, once. It must not block.
    pub fn new(hear: impl Fn(&Report) + 'static) -> Hook {
        Hook(Some(Rc::new(hear)))
    }

    /// Tells of an admission.
    pub fn tell(&self, report: &Report) {
        if let Some(hear) = &self.0 {
            hear(report);
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook").field(&self.0.is_some()).finish()
    }
}
