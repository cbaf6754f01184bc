//! The last line of a card: the digest of all lines before it.

/// What the line begins and ends with.
const BEGIN: &str = "\n<!-- shardfuse card ";
const END: &str = " -->\n";

/// A card with its last line.
pub(super) fn seal(text: &str) -> String {
    format!("{text}{BEGIN}{}{END}", digest(text))
}

/// Whether this is a card that shardfuse wrote and nobody has changed. Ends of lines do not count: git changes them.
pub fn is_ours(text: &str) -> bool {
    let text = text.replace("\r\n", "\n");
    let Some((before, rest)) = text.rsplit_once(BEGIN) else { return false };
    rest.strip_suffix(END).is_some_and(|told| told == digest(before))
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_card_is_a_persons() {
        let card = seal("# A model\n\ntext\n");
        assert!(is_ours(&card) && is_ours(&card.replace('\n', "\r\n")));
        assert!(!is_ours(&card.replace("text", "mine")) && !is_ours(&format!("{card}more")) && !is_ours("# A model\n"));
    }
}
