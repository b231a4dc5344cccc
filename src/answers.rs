//! What clients are told where the edge decides: for every reason one ready-made answer in each form
//! that the shop chose (`problem` or `envelope`, JSON or a page).
//!
//! `words` resolves what the settings say about a reason; [`body`] writes JSON with slots;
//! [`envelope`] is the shop's own template; [`html`] is for browsers that navigate.

pub mod body;
pub mod envelope;
pub mod html;
mod words;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::Arc;

use http::HeaderName;

use self::body::Json;
use self::envelope::Template;
use self::html::Pages;
use self::words::Words;
use crate::answer::{Answer, AnswerBuilder, Fill, Local, SlotKind};
use crate::clock::UnixMs;
use crate::config::schema::{self, Style};
use crate::http::{Exchange, Head, Ready};
use crate::outcome::{REASONS, Reason};

/// The form in which one client is answered: style, language, JSON or HTML. Small, so that it can be
/// part of a memo's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Form(pub u8);

/// What an answer says beside its reason.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// What was wrong, for the client's developer.
    pub detail: Option<&'a str>,
    /// Whether the state will never change again.
    pub is_final: Option<bool>,
    /// The pool.
    pub pool: Option<&'a str>,
    /// Units that the user may still buy, or that are left.
    pub max_units: Option<u32>,
    /// T0.
    pub opens_at: Option<UnixMs>,
    /// The order's number.
    pub order: Option<&'a str>,
    /// `Allow` of a 405.
    pub allow: Option<&'a str>,
    /// `Access-Control-Allow-Origin`, where CORS is set for the route.
    pub allow_origin: Option<&'a str>,
}

/// The answers of one configuration.
#[derive(Debug)]
pub struct Answers {
    /// The shop's style, then those of the variants.
    styles: Vec<Style>,
    variants: Vec<Variant>,
    words: Vec<Words>,
    template: Template,
    envelope_status: http::StatusCode,
    type_base: String,
    pages: Pages,
    vary: String,
    /// By form, then by reason.
    plain: Vec<Vec<Arc<Answer>>>,
}

#[derive(Debug)]
struct Variant {
    header: HeaderName,
    prefix: Vec<u8>,
}

impl Answers {
    /// Reads `[answers]`; an error says which setting is wrong.
    pub fn new(settings: &schema::Answers) -> Result<Answers, String> {
        let variants = variants(settings)?;
        let styles = std::iter::once(settings.style)
            .chain(settings.variant.iter().map(|v| v.style))
            .collect::<Vec<_>>();
        let mut answers = Answers {
            words: words::resolve(settings)?,
            template: Template::new(settings.envelope.as_deref().unwrap_or(ENVELOPE_DEFAULT))
                .map_err(|e| format!("answers.envelope: {e}"))?,
            envelope_status: words::status("answers.status", settings.status.unwrap_or(200))?,
            type_base: type_base(settings)?,
            pages: Pages::new(settings)?,
            vary: vary(&variants),
            variants,
            styles,
            plain: Vec::new(),
        };
        let forms = answers.forms();
        answers.plain = forms
            .into_iter()
            .map(|form| {
                let make = |row: &crate::outcome::ReasonRow| {
                    answers.make(form, row.reason, &Facts::default())
                };
                REASONS.iter().map(make).collect()
            })
            .collect();
        Ok(answers)
    }

    /// The form for the client of `head`: a page for a browser that navigates, else the style of the
    /// first variant that fits, else the shop's.
    pub fn form(&self, head: &Head<'_>) -> Form {
        if html::is_wanted(head) {
            return HTML;
        }
        let fits = |v: &Variant| {
            head.field(v.header.as_str()).is_some_and(|value| value.starts_with(&v.prefix))
        };
        let index = self.variants.iter().position(fits).map_or(0, |i| i + 1);
        Form(u8::try_from(index).unwrap_or(0))
    }

    /// The answer for a reason without any facts, made at start.
    pub fn plain(&self, form: Form, reason: Reason) -> Local {
        let index = if form == HTML { self.styles.len() } else { usize::from(form.0) };
        match self.plain.get(index).and_then(|row| row.get(reason as usize)) {
            Some(answer) => Local::of(answer),
            None => self.make(form, reason, &Facts::default()).into(),
        }
    }

    /// Makes the answer for a reason with its facts. Costs an allocation: keep it in a memo where the
    /// same is said often.
    pub fn make(&self, form: Form, reason: Reason, facts: &Facts<'_>) -> Arc<Answer> {
        let words = &self.words[reason as usize];
        if form == HTML {
            let (bytes, slots) = self.pages.page(words, facts);
            let builder = AnswerBuilder::new(words.status)
                .field("content-type", "text/html; charset=utf-8")
                .body_with_slots(bytes, slots);
            return self.finish(builder, words, words.status, facts);
        }
        let style = self.styles.get(usize::from(form.0)).or(self.styles.first()).copied();
        let (status, kind, json) = match style.unwrap_or_default() {
            Style::Problem => {
                let json = body::problem(&self.type_base, words, facts);
                (words.status, "application/problem+json", json)
            }
            Style::Envelope => {
                let mut data = Json::default();
                body::data(&mut data, words, facts);
                let mut code = Json::default();
                code.value(&words.code);
                let mut msg = Json::default();
                msg.value(&words.title);
                let json = self.template.render(&code, &msg, &data);
                (self.envelope_status, "application/json", json)
            }
        };
        let (bytes, slots) = json.into_parts();
        let builder =
            AnswerBuilder::new(status).field("content-type", kind).body_with_slots(bytes, slots);
        self.finish(builder, words, status, facts)
    }

    /// `answer` for this exchange: its slots filled, a jittered wait among them.
    pub fn ready(&self, answer: impl Into<Local>, reason: Reason, exchange: &Exchange) -> Ready {
        let fill = Fill {
            now: exchange.now,
            request: exchange.id,
            retry_after_ms: jittered(reason.row().retry_after_ms),
            ..Fill::default()
        };
        Ready { answer: answer.into(), fill, reason: Some(reason) }
    }

    /// The fields that every answer has, whatever its body.
    fn finish(
        &self,
        mut builder: AnswerBuilder,
        words: &Words,
        status: http::StatusCode,
        facts: &Facts<'_>,
    ) -> Arc<Answer> {
        builder = builder
            .field("cache-control", "no-store")
            .field("penstock-reason", words.reason.label())
            .slot("penstock-time", SlotKind::ServerTime)
            .slot("penstock-request", SlotKind::RequestId);
        if words.is_retryable(facts) && words.reason.row().retry_after_ms > 0 {
            builder = builder.slot("retry-after", SlotKind::RetryAfter);
        }
        if status == http::StatusCode::UNAUTHORIZED {
            builder = builder.field("www-authenticate", "Bearer");
        }
        if let Some(allow) = facts.allow.or((words.reason == Reason::Method).then_some(ALLOW)) {
            builder = builder.field("allow", allow);
        }
        let Some(origin) = facts.allow_origin else {
            return builder.field("vary", &self.vary).build();
        };
        builder = builder
            .field("access-control-allow-origin", origin)
            .field("access-control-expose-headers", EXPOSE);
        if origin == "*" {
            return builder.field("vary", &self.vary).build();
        }
        builder
            .field("access-control-allow-credentials", "true")
            .field("vary", format!("{}, Origin", self.vary))
            .build()
    }

    /// Every form, in the order of `plain`.
    fn forms(&self) -> Vec<Form> {
        let styles = (0..self.styles.len()).filter_map(|i| u8::try_from(i).ok().map(Form));
        styles.chain([HTML]).collect()
    }
}

/// A wait around `centre_ms`, give or take 30 %, so that a crowd that was refused at one instant does
/// not come back at one instant. Each thread deals a few factors in turn: cheap, and evenly spread.
pub fn jittered(centre_ms: u32) -> u32 {
    thread_local! {
        static TURN: Cell<usize> = const { Cell::new(0) };
    }
    let turn = TURN.get();
    TURN.set(turn.wrapping_add(1));
    let percent = JITTER_PERCENT[turn % JITTER_PERCENT.len()];
    u32::try_from(u64::from(centre_ms) * percent / 100).unwrap_or(u32::MAX)
}

fn variants(settings: &schema::Answers) -> Result<Vec<Variant>, String> {
    if settings.variant.len() > VARIANTS_MAX {
        return Err(format!(
            "answers.variant: at most {VARIANTS_MAX} variants, here are {}",
            settings.variant.len()
        ));
    }
    settings
        .variant
        .iter()
        .enumerate()
        .map(|(i, variant)| {
            let header = variant.when.header.parse::<HeaderName>().map_err(|_| {
                format!(
                    "answers.variant[{i}].when.header: `{}` is not the name of a header",
                    variant.when.header
                )
            })?;
            Ok(Variant { header, prefix: variant.when.prefix.clone().into_bytes() })
        })
        .collect()
}

fn type_base(settings: &schema::Answers) -> Result<String, String> {
    let base = settings.type_base.as_deref().unwrap_or("urn:penstock:");
    if base.is_ascii() && !base.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return Ok(base.to_owned());
    }
    Err(format!(
        "answers.type_base: `{base}` is not the beginning of a URI: write it percent-encoded"
    ))
}

/// Everything that the choice of a form reads.
fn vary(variants: &[Variant]) -> String {
    let mut vary = "Accept, Sec-Fetch-Mode".to_owned();
    for (i, variant) in variants.iter().enumerate() {
        if !variants[..i].iter().any(|v| v.header == variant.header) {
            vary.push_str(", ");
            vary.push_str(variant.header.as_str());
        }
    }
    vary
}

/// The form of a browser that navigates; below it are the styles.
const HTML: Form = Form(8);

/// Most variants (`[[answers.variant]]`).
const VARIANTS_MAX: usize = 4;

/// The envelope where the setting is absent; the request's id is in `Penstock-Request`.
const ENVELOPE_DEFAULT: &str = r#"{"code":{code},"msg":{msg},"data":{data}}"#;

/// What scripts of another origin may read.
pub const EXPOSE: &str = "Retry-After, Penstock-Time, Penstock-Reason";

/// `Allow` where the caller does not say it: the methods of a purchase path.
const ALLOW: &str = "GET, HEAD, POST, OPTIONS";

/// Factors of a wait, in percent, in an order without long runs.
const JITTER_PERCENT: [u64; 8] = [70, 104, 87, 121, 79, 113, 96, 130];
