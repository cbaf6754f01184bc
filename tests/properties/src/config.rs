//! An adapter's configuration is refused, or has numbers that can be computed with; how the JSON is laid out does not matter.
//! What is asked of a base's configuration has an answer for any JSON.

use shardfuse_merge::adapter::config::AdapterConfig;
use shardfuse_merge::base::conv1d::Conv1d;
use shardfuse_merge::base::tied;
use shardfuse_merge::json;

use super::memory::within;

/// See the module.
pub fn holds(bytes: &[u8]) -> bool {
    let value = json::parse("config.json", bytes).ok();
    if let Some(value) = &value {
        let _ = tied::is_tied(value);
        let _ = tied::sides(value, |name| name.len() % 2 == 0);
        let conv1d = Conv1d::of(value);
        let _ = (conv1d.knows_the_model(), conv1d.is("transformer.h.0.attn.c_attn"));
    }
    let Ok(config) = within(128, bytes, || AdapterConfig::parse(bytes)) else { return false };
    if let Some(ranks) = config.kind.ranks() {
        assert!(ranks.r > 0 && ranks.alpha.is_finite());
        for (pattern, number) in ranks.rank_pattern.iter().chain(&ranks.alpha_pattern) {
            assert!(number.is_finite() && *number > 0.0, "{pattern}: {number}");
        }
    }
    if let Some(value) = value {
        let pretty = json::render(&value);
        let again = AdapterConfig::parse(pretty.as_bytes()).expect("the same JSON is accepted");
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
    }
    true
}
