//! Text for a terminal.
//!
//! Names, messages and remarks come from files and from other machines. One that holds control characters could move the
//! cursor, recolour or overwrite what stands there; a line break could forge a line of ours. So everything that is
//! printed as text goes through [`Text`], which escapes each line, and log lines go through [`escape`] too. JSON escapes
//! by its own rules.

use std::borrow::Cow;
use std::fmt::Display;

use crate::progress::screen;

/// Text with every character that is not printed as itself written as Rust writes it: `\n`, `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_unsafe(c) {
            // `escape_default` knows the short forms, and no letters beyond ASCII come here.
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    plain.into()
}

/// Control characters, line separators, and those that are invisible or change the direction of what follows.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Lines for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// No line yet.
    pub fn new() -> Text {
        Text::default()
    }

    /// One line, whatever is in it.
    pub fn of(line: impl Display) -> Text {
        let mut text = Text::new();
        text.line(line);
        text
    }

    /// Lines of a text that is all ours, such as a certificate.
    pub fn lines_of(text: &str) -> Text {
        let mut lines = Text::new();
        text.lines().for_each(|line| lines.line(line));
        lines
    }

    /// Columns, each as wide as its widest cell.
    pub fn table<const N: usize>(rows: &[[String; N]]) -> Text {
        let rows: Vec<[Cow<'_, str>; N]> = rows.iter().map(|row| row.each_ref().map(|cell| escape(cell))).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let mut text = Text::new();
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.line(cells.join("  ").trim_end());
        }
        text
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl Display) {
        self.0 += &escape(&line.to_string());
        self.0.push('\n');
    }

    /// Adds other lines.
    pub fn append(&mut self, other: Text) {
        self.0 += &other.0;
    }

    /// Writes it to stderr. A closed stderr is no reason to fail.
    pub fn say(&self) {
        let _ = screen::write(self.0.as_bytes());
    }

    /// As it is printed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_act_on_a_terminal_is_written_out() {
        for (text, shown) in [
            ("model.layers.0.weight", "model.layers.0.weight"),
            ("Schöne Gewichte 模型 \\n", "Schöne Gewichte 模型 \\n"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\nb\r\tc\0\u{7f}", "a\\nb\\r\\tc\\u{0}\\u{7f}"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("a\u{2028}b\u{feff}\u{200b}\u{e0041}", "a\\u{2028}b\\u{feff}\\u{200b}\\u{e0041}"),
        ] {
            assert_eq!(escape(text), shown);
            assert_eq!(escape(&escape(text)), shown, "twice is once");
        }
    }

    #[test]
    fn a_name_forges_no_line() {
        let mut text = Text::of("ignored: a\nplan     0123");
        text.line("error: first\nhint: run this\u{1b}[1m");
        text.append(Text::table(&[["a\nb".to_owned(), "c".to_owned()], ["d".to_owned(), String::new()]]));
        let lines = "ignored: a\\nplan     0123\nerror: first\\nhint: run this\\u{1b}[1m\na\\nb  c\nd\n";
        assert_eq!(text.as_str(), lines);
    }
}
