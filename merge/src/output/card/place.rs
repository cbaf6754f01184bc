//! How a card names a model: by its repository on the hub, or by the last name of its folder.

use crate::inventory::Object;

/// A model's name, and its revision where the place tells one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) revision: Option<String>,
}

impl Named {
    /// The name of a place. An object in it tells the commit of a branch, and what `.` stands for.
    pub(super) fn of(url: &str, object: Option<&Object>) -> Named {
        let resolved = object.map_or("", |object| object.url.as_str());
        if let Some(named) = [resolved, url].into_iter().find_map(repository) {
            return named;
        }
        let url = match url.rsplit('/').find(|part| !part.is_empty()) {
            None | Some("." | "..") => resolved.rsplit_once('/').map_or(url, |(folder, _)| folder),
            Some(_) => url,
        };
        let last = url.rsplit('/').find(|part| !part.is_empty()).unwrap_or("model");
        Named { name: last.to_owned(), revision: None }
    }
}

/// The repository and the revision of `hf://org/model[@revision]/...`, or of a folder in the cache of `huggingface_hub`.
fn repository(url: &str) -> Option<Named> {
    if let Some(rest) = url.strip_prefix("hf://") {
        let mut parts = rest.split('/');
        let (org, model) = (parts.next()?, parts.next()?);
        let (model, revision) = model.split_once('@').map_or((model, None), |(model, at)| (model, Some(at)));
        let named = || Named { name: format!("{org}/{model}"), revision: revision.map(|at| at.replace("%2F", "/")) };
        return (!org.is_empty() && !model.is_empty()).then(named);
    }
    let (before, after) = url.split_once("/snapshots/")?;
    let repository = before.rsplit('/').next()?.strip_prefix("models--")?;
    let revision = after.split('/').next().filter(|revision| !revision.is_empty())?;
    Some(Named { name: repository.replacen("--", "/", 1), revision: Some(revision.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_by_its_repository_or_by_its_last_name_and_never_by_its_path() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let cached = format!("/home/me/.cache/huggingface/hub/models--org--a--b/snapshots/{commit}");
        for (url, object, name, revision) in [
            ("hf://org/model", format!("hf://org/model@{commit}/x.bin"), "org/model", Some(commit)),
            ("hf://org/model@refs%2Fpr%2F1", String::new(), "org/model", Some("refs/pr/1")),
            (&cached, format!("{cached}/x.bin"), "org/a--b", Some(commit)),
            ("/home/me/models/my-lora/", "/home/me/models/my-lora/x.bin".into(), "my-lora", None),
            ("s3://bucket/models/base", "s3://bucket/models/base/x".into(), "base", None),
            (".", "/home/me/models/here/x.bin".into(), "here", None),
            ("../..", "/home/me/x.bin".into(), "me", None),
            ("my-lora", String::new(), "my-lora", None),
        ] {
            let object = Object { url: object, size: 1, pin: String::new(), seen: String::new() };
            let named = Named::of(url, Some(&object));
            assert_eq!((named.name.as_str(), named.revision.as_deref()), (name, revision), "{url}");
        }
    }
}
