//! Bugs that are planted in a run, one at a time. What a simulation cannot find it does not test.

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nothing.
    None,
    /// Nobody looks which server answers, nor how far it was.
    NoFence,
    /// A new server is noticed, and claims go on at once.
    NoLearning,
    /// The first node that reports speaks for all.
    EarlyEnd,
    /// Nodes do not say whom they knew to be alive.
    NoPeers,
    /// A node re-asserts the sale and not its claims.
    NoClaims,
    /// A node re-asserts only what is open.
    OpenOnly,
    /// A node does not re-assert what failed.
    NoTombstones,
    /// A report that met an error counts as made.
    HalfReport,
    /// An admission counts although a report began after its claim was sent.
    LateNote,
    /// A ledger that is gone is declared anew and opened.
    DeclareAnew,
    /// What the reaper takes is free.
    ReapFrees,
    /// A claim that timed out is sent.
    TimeoutSends,
    /// A claim that timed out is forgotten.
    TimeoutForgets,
    /// The F of a batch that timed out is told once, however late the batch may come.
    UndoneOnce,
    /// Batches have no last time.
    NoNotAfter,
    /// Whoever waited in vain for the shop says that it failed.
    UnknownFails,
    /// Whoever waited in vain for the shop says that it took the order.
    UnknownConfirms,
    /// Every answer of the shop is an order.
    AnyAnswerConfirms,
    /// A purchase without an answer is sent again.
    SendsAgain,
    /// After a restart what was open failed.
    RestartFails,
    /// After a restart the outcomes in the journal are not read.
    RestartForgets,
    /// Purchases are sent before their line is on the disk.
    JournalsLate,
    /// Outcomes are told once, heard or not.
    OutcomeOnce,
    /// Outcomes are matched by the user.
    ByUser,
    /// A repeat is sent like an admission.
    RepeatSends,
    /// A node believes the last answer, not the newest.
    ViewGoesBack,
    /// The ledger reads the clock of whoever asks.
    NodesClock,
    /// A command that is repeated is a new one.
    AddsTwice,
}

/// All of them.
pub const ALL: &[Bug] = &[
    Bug::NoFence,
    Bug::NoLearning,
    Bug::EarlyEnd,
    Bug::NoPeers,
    Bug::NoClaims,
    Bug::OpenOnly,
    Bug::NoTombstones,
    Bug::HalfReport,
    Bug::LateNote,
    Bug::DeclareAnew,
    Bug::ReapFrees,
    Bug::TimeoutSends,
    Bug::TimeoutForgets,
    Bug::UndoneOnce,
    Bug::NoNotAfter,
    Bug::UnknownFails,
    Bug::UnknownConfirms,
    Bug::AnyAnswerConfirms,
    Bug::SendsAgain,
    Bug::RestartFails,
    Bug::RestartForgets,
    Bug::JournalsLate,
    Bug::OutcomeOnce,
    Bug::ByUser,
    Bug::RepeatSends,
    Bug::ViewGoesBack,
    Bug::NodesClock,
    Bug::AddsTwice,
];
