//! Pages for browsers that navigate: the shop's own from a directory, else a small one of ours.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use super::Facts;
use super::words::Words;
use crate::answer::{Slot, SlotKind};
use crate::config::schema::{self, Language};
use crate::http::Head;
use crate::http::recent::Recent;
use crate::outcome::{REASONS, Reason};

/// The shop's own pages, read at start: no path of a request leads to a file.
#[derive(Debug)]
pub struct Pages {
    own: HashMap<Reason, Vec<u8>>,
}

impl Pages {
    /// Reads `html_dir/REASON.html`, for each reason that has one.
    pub fn new(settings: &schema::Answers) -> Result<Pages, String> {
        let mut own = HashMap::new();
        let Some(dir) = &settings.html_dir else { return Ok(Pages { own }) };
        if !Path::new(dir).is_dir() {
            return Err(format!("answers.html_dir: `{dir}` is not a directory"));
        }
        for row in REASONS {
            let path = Path::new(dir).join(format!("{}.html", row.label));
            let page = match std::fs::read(&path) {
                Ok(page) => page,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(format!("answers.html_dir: {}: {error}", path.display()));
                }
            };
            if page.len() > PAGE_BYTES_MAX {
                return Err(format!(
                    "answers.html_dir: {} has {} bytes; at most {PAGE_BYTES_MAX}, so that it fits \
                     into the first flight of a new connection",
                    path.display(),
                    page.len()
                ));
            }
            own.insert(row.reason, page);
        }
        Ok(Pages { own })
    }

    /// The page of a reason.
    pub fn page(&self, words: &Words, facts: &Facts<'_>) -> (Vec<u8>, Vec<Slot>) {
        match self.own.get(&words.reason) {
            Some(page) => (page.clone(), Vec::new()),
            None => built_in(words, facts),
        }
    }
}

/// Whether the client of `head` navigates, or asks for `text/html` by name. `*/*`, `text/*` and no
/// `Accept` at all are no wish for a page: apps and scripts send them.
pub fn is_wanted(head: &Head<'_>) -> bool {
    head.field("sec-fetch-mode").is_some_and(|mode| mode.eq_ignore_ascii_case(b"navigate"))
        || head.field_all("accept").any(accepts_html)
}

/// Whether a line of `Accept` names it.
fn accepts_html(line: &[u8]) -> bool {
    thread_local! {
        static RECENT: RefCell<Recent<bool>> = const { RefCell::new(Recent::new()) };
    }
    let read = |line: &[u8]| line.split(|b| *b == b',').any(names_html);
    RECENT.with_borrow_mut(|recent| recent.get(line, read))
}

/// Whether one element of `Accept` is `text/html` with a weight above 0.
fn names_html(element: &[u8]) -> bool {
    let mut parts = element.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let is_html = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"text/html"));
    is_html && !parts.any(is_zero_weight)
}

fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some((name, value)) = parameter.split_at_checked(2) else { return false };
    name.eq_ignore_ascii_case(b"q=")
        && value.first() == Some(&b'0')
        && value[1..].iter().all(|b| matches!(b, b'.' | b'0'))
}

/// A page that works without scripts and pictures: a reload sends the same form with the same key.
fn built_in(words: &Words, facts: &Facts<'_>) -> (Vec<u8>, Vec<Slot>) {
    let texts = texts(words.language);
    let title = escaped(&words.title);
    let mut page = format!(
        "<!doctype html><html lang=\"{}\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>body{{font:18px/1.5 system-ui,sans-serif;max-width:32em;\
         margin:15vh auto;padding:0 1em;text-align:center}}small{{color:#777}}\
         button{{font:inherit;padding:.5em 1.5em}}</style><h1>{title}</h1>",
        texts.lang
    );
    for fact in [facts.detail, facts.order].into_iter().flatten() {
        page.push_str(&format!("<p>{}</p>", escaped(fact)));
    }
    let mut slots = Vec::new();
    let mut slot = |page: &mut String, kind: SlotKind| {
        slots.push(Slot { kind, at: page.len() });
        page.extend(std::iter::repeat_n(' ', kind.width()));
    };
    if words.is_retryable(facts) {
        // Before T0 the moment says more than a number of seconds that may be days.
        if let Some(opens_at) = facts.opens_at {
            page.push_str(&format!(
                "<script>document.write('<p>{}'+new Date({}).toLocaleString()+'</p>')</script>",
                texts.opens, opens_at.0
            ));
        } else if words.reason.row().retry_after_ms > 0 {
            let is_sold_out = words.reason == Reason::SoldOut;
            page.push_str(&format!("<p>{}", if is_sold_out { texts.returns } else { texts.wait }));
            slot(&mut page, SlotKind::RetryAfter);
            page.push_str(&format!("{}</p>", texts.seconds));
        }
        page.push_str(&format!(
            "<script>document.write('<button onclick=\"location.reload()\">{}</button>')</script>\
             <noscript><p>{}</p></noscript>",
            texts.again, texts.reload
        ));
    }
    page.push_str("<p><small>");
    slot(&mut page, SlotKind::RequestId);
    page.push_str("</small></p></html>\n");
    (page.into_bytes(), slots)
}

struct Texts {
    lang: &'static str,
    opens: &'static str,
    returns: &'static str,
    wait: &'static str,
    seconds: &'static str,
    again: &'static str,
    reload: &'static str,
}

fn texts(language: Language) -> Texts {
    match language {
        Language::En => Texts {
            lang: "en",
            opens: "It opens at ",
            returns: "Units may come back. Look again in about ",
            wait: "Please wait about ",
            seconds: " s.",
            again: "Try again",
            reload: "Reload this page to try again.",
        },
        Language::Zh => Texts {
            lang: "zh-CN",
            opens: "开始时间：",
            returns: "可能会有退回的库存。下次查看请等待约 ",
            wait: "请等待约 ",
            seconds: " 秒。",
            again: "重试",
            reload: "请刷新本页重试。",
        },
    }
}

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// Largest page, in bytes: what a new TCP connection sends without waiting.
const PAGE_BYTES_MAX: usize = 14 * 1024;
