//! Small tables for people: columns as wide as their widest cell.

/// Rows with their heading, aligned; a cell that is a number stands to the right.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([heading[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let heading = heading.map(str::to_owned);
    let is_number = |at: usize| {
        let digits = |cell: &String| !cell.is_empty() && cell.bytes().all(|b| b.is_ascii_digit());
        !rows.is_empty() && rows.iter().all(|row| digits(&row[at]))
    };
    let right: [bool; N] = std::array::from_fn(is_number);
    let mut out = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        let cells = row.iter().zip(widths).zip(right).map(|((cell, width), right)| {
            if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let text = table(["SALE", "STOCK"], &[row("spring-drop", "7"), row("x", "1000")]);
        assert_eq!(text, "SALE         STOCK\nspring-drop      7\nx             1000\n");
    }
}
