//! `penstock classify`: what an answer of the shop to a purchase means, by the rules of a config.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::config_file::ConfigFile;
use super::{Exit, say};
use crate::config::Settings;
use crate::config::schema::{Otherwise, Outcome, OutcomeRules, OutcomeSource, Upstream};
use crate::gate::outcome::{By, List, Reading, Rules, STATUS_TABLE, Unread, classify};
use crate::ident::Name;
use crate::outcome::Verdict;

/// Says what an answer of the shop to a purchase means, by the config's outcome rules.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Whose rules; absent: those of the only upstream that has any.
    #[arg(long, value_name = "NAME")]
    upstream: Option<Name>,
    /// The answer as it came, head and body, as `curl -si` prints it; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["status", "body", "header"])]
    response: Option<PathBuf>,
    /// Its status.
    #[arg(long, value_parser = clap::value_parser!(u16).range(200..=999))]
    status: Option<u16>,
    /// Its body; absent: empty.
    #[arg(long, value_name = "FILE", requires = "status")]
    body: Option<PathBuf>,
    /// One of its fields, `Name: value`; may be repeated.
    #[arg(long, value_name = "NAME: VALUE", requires = "status")]
    header: Vec<String>,
    /// Print the rules in the order in which they are tried.
    #[arg(long)]
    explain: bool,
}

/// An answer of the shop.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    if args.response.is_none() && args.status.is_none() && !args.explain {
        return usage("give --response FILE, or --status N with --body and --header, or --explain");
    }
    let settings = match args.config.settings() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let (name, outcome) = match rules_of(&settings, args.upstream.as_ref()) {
        Ok(found) => found,
        Err(what) => return usage(&what),
    };
    let rules = match Rules::new(outcome) {
        Ok(rules) => rules,
        Err(what) => {
            eprintln!("penstock classify: upstream.{name}.outcome.{what}");
            return Exit::Config;
        }
    };
    let mut out = String::new();
    if args.explain {
        out.push_str(&explain(name, outcome));
    }
    match answer(&args) {
        Err(what) => return usage(&what),
        Ok(None) => {}
        Ok(Some(answer)) => {
            let reading = classify(&rules, answer.status, &answer.headers, &answer.body);
            out.push_str(&verdict(name, &answer, &reading));
        }
    }
    say(&out)
}

fn usage(what: &str) -> Exit {
    eprintln!("penstock classify: {what}");
    Exit::Usage
}

fn rules_of<'s>(
    settings: &'s Settings,
    wanted: Option<&'s Name>,
) -> Result<(&'s Name, &'s Outcome), String> {
    let outcome =
        |(name, upstream): (&'s Name, &'s Upstream)| Some((name, upstream.outcome.as_ref()?));
    let mut with_rules = settings.upstream.iter().filter_map(outcome);
    if let Some(wanted) = wanted {
        let found = with_rules.find(|(name, _)| *name == wanted);
        return found.ok_or_else(|| match settings.upstream.contains_key(wanted) {
            true => format!("upstream.{wanted} has no outcome"),
            false => format!("there is no upstream `{wanted}`"),
        });
    }
    match (with_rules.next(), with_rules.next()) {
        (None, _) => Err("no upstream of the config has an outcome".to_owned()),
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            Err("several upstreams have outcomes: say --upstream NAME".to_owned())
        }
    }
}

fn answer(args: &Args) -> Result<Option<Answer>, String> {
    if let Some(path) = &args.response {
        let raw = read(path)?;
        return parse(&raw).map(Some).map_err(|what| format!("{}: {what}", path.display()));
    }
    let Some(status) = args.status else { return Ok(None) };
    let mut headers = HeaderMap::new();
    for line in &args.header {
        field(&mut headers, line.as_bytes())?;
    }
    let body = args.body.as_deref().map(read).transpose()?.unwrap_or_default();
    Ok(Some(Answer { status, headers, body }))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map(|_| bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// Reads a response as tools print it; interim ones before it are skipped. The body is taken as it
/// stands: tools print it decoded.
fn parse(raw: &[u8]) -> Result<Answer, String> {
    let mut rest = raw;
    loop {
        let line = line(&mut rest).ok_or("it is empty")?;
        let status =
            status_of(line).ok_or("its first line is no status line like `HTTP/1.1 200 OK`")?;
        let mut headers = HeaderMap::new();
        loop {
            match self::line(&mut rest) {
                None | Some(b"") => break,
                Some(line) => field(&mut headers, line)?,
            }
        }
        if !(100..200).contains(&status) {
            return Ok(Answer { status, headers, body: rest.to_vec() });
        }
    }
}

/// Takes the next line, without its ending.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn status_of(line: &[u8]) -> Option<u16> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/")?;
    words.next()?.parse().ok().filter(|status| (100..1000).contains(status))
}

fn field(headers: &mut HeaderMap, line: &[u8]) -> Result<(), String> {
    let wrong = || format!("`{}` is no field like `Name: value`", String::from_utf8_lossy(line));
    let colon = line.iter().position(|b| *b == b':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| wrong())?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| wrong())?;
    headers.append(name, value);
    Ok(())
}

fn verdict(name: &Name, answer: &Answer, reading: &Reading) -> String {
    let meaning = match reading.verdict {
        Verdict::Confirmed => "confirmed: the order exists, its units are sold",
        Verdict::Failed => "failed: no order was made, its units are free again",
        Verdict::Pending => "pending: accepted, its units are held until the final word",
        Verdict::Unknown => "unknown: nobody knows, its units wait in limbo",
        Verdict::Void => "void",
    };
    let mut out = format!("verdict  {meaning}\ndecided  {}\n", reading.by);
    for (label, text) in [("code", &reading.code), ("order", &reading.order)] {
        if let Some(text) = text {
            let _ = writeln!(out, "{label:<8} {}", text.escape_debug());
        }
    }
    if reading.is_sold_out(answer.status) {
        out.push_str("besides  evidence that the shop's stock is gone\n");
    }
    if let By::Shop(List::Already) | By::Listed(List::Already) = reading.by {
        out.push_str("besides  this user has an order already\n");
    }
    if let Some(why) = reading.unread() {
        let _ = writeln!(out, "fix      {}", fix(name, why, reading));
    }
    out
}

/// What the operator can write for an answer that nothing classifies.
fn fix(name: &Name, why: Unread, reading: &Reading) -> String {
    let outcome = format!("upstream.{name}.outcome");
    match (why, &reading.code) {
        (Unread::Unlisted, Some(code)) => format!(
            "put {}{} into confirmed, failed, sold_out, already or pending of {outcome}",
            code.escape_debug(),
            // A code in quotes is another one than the number, which may stand in a list already.
            match code.parse::<i64>() {
                Ok(number) => format!(" (\"{number}\", if the answer has it in quotes)"),
                Err(_) => String::new(),
            }
        ),
        (Unread::Redirect, _) => {
            format!(
                "put what Location begins with after an order into {outcome}.redirect_confirmed"
            )
        }
        (Unread::Word, _) => "let the shop send one of confirmed, failed, sold_out, duplicate, \
             pending in Penstock-Outcome"
            .to_owned(),
        (Unread::NoValue | Unread::NotACode | Unread::NoHeader, _) => {
            format!("look whether {outcome}.at names the right place")
        }
        _ => format!(
            "if such an answer never comes with an order, and its status is not 2xx, write \
             otherwise = \"status\" in {outcome}"
        ),
    }
}

fn explain(name: &Name, outcome: &Outcome) -> String {
    let mut out = format!(
        "An answer of upstream {name} to a purchase means, in this order:\n\n\
         1. nothing of the purchase was sent: failed\n\
         2. the answer was cut, or did not come in time: unknown\n\
         3. Penstock-Outcome, if the shop sends it: confirmed, failed, sold_out, duplicate, pending\n"
    );
    match outcome {
        Outcome::Status(_) => {
            out.push_str("4. the status table:\n");
            table(&mut out);
        }
        Outcome::Rules(rules) => explain_rules(&mut out, rules),
    }
    out.push('\n');
    out
}

fn explain_rules(out: &mut String, rules: &OutcomeRules) {
    let at = rules.at.as_deref().unwrap_or_default();
    let _ = match rules.read {
        OutcomeSource::Json => writeln!(out, "4. the code in the JSON body at {at}:"),
        OutcomeSource::Header => writeln!(out, "4. the header {at}:"),
        OutcomeSource::Status => writeln!(out, "4. the status:"),
    };
    for (list, codes) in [
        ("confirmed", &rules.confirmed),
        ("failed", &rules.failed),
        ("sold_out", &rules.sold_out),
        ("already", &rules.already),
        ("pending", &rules.pending),
    ] {
        if !codes.is_empty() {
            let codes = serde_json::to_string(codes).unwrap_or_default();
            let _ = writeln!(out, "   {list:<10} {codes}");
        }
    }
    let redirects = rules.redirect_confirmed.join(" or ");
    let _ = match redirects.as_str() {
        "" => writeln!(out, "5. redirect_confirmed: none"),
        _ => writeln!(out, "5. 302 or 303 to {redirects}: confirmed"),
    };
    match rules.otherwise {
        Otherwise::Unknown => out.push_str("6. anything else: unknown, and an operator is told\n"),
        Otherwise::Status => {
            out.push_str("6. any other 2xx: unknown, and an operator is told\n");
            out.push_str("7. the status table:\n");
            table(out);
        }
    }
}

fn table(out: &mut String) {
    for line in STATUS_TABLE.lines() {
        let _ = writeln!(out, "   {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_as_tools_print_it() {
        let raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2 409 \r\nX-Code: 7\r\n\r\n{\"a\":1}\n";
        let answer = parse(raw).expect("valid");
        assert_eq!((answer.status, answer.body.as_slice()), (409, &b"{\"a\":1}\n"[..]));
        assert_eq!(answer.headers["x-code"], "7");
        let bare = parse(b"HTTP/1.0 204\n").expect("valid");
        assert_eq!((bare.status, bare.body.len()), (204, 0));
        for bad in [&b""[..], b"{\"code\":0}", b"HTTP/1.1 OK", b"HTTP/1.1 200\r\nno colon\r\n\r\n"]
        {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
