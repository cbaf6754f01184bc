//! What lies below a folder, which is a prefix that ends in a slash.

use futures::TryStreamExt;

use super::bucket::Bucket;
use super::marker_name;
use crate::error::Result;
use crate::location::Location;
use crate::store::Entry;

pub(super) async fn list(bucket: &Bucket, dir: &Location) -> Result<Vec<Entry>> {
    let mut entries = all(bucket, dir).await?;
    entries.retain(|entry| !marker_name::is_marker(dir, &entry.name));
    Ok(entries)
}

/// Everything, sorted, with what stands for uploads in progress.
pub(super) async fn all(bucket: &Bucket, dir: &Location) -> Result<Vec<Entry>> {
    let prefix = bucket.path(dir)?;
    let inside = if prefix.is_root() { String::new() } else { format!("{prefix}/") };
    let found = bucket.client.list(Some(&prefix).filter(|prefix| !prefix.is_root()));
    let mut entries: Vec<Entry> = bucket
        .call(
            dir,
            "cannot list it",
            found
                .try_filter_map(|object| {
                    let name = object.location.as_ref().strip_prefix(&inside).map(str::to_owned);
                    let entry = name.filter(|name| !name.is_empty()).map(|name| Entry::file(name, object.size));
                    async move { Ok(entry) }
                })
                .try_collect(),
        )
        .await?;
    entries.sort_unstable();
    Ok(without_folders(entries))
}

/// Consoles mark folders by empty objects whose names end in a slash, which the client drops.
fn without_folders(entries: Vec<Entry>) -> Vec<Entry> {
    let folders: Vec<bool> = entries
        .iter()
        .map(|entry| {
            let inside = format!("{}/", entry.name);
            let next = entries.partition_point(|other| other.name < inside);
            entry.size == 0 && entries.get(next).is_some_and(|other| other.name.starts_with(&inside))
        })
        .collect();
    entries.into_iter().zip(folders).filter(|(_, folder)| !folder).map(|(entry, _)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_folders_are_left_out() {
        let entries = |names: &[(&str, u64)]| -> Vec<Entry> {
            names.iter().map(|(name, size)| Entry::file(*name, *size)).collect()
        };
        let listed = entries(&[("a", 0), ("a-b", 3), ("a/b", 0), ("a/b/c", 1), ("d", 0), ("e", 5), ("e/f", 1)]);
        let kept = entries(&[("a-b", 3), ("a/b/c", 1), ("d", 0), ("e", 5), ("e/f", 1)]);
        assert_eq!(without_folders(listed), kept);
    }
}
