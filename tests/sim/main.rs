//! Exactness through failures, without a network: every interleaving of a small fleet (`model`), and long
//! random lives of a larger one (`world`). Both run the real ledger, [`penstock::ledger`], operation by
//! operation; what surrounds it is modelled, and each module says how.

mod bug;
mod model;
mod mutation;
mod node;
mod oracle;
mod plan;
mod rng;
mod runs;
mod sale;
mod store;
mod world;
