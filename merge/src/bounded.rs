//! Texts of bounded size: what is said about an input may not grow with the input.
//!
//! A name in a file may be as long as the file, and a list of names as long as its header. Messages cross the network, stand
//! in records and on pages, so they are cut where they are made.

use std::fmt::Write as _;

/// Items that a list names before it only counts.
pub const LISTED: usize = 20;

/// The mark at the end of a text that was cut.
const CUT: &str = " ... (cut off)";

/// The text in at most `most` bytes. A longer one is cut between two characters, and says so.
///
/// ```
/// use shardfuse_merge::bounded::text;
/// assert_eq!(text("short".into(), 100), "short");
/// assert_eq!(text("x".repeat(100), 20), "xxxxxx ... (cut off)");
/// ```
pub fn text(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub(CUT.len())));
        text.push_str(CUT);
    }
    text
}

/// The first [`LISTED`] items, separated by commas, and how many more there are.
///
/// ```
/// use shardfuse_merge::bounded::list;
/// assert_eq!(list(["a", "b"]), "a, b");
/// assert!(list((0..25).map(|n| n.to_string())).ends_with("18, 19 and 5 more"));
/// ```
pub fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut items = items.into_iter();
    let mut all = items.by_ref().take(LISTED).fold(String::new(), |mut all, item| {
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(item.as_ref());
        all
    });
    match items.count() {
        0 => {}
        // Writing to a string cannot fail.
        more => _ = write!(all, " and {more} more"),
    }
    all
}

/// At most `most` remarks of at most `longest` bytes each; the last one counts those that are left out.
pub fn remarks(all: impl IntoIterator<Item = String>, most: usize, longest: usize) -> Vec<String> {
    let mut all = all.into_iter();
    let mut kept: Vec<String> = all.by_ref().take(most).map(|remark| text(remark, longest)).collect();
    let more = all.count();
    if more > 0 {
        kept.pop();
        kept.push(format!("{} more remarks are left out here; shardfuse plan shows all", more + 1));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_never_exceeds_its_bound() {
        for most in 20..40 {
            let cut = text("ä€😀".repeat(50), most);
            assert!(cut.len() <= most && cut.ends_with(CUT), "{most}: {cut:?}");
        }
        assert_eq!(text("x".repeat(20), 20), "x".repeat(20), "what just fits is whole");
    }

    #[test]
    fn remarks_beyond_the_bound_are_counted() {
        let many = |n: usize| (0..n).map(|i| format!("remark {i}"));
        assert_eq!(remarks(many(3), 3, 100), ["remark 0", "remark 1", "remark 2"]);
        let cut = remarks(many(10), 3, 100);
        assert_eq!(cut.len(), 3);
        assert!(cut[2].starts_with("8 more remarks"), "{cut:?}");
        assert!(remarks(["x".repeat(1000)], 3, 100)[0].len() <= 100);
    }
}
