//! `POST /v1/explain`: what would become of a request, and why.

use serde::Deserialize;

use super::Context;
use super::reply::{Reply, Result};
use super::route::Ask;

/// A request that nobody sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The whole URL.
    pub url: String,
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// Its fields, name and value.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

fn get() -> String {
    "GET".to_owned()
}

/// Explains.
pub(super) async fn explain(ask: &Ask<'_>, context: &Context) -> Result {
    let question: Question = ask.json()?;
    let crew = context.crew.get().ok_or_else(|| Reply::unavailable("the node is starting"))?;
    let told = crew.explain(question).await?;
    Ok(Reply::ok(&told))
}
