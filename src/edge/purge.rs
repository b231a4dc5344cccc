//! `PURGE` at the edge, for shops that know no other way: off unless a setting names addresses, a
//! token, or both, and then for those alone. What is purged is what the admin API would purge.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::config::schema;
use crate::http::forwarded::ClientAddr;
use crate::http::{Exchange, Head, ResponseBody, Step, Trust};
use crate::ident::Name;

/// What purges, on all nodes; set by whoever has the way to them.
pub type Purger = Box<dyn Fn(Purging) -> Purged + Send + Sync>;

/// The status, and JSON.
pub type Purged = Pin<Box<dyn Future<Output = (StatusCode, String)> + Send>>;

/// A `PURGE` by somebody who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purging {
    /// The site of its host.
    pub site: Name,
    /// Its URL; what counts where no tags are said.
    pub url: String,
    /// The tags of its `Surrogate-Key` (by spaces) and `Cache-Tag` (by commas).
    pub tags: Vec<String>,
    /// It says `Penstock-Purge: soft`.
    pub soft: bool,
    /// For the log of events.
    pub who: String,
}

/// Who may purge, and how that is done.
pub(super) struct Purges {
    from: Option<Trust>,
    /// As its hash: the text itself is kept nowhere.
    token: Option<blake3::Hash>,
    purger: OnceLock<Arc<Purger>>,
}

impl Purges {
    /// Reads `cache.purge_from` and `cache.purge_token_file`; an error says which is wrong.
    pub(super) fn new(cache: &schema::Cache) -> Result<Purges, String> {
        let from = (!cache.purge_from.is_empty()).then(|| Trust::new(&cache.purge_from));
        let token = cache.purge_token_file.as_deref().map(|file| read(Path::new(file)));
        Ok(Purges {
            from: from.transpose().map_err(|bad| format!("cache.purge_from: {bad}"))?,
            token: token.transpose().map_err(|bad| format!("cache.purge_token_file: {bad}"))?,
            purger: OnceLock::new(),
        })
    }

    /// From now on `purger` purges. Only the first one does.
    pub(super) fn by(&self, purger: Purger) {
        let _ = self.purger.set(Arc::new(purger));
    }

    /// Whether `head` is for us: where it is not allowed at all, it is the shop's.
    pub(super) fn takes(&self, head: &Head<'_>) -> bool {
        head.method.as_str() == "PURGE" && (self.from.is_some() || self.token.is_some())
    }

    /// Purges, if the client may.
    pub(super) fn step(
        &self,
        site: &Name,
        head: &Head<'_>,
        exchange: &Exchange,
        trust: &Trust,
    ) -> Step {
        let client = ClientAddr::of(head, &exchange.peer, trust);
        let is_near = self.from.as_ref().is_none_or(|from| from.includes(&client));
        let said = head.field("authorization").and_then(bearer);
        let is_known =
            self.token.is_none_or(|token| said.is_some_and(|s| blake3::hash(s) == token));
        let purger = self.purger.get().filter(|_| is_near && is_known).cloned();
        let purging = Purging {
            site: site.clone(),
            url: url(head),
            tags: tags(head),
            soft: head.field("penstock-purge").is_some_and(|v| v.eq_ignore_ascii_case(b"soft")),
            who: format!("a PURGE of {client:?}"),
        };
        Step::Work(Box::new(move |_, _| {
            Box::pin(async move {
                let Some(purger) = purger else {
                    let said = "{\"error\":\"you may not purge: see cache.purge_from and cache.purge_token_file\"}";
                    return answer(StatusCode::FORBIDDEN, said.to_owned());
                };
                let (status, body) = purger(purging).await;
                answer(status, body)
            })
        }))
    }
}

impl std::fmt::Debug for Purges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Purges").field("from", &self.from).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<blake3::Hash, String> {
    let text =
        std::fs::read_to_string(path).map_err(|cause| format!("{}: {cause}", path.display()))?;
    match text.trim() {
        token if token.len() < TOKEN_BYTES_MIN => Err(format!(
            "{}: a token has at least {TOKEN_BYTES_MIN} characters; make one with \
             `openssl rand -hex 32`",
            path.display()
        )),
        token => Ok(blake3::hash(token.as_bytes())),
    }
}

fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii())
}

fn url(head: &Head<'_>) -> String {
    let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("http://{}{}{query}", head.host, head.path)
}

fn tags(head: &Head<'_>) -> Vec<String> {
    let lines = |name| head.field_all(name).map(String::from_utf8_lossy);
    let keys = lines("surrogate-key")
        .flat_map(|line| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let tags = lines("cache-tag").flat_map(|line| {
        let tags = line.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        tags.map(str::to_owned).collect::<Vec<_>>()
    });
    keys.chain(tags).collect()
}

fn answer(status: StatusCode, body: String) -> Response<ResponseBody> {
    let length = body.len();
    let mut response = Response::new(ResponseBody::Full(Bytes::from(body)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::CONTENT_LENGTH, length.into());
    response
}

const BEARER: &[u8] = b"bearer ";
/// Shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
