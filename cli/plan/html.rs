//! HTML in which nothing but our own markup is markup.

use std::fmt::Display;

use crate::text;

/// A page while it is written. Markup is a literal of this program; everything else goes through [`Html::text`].
#[derive(Debug, Default)]
pub struct Html(String);

impl Html {
    /// Markup.
    pub fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0 += markup;
        self
    }

    /// Text, whatever is in it: in an element, or in a quoted attribute.
    pub fn text(&mut self, text: impl Display) -> &mut Html {
        for c in text::escape(&text.to_string()).chars() {
            match c {
                '&' => self.0 += "&amp;",
                '<' => self.0 += "&lt;",
                '>' => self.0 += "&gt;",
                '"' => self.0 += "&quot;",
                '\'' => self.0 += "&#39;",
                c => self.0.push(c),
            }
        }
        self
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_markup_and_leaves_no_attribute() {
        let mut html = Html::default();
        html.raw("<td title=\"").text("\" onload='x'").raw("\">").text("<script>&\u{202e}\n").raw("</td>");
        assert_eq!(html.finish(), "<td title=\"&quot; onload=&#39;x&#39;\">&lt;script&gt;&amp;\\u{202e}\\n</td>");
    }
}
