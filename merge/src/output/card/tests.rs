use super::*;

fn taken(names: &[&str]) -> BTreeMap<String, ObjectId> {
    (0u32..).zip(names).map(|(id, name)| ((*name).to_owned(), ObjectId(id))).collect()
}

#[test]
fn the_bases_card_gets_a_name_that_no_file_has() {
    assert_eq!(free(&taken(&[])), "README.base.md");
    assert_eq!(free(&taken(&["README.base.md", "README.base-2.md"])), "README.base-3.md");
    assert!(is_kept("README.base.md") && is_kept("README.base-3.md"));
    assert!(!is_kept("README.md") && !is_kept("README.base-model.md") && !is_kept("docs/README.base.md"));
}

#[test]
fn options_are_told_where_they_differ_and_a_folder_by_its_last_name() {
    let mut spec = MergeSpec::of("b", [], "o");
    assert!(options(&spec).is_empty());
    spec.tokenizer = Tokenizer::Folder("/home/me/tokenizers/mine".into());
    spec.rounding = crate::spec::Rounding::PerAdapter;
    assert_eq!(options(&spec), ["--rounding per-adapter", "--tokenizer mine"]);
}

#[test]
fn a_name_is_no_markup() {
    assert_eq!(escape("my_lora|x\n<b>"), "my\\_lora\\|x \\<b\\>");
}
