//! The edge's journal, read as any operator may: what became of every admission.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DemoError;

/// What the journal comes to: `admitted = sold + failed + unknown + open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Claims that were admitted.
    pub admitted: u64,
    /// Those that were confirmed.
    pub sold: u64,
    /// Those that definitely failed.
    pub failed: u64,
    /// Those of which nobody knows.
    pub unknown: u64,
    /// Those without any outcome.
    pub open: u64,
    /// Unix milliseconds of the first admission, 0 if none.
    pub first_ms: u64,
    /// Unix milliseconds of the last admission.
    pub last_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Admitted,
    Sold,
    Failed,
    Unknown,
}

/// Reads every file of `dir`, in the order of their names.
pub fn read(dir: &Path) -> Result<Count, DemoError> {
    let at = || DemoError::system(format!("the journal {}", dir.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(at())? {
        let path = entry.map_err(at())?.path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    let mut texts = Vec::new();
    for file in files {
        texts.push(std::fs::read_to_string(file).map_err(at())?);
    }
    Ok(count(texts.iter().flat_map(|text| text.lines())))
}

fn count<'a>(lines: impl Iterator<Item = &'a str>) -> Count {
    let mut count = Count::default();
    let mut claims: HashMap<String, Mark> = HashMap::new();
    for line in lines {
        // The line that was being written when the edge was killed may be cut.
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        let (Some(claim), Some(mark)) = (text("claim"), text("event").and_then(mark_of)) else {
            continue;
        };
        if mark == Mark::Admitted {
            let t = line.get("t").and_then(Value::as_u64).unwrap_or(0);
            count.first_ms = if count.first_ms == 0 { t } else { count.first_ms.min(t) };
            count.last_ms = count.last_ms.max(t);
            claims.entry(claim.to_owned()).or_insert(mark);
        } else if mark != Mark::Unknown
            || !matches!(claims.get(claim), Some(Mark::Sold | Mark::Failed))
        {
            // "Nobody knows" takes nothing back: the reaper's line may come after the outcome's.
            claims.insert(claim.to_owned(), mark);
        }
    }
    for mark in claims.values() {
        count.admitted += 1;
        match mark {
            Mark::Admitted => count.open += 1,
            Mark::Sold => count.sold += 1,
            Mark::Failed => count.failed += 1,
            Mark::Unknown => count.unknown += 1,
        }
    }
    count
}

/// Events are the letters of outcomes, or the words for them.
fn mark_of(event: &str) -> Option<Mark> {
    match event.to_ascii_lowercase().as_str() {
        "a" | "admit" | "admitted" => Some(Mark::Admitted),
        // A cancelled order was sold before; the shop counts it so too.
        "c" | "confirmed" | "v" | "void" => Some(Mark::Sold),
        "f" | "failed" => Some(Mark::Failed),
        "x" | "l" | "p" | "unknown" | "limbo" | "pending" => Some(Mark::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_claim_counts() {
        let lines = [
            r#"{"t":1000,"claim":"a","event":"admitted"}"#,
            r#"{"t":1003,"claim":"b","event":"A"}"#,
            r#"{"t":1004,"claim":"a","event":"unknown"}"#,
            r#"{"t":1005,"claim":"a","event":"confirmed"}"#,
            r#"{"t":1006,"claim":"b","event":"F"}"#,
            r#"{"t":1007,"claim":"c","event":"admitted"}"#,
            r#"{"t":1008,"claim":"d","event":"admitted"}"#,
            r#"{"t":1009,"claim":"d","event":"X"}"#,
            r#"{"t":1010,"event":"started"}"#,
            r#"{"t":1011,"claim":"e","ev"#,
        ];
        let want = Count {
            admitted: 4,
            sold: 1,
            failed: 1,
            unknown: 1,
            open: 1,
            first_ms: 1_000,
            last_ms: 1_008,
        };
        assert_eq!(count(lines.into_iter()), want);
    }
}
