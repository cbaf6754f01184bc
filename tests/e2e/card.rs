//! The model card of an output, and what becomes of a card that is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shardfuse_testkit::checkpoint::{Model, lora};

use crate::output::everything;
use crate::tool::{merge, succeed};

const OWN: &str = "---\nlicense: apache-2.0\nlanguage:\n- en\ntags: [x]\n---\n# The base\n";

struct Case {
    dir: tempfile::TempDir,
    base: PathBuf,
}

impl Case {
    /// A base whose card is this, and an adapter.
    fn new(card: Option<&str>) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let base = Model::SMALL.write(&dir.path().join("tiny_base"));
        lora(&dir.path().join("my-lora"), &Model::SMALL, 2, "a");
        if let Some(card) = card {
            std::fs::write(base.join("README.md"), card).unwrap();
        }
        Case { dir, base }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn merge(&self, base: &Path, output: &str, flags: &[&str]) -> PathBuf {
        let (lora, output) = (self.at("my-lora"), self.at(output));
        succeed(merge(base, &[&format!("{}=0.5", lora.to_str().unwrap())], &output).args(flags));
        output
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The metadata of a card, by a YAML parser.
fn metadata(card: &str) -> BTreeMap<String, Value> {
    let (yaml, _) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn the_card_says_what_was_merged_and_the_bases_own_is_kept() {
    let case = Case::new(Some(OWN));
    let output = case.merge(&case.base, "out", &["--rounding", "per-adapter"]);
    let card = text(&output.join("README.md"));
    let metadata = metadata(&card);
    assert_eq!(metadata["base_model"], serde_json::json!(["tiny_base", "my-lora"]));
    assert_eq!(metadata["base_model_relation"], "merge");
    assert_eq!(metadata["license"], "apache-2.0");
    assert_eq!(metadata["language"], serde_json::json!(["en"]));
    assert_eq!(metadata["tags"], serde_json::json!(["merge", "shardfuse"]));
    for part in ["| 1 | my-lora | LoRA | 0.5 | - |", "--rounding per-adapter", "shardfuse verify .", "(README.base.md)"]
    {
        assert!(card.contains(part), "{part} is not in\n{card}");
    }
    assert!(!card.contains(case.dir.path().to_str().unwrap()), "no absolute path:\n{card}");
    assert_eq!(text(&output.join("README.base.md")), OWN);
    let manifest: Value = serde_json::from_slice(&std::fs::read(output.join("shardfuse.json")).unwrap()).unwrap();
    let listed = |name: &str| manifest["files"].as_array().unwrap().iter().any(|file| file["name"] == name);
    assert!(listed("README.md") && listed("README.base.md"));
}

#[test]
fn the_same_merge_elsewhere_has_the_same_card_and_a_base_without_one_leaves_no_licence() {
    let (one, other) = (Case::new(None), Case::new(None));
    let cards = [&one, &other].map(|case| text(&case.merge(&case.base, "out", &[]).join("README.md")));
    assert_eq!(cards[0], cards[1]);
    assert!(!metadata(&cards[0]).contains_key("license") && !cards[0].contains("licence"));
}

#[test]
fn without_a_card_the_bases_own_travels_under_its_name() {
    let case = Case::new(Some(OWN));
    let output = case.merge(&case.base, "out", &["--card", "none"]);
    assert_eq!(text(&output.join("README.md")), OWN);
    assert!(!output.join("README.base.md").exists());
}

#[test]
fn cards_do_not_pile_up_over_merges_of_merges_and_a_changed_one_is_kept() {
    let case = Case::new(Some(OWN));
    let first = case.merge(&case.base, "first", &[]);
    let second = case.merge(&first, "second", &[]);
    let cards = |dir: &Path| everything(dir).into_keys().filter(|name| name.starts_with("README")).collect::<Vec<_>>();
    assert_eq!(cards(&second), ["README.base.md", "README.md"]);
    assert_eq!(text(&second.join("README.base.md")), OWN, "the first base's");
    assert_eq!(metadata(&text(&second.join("README.md")))["base_model"][0], "first");
    assert_eq!(metadata(&text(&second.join("README.md")))["license"], "apache-2.0");

    std::fs::write(first.join("README.md"), text(&first.join("README.md")) + "mine\n").unwrap();
    let third = case.merge(&first, "third", &[]);
    assert_eq!(cards(&third), ["README.base-2.md", "README.base.md", "README.md"]);
    assert!(text(&third.join("README.base-2.md")).ends_with("mine\n"));
}

#[test]
fn a_card_that_a_person_wrote_into_a_forced_folder_stays() {
    let case = Case::new(Some(OWN));
    let output = case.at("out");
    std::fs::create_dir_all(&output).unwrap();
    std::fs::write(output.join("README.md"), "mine").unwrap();
    case.merge(&case.base, "out", &["--force"]);
    assert_eq!(text(&output.join("README.md")), "mine");
    assert!(text(&output.join("README.shardfuse.md")).contains("my-lora"));
    succeed(crate::tool::command().arg("verify").arg(&output));

    // An older card of ours is replaced, and so is one that the older output had from its base.
    for older in ["auto", "none"] {
        let output = case.merge(&case.base, older, &["--card", older]);
        case.merge(&case.base, older, &["--force", "--dtype", "f32"]);
        assert!(text(&output.join("README.md")).contains("--dtype f32"), "over --card {older}");
        assert!(!output.join("README.shardfuse.md").exists());
    }
}

#[test]
fn a_forced_merge_without_a_card_takes_away_the_cards_that_shardfuse_wrote_and_no_others() {
    let case = Case::new(Some(OWN));
    let bare = Model::SMALL.write(&case.at("bare"));
    let output = case.merge(&case.base, "out", &[]);
    std::fs::write(output.join("README.base-2.md"), "mine").unwrap();
    case.merge(&bare, "out", &["--force", "--card", "none"]);
    let cards = |dir: &Path| everything(dir).into_keys().filter(|name| name.starts_with("README")).collect::<Vec<_>>();
    assert_eq!(cards(&output), ["README.base-2.md"], "the other two came from shardfuse");

    let output = case.merge(&case.base, "changed", &[]);
    for name in ["README.md", "README.base.md"] {
        std::fs::write(output.join(name), text(&output.join(name)) + "mine\n").unwrap();
    }
    case.merge(&bare, "changed", &["--force", "--card", "none"]);
    assert_eq!(cards(&output), ["README.base.md", "README.md"], "somebody changed them");
    assert!(text(&output.join("README.md")).ends_with("mine\n"));
}
