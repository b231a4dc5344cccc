//! `GET /`: the dashboard, one page that asks for nothing outside of this node.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Context;
use super::reply::{Reply, Result};

/// The page, with a policy that lets run only what it was built with.
pub(super) fn page() -> Reply {
    Reply::page(PAGE, &POLICY)
}

/// What the page shows, for programs: `GET /v1/stats`.
pub(super) fn stats(context: &Context) -> Result {
    match context.live.stats() {
        Some(stats) => Ok(Reply::text("application/json", format!("{stats}\n"))),
        None => Err(Reply::unavailable("the node has just started: ask again in a second")),
    }
}

const PAGE: &str = concat!(
    include_str!("dashboard/head.html"),
    "<style>",
    include_str!("dashboard/style.css"),
    "</style>\n",
    include_str!("dashboard/body.html"),
    "<script>",
    include_str!("dashboard/words.js"),
    include_str!("dashboard/script.js"),
    "</script>\n</html>\n",
);

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash =
        |text: String| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())));
    let script = concat!(include_str!("dashboard/words.js"), include_str!("dashboard/script.js"));
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(script.to_owned()),
        hash(include_str!("dashboard/style.css").to_owned()),
    )
});
