//! The known word that is nearest to an unknown one.

/// The nearest of `known` to `word`, if it is near enough to be a slip of the pen.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word: Vec<char> = word.chars().take(WORD_CHARS_MAX).collect();
    let most = (word.len() / 3).max(1);
    known
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(far, _)| *far <= most)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour, `-` and `_` and the case being no
/// difference (optimal string alignment).
fn distance(word: &[char], candidate: &str) -> usize {
    let fold = |c: char| if c == '-' { '_' } else { c.to_ascii_lowercase() };
    let a: Vec<char> = word.iter().copied().map(fold).collect();
    let b: Vec<char> = candidate.chars().map(fold).collect();
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Longer words are compared by their beginning: a config is read, not searched.
const WORD_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_found_and_nothing_else() {
        let known = ["servers", "host", "outcome", "purchase_timeout"];
        for (word, expected) in [
            ("server", Some("servers")),
            ("sevrers", Some("servers")),
            ("Outcome", Some("outcome")),
            ("purchase-timeout", Some("purchase_timeout")),
            ("purchase_timeout_ms", Some("purchase_timeout")),
            ("hots", Some("host")),
            ("retries", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
    }
}
