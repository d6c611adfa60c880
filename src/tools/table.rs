//! Columns of text for people.

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a heading. The last column is as long as it is.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes an empty table.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The lines, the heading first, each of at most `width` characters if that is given.
    pub(crate) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let longest = |(index, (heading, _)): (usize, &(&str, Align))| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(heading.len())
        };
        let widths: Vec<_> = self.columns.iter().enumerate().map(longest).collect();
        let headings = self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        std::iter::once(&headings).chain(&self.rows).map(|row| self.line(row, &widths, width)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize], width: Option<usize>) -> String {
        let mut line = String::new();
        for ((cell, (_, align)), wide) in row.iter().zip(&self.columns).zip(widths) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            match align {
                Align::Left => line.push_str(&format!("{cell:<wide$}")),
                Align::Right => line.push_str(&format!("{cell:>wide$}")),
            }
        }
        let line = line.trim_end();
        match width {
            Some(width) => line.chars().take(width).collect(),
            None => line.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_headings_and_end_at_the_edge() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("REST", Align::Left)]);
        table.push(vec!["a".into(), "10".into(), "x y".into()]);
        table.push(vec!["longer".into(), "7".into(), String::new()]);
        assert_eq!(table.lines(None), ["NAME     N  REST", "a       10  x y", "longer   7"]);
        assert_eq!(table.lines(Some(3)), ["NAM", "a  ", "lon"]);
        assert_eq!(table.lines(Some(0)), ["", "", ""]);
    }
}
