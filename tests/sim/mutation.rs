//! Guards of the explicit model that are taken away, one at a time: a model that cannot fail proves nothing.

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing.
    None,
    /// Nobody looks which server answers, nor how far it was.
    Fence,
    /// A new server is noticed, and claims go on at once.
    Learning,
    /// The first node that reports speaks for all: learning ends without the others.
    EarlyEnd,
    /// A node does not say whom it knew to be alive; a ledger that is gone knows nobody else.
    NodeList,
    /// What a node re-asserts replaces what the ledger has heard of others.
    Overwrite,
    /// A node re-asserts the sale and not its claims.
    NoClaims,
    /// A node re-asserts only what is still open.
    OpenOnly,
    /// A node does not re-assert what failed.
    Tombstones,
    /// What the reaper takes is free, instead of in limbo.
    ReapFrees,
    /// An outcome is matched by the user and not by the claim.
    ByUser,
    /// Whoever waited in vain for the shop says that it failed.
    UnknownFails,
    /// After a restart what was open failed.
    RestartFails,
    /// A claim whose answer was lost is sent all the same.
    SendsUnheard,
    /// Units that come back open a latched pool again.
    LatchOpens,
}

/// All of them.
pub const ALL: &[Mutation] = &[
    Mutation::Fence,
    Mutation::Learning,
    Mutation::EarlyEnd,
    Mutation::NodeList,
    Mutation::Overwrite,
    Mutation::NoClaims,
    Mutation::OpenOnly,
    Mutation::Tombstones,
    Mutation::ReapFrees,
    Mutation::ByUser,
    Mutation::UnknownFails,
    Mutation::RestartFails,
    Mutation::SendsUnheard,
    Mutation::LatchOpens,
];
