//! In which style a client is told: the bare object (`problem`), or inside the shop's own envelope
//! with code 0, whatever the state: the question was answered.

use crate::answers::body::Json;
use crate::answers::envelope::Template;
use crate::config::schema::{self, AnswerVariant, Style};
use crate::http::Head;

/// The style for one client, as part of a memo's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form(pub u8);

/// The styles of one configuration.
#[derive(Debug)]
pub struct Styles {
    style: Style,
    variants: Vec<AnswerVariant>,
    envelope: Template,
    vary: Option<String>,
}

impl Styles {
    /// Reads `[answers]`; an error says which setting is wrong.
    pub fn new(settings: &schema::Answers) -> Result<Styles, String> {
        let template = settings.envelope.as_deref().unwrap_or(ENVELOPE);
        let mut names: Vec<_> = Vec::new();
        for variant in &settings.variant {
            let name = variant.when.header.to_ascii_lowercase();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Styles {
            style: settings.style,
            variants: settings.variant.clone(),
            envelope: Template::new(template).map_err(|e| format!("answers.envelope: {e}"))?,
            vary: (!names.is_empty()).then(|| names.join(", ")),
        })
    }

    /// The style for the client of `head`: that of the first variant that fits, else the shop's.
    pub fn form(&self, head: &Head<'_>) -> Form {
        let fits = |v: &&AnswerVariant| {
            let value = head.field(&v.when.header);
            value.is_some_and(|value| value.starts_with(v.when.prefix.as_bytes()))
        };
        match self.variants.iter().find(fits).map_or(self.style, |v| v.style) {
            Style::Problem => BARE,
            Style::Envelope => ENVELOPED,
        }
    }

    /// The fields that decide about the style, if any does.
    pub fn vary(&self) -> Option<&str> {
        self.vary.as_deref()
    }

    /// `data` in the style of `form`.
    pub fn wrap(&self, form: Form, data: Json) -> Json {
        if form == BARE {
            return data;
        }
        let (mut code, mut msg) = (Json::default(), Json::default());
        code.raw("0");
        msg.raw("\"ok\"");
        self.envelope.render(&code, &msg, &data)
    }
}

const BARE: Form = Form(0);
const ENVELOPED: Form = Form(1);

/// The envelope where the shop gives none.
const ENVELOPE: &str = r#"{"code":{code},"msg":{msg},"data":{data}}"#;
