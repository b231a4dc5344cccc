//! The rules of the house as data: who may use whom, what may be called where, and the exceptions.

/// What each top-level module may use, besides itself and the foundation. A `*` is everything.
/// The order is the direction of ARCHITECTURE.md, from below: nothing may name what stands after it.
pub const MAY_USE: &[(&str, &[&str])] = &[
    // the foundation uses only itself
    ("answer", &[]),
    ("bloom", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("fault", &[]),
    ("ident", &[]),
    ("journal", &[]),
    ("limits", &[]),
    ("log", &[]),
    ("metrics", &[]),
    ("outcome", &[]),
    ("sync", &[]),
    ("tls", &[]), // certificates, handshakes
    // the sale and its ledger
    ("sale", &[]),
    ("ledger", &["sale"]),
    ("store", &["ledger", "sale", "tls"]),
    ("orders", &[]), // the shop's export, for limbo and audit
    ("claims", &["store", "ledger", "sale", "orders"]),
    ("follow", &["claims", "store", "ledger", "sale"]),
    // the door
    ("http", &["tls"]),
    ("answers", &["http"]),
    ("upstream", &["http", "tls"]),
    ("listener", &["http", "tls"]),
    // what a request can be: siblings never use each other, availability knows only the sale
    ("page", &["http", "answers", "upstream", "sale"]),
    ("availability", &["http", "answers", "sale"]),
    ("gate", &["http", "answers", "upstream", "sale", "claims", "ledger"]), // the ledger's replies
    ("proxy", &["http", "answers", "upstream"]),
    ("edge", &["http", "tls", "answers", "sale", "page", "availability", "gate", "proxy"]),
    // the process
    ("admin", &["http", "sale", "ledger", "store", "claims", "orders", "page", "upstream", "gate"]),
    ("app", &["*"]),
    // tools, which use only public HTTP, the admin API and files
    ("shop", &[]),
    ("admin_client", &[]),
    ("audit", &["admin_client", "orders", "ledger"]), // the ledger's records, to be compared
    ("drill", &["shop"]),
    ("demo", &["drill", "shop", "audit", "admin_client"]),
    // the command
    ("cli", &["*"]),
    ("main", &["cli"]),
];

/// Used by all.
pub const FOUNDATION: &[&str] = &[
    "answer", "bloom", "clock", "config", "fault", "ident", "journal", "limits", "log", "metrics",
    "outcome", "sync",
];

/// Files that may be longer than [`FILE_LINES_MAX`], because they are tables.
pub const LONG_FILES: &[(&str, &str)] = &[("src/config/schema.rs", "one row for each setting")];

/// Functions that may be longer than [`FUNCTION_LINES_MAX`], each with its reason.
pub const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("tests/http2/rfc9113.rs", "frames", "one row for each rule"),
    ("tests/http2/rfc9113.rs", "messages", "one row for each rule"),
];

/// Longest file that is no table.
pub const FILE_LINES_MAX: usize = 600;

/// Longest function.
pub const FUNCTION_LINES_MAX: usize = 70;

/// A call that shipped code makes only in some places.
pub struct Ban {
    /// The call.
    pub call: &'static str,
    /// Files, or directories ending in `/`, where it may be made.
    pub seams: &'static [&'static str],
    /// What to do instead.
    pub instead: &'static str,
}

/// The tools print and measure by themselves: they are not the edge.
const TOOLS: &[&str] = &["src/cli/", "src/cli.rs", "src/demo/", "src/drill/", "src/shop/"];

pub const BANS: &[Ban] = &[
    Ban { call: "SystemTime::now", seams: &["src/clock.rs"], instead: "read Clock" },
    Ban {
        call: "process::exit",
        seams: &[],
        instead: "return an Exit, so that everything is dropped",
    },
    Ban { call: "println!", seams: TOOLS, instead: "tracing, or an answer" },
    Ban { call: "print!", seams: TOOLS, instead: "tracing, or an answer" },
    Ban { call: "eprintln!", seams: TOOLS, instead: "tracing" },
    Ban { call: ".unwrap()", seams: &[], instead: "an error with a text" },
    // shop/order.rs: bounds of a histogram that are constants.
    Ban { call: ".expect(", seams: &["src/shop/order.rs"], instead: "an error with a text" },
    Ban { call: "todo!", seams: &[], instead: "doing it" },
    Ban { call: "unimplemented!", seams: &[], instead: "doing it" },
    Ban { call: "dbg!", seams: &[], instead: "removing it" },
    Ban { call: "panic!", seams: &[], instead: "an error with a text" },
    Ban { call: "unreachable!", seams: &[], instead: "a type without that case" },
    // The embedded store's writer and the access log's are threads of their own: one waits for another
    // process's lock, the other gathers lines.
    Ban {
        call: "thread::sleep",
        seams: &["src/demo/", "src/log/writer.rs", "src/store/embedded/"],
        instead: "tokio's timers",
    },
    // A task that nobody owns outlives a drain and hides its panics.
    Ban {
        call: "tokio::spawn",
        seams: &["src/store/", "src/claims/", "src/app/", "src/admin/", "src/log/"],
        instead: "a JoinSet or a TaskTracker",
    },
    Ban {
        call: "task::spawn_local",
        seams: &["src/upstream/", "src/gate/", "src/shop/service.rs"],
        instead: "a LocalSet, a JoinSet or a TaskTracker that is awaited",
    },
    Ban {
        call: "thread::spawn",
        seams: &["src/store/", "src/journal/", "src/log/"],
        instead: "thread::Builder with a name, and a join",
    },
];

/// Files that read the standard library's `Instant` by themselves: clock, and tools.
pub const STD_INSTANT: &[&str] =
    &["src/clock.rs", "src/demo/", "src/drill/", "src/shop/", "src/cli/"];
