//! What the settings say about each reason: status, code, text.

use http::StatusCode;

use super::Facts;
use crate::config::schema::{self, Language};
use crate::outcome::{Advice, REASONS, Reason, ReasonRow};

/// One reason as this shop says it.
#[derive(Clone, Debug)]
pub struct Words {
    /// The reason.
    pub reason: Reason,
    /// Status of a problem and of a page.
    pub status: StatusCode,
    /// Code in the envelope.
    pub code: i64,
    /// Text, in the shop's language or its own words.
    pub title: String,
    /// Language of the built-in texts.
    pub language: Language,
}

impl Words {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self, facts: &Facts<'_>) -> bool {
        match self.reason {
            // A restock may follow, unless it is said to be final.
            Reason::SoldOut => facts.is_final == Some(false),
            _ => self.reason.row().advice == Advice::Later,
        }
    }
}

/// The words of every reason, in the order of the enum.
pub fn resolve(settings: &schema::Answers) -> Result<Vec<Words>, String> {
    if let Some(unknown) =
        settings.reason.keys().find(|key| !REASONS.iter().any(|row| row.label == key.as_str()))
    {
        let known: Vec<_> = REASONS.iter().map(|row| row.label).collect();
        return Err(format!("answers.{unknown}: no such reason; there are {}", known.join(", ")));
    }
    REASONS.iter().map(|row| words(settings, row)).collect()
}

fn words(settings: &schema::Answers, row: &ReasonRow) -> Result<Words, String> {
    let own = settings.reason.get(row.label);
    let built_in = match settings.language {
        Language::En => row.title,
        Language::Zh => row.title_zh,
    };
    // A CDN in front replaces the body of a 5xx; what the crowd has to read is then a 429.
    let usual = if settings.behind_cdn && row.status == 503 { 429 } else { row.status };
    Ok(Words {
        reason: row.reason,
        status: status(
            &format!("answers.{}.status", row.label),
            own.and_then(|own| own.status).unwrap_or(usual),
        )?,
        code: own.and_then(|own| own.code).unwrap_or(i64::from(row.code)),
        title: own.and_then(|own| own.msg.clone()).unwrap_or_else(|| built_in.to_owned()),
        language: settings.language,
    })
}

/// A status of `setting` with which a body can be sent.
pub fn status(setting: &str, status: u16) -> Result<StatusCode, String> {
    match status {
        204 | 205 | 304 => Err(format!("{setting}: {status} has no body")),
        200..=599 => StatusCode::from_u16(status).map_err(|e| format!("{setting}: {e}")),
        _ => Err(format!("{setting}: {status} is not 200 to 599")),
    }
}
