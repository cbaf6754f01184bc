//! Profiles of AWS: the files that `aws configure` writes, as far as they hold keys.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::object::environment::Environment;

/// What a profile says.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
    pub(super) region: Option<String>,
}

/// Reads a profile. `None` if the files do not have it; an error if it gets its keys by signing in, by a program or by
/// taking a role, which is left to the AWS command.
pub(super) fn read(env: &Environment, name: &str, file: Option<&PathBuf>) -> Result<Option<Profile>> {
    let home = |file: &str| env.get("HOME").map(|home| PathBuf::from(home).join(".aws").join(file));
    let named = |variable: &str, file: &str| env.get(variable).map(PathBuf::from).or_else(|| home(file));
    let credentials = file.cloned().or_else(|| named("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
    let config = named("AWS_CONFIG_FILE", "config");
    let keys = section(credentials, &[name])?;
    let settings = section(config, &[&format!("profile {name}"), name])?;
    if keys.is_none() && settings.is_none() {
        return Ok(None);
    }
    let all: Vec<(String, String)> = keys.into_iter().chain(settings).flatten().collect();
    let find = |key: &str| all.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    match (find("aws_access_key_id"), find("aws_secret_access_key")) {
        (Some(access_key_id), Some(secret_access_key)) => Ok(Some(Profile {
            access_key_id,
            secret_access_key,
            session_token: find("aws_session_token"),
            region: find("region"),
        })),
        // A profile for settings alone.
        _ if ["sso_session", "sso_start_url", "credential_process", "role_arn", "login_session"]
            .iter()
            .all(|key| find(key).is_none())
            && name == "default" =>
        {
            Ok(None)
        }
        _ => {
            let message = format!(
                "the AWS profile {name} has no keys of its own; run `eval \"$(aws configure export-credentials --profile \
                 {name} --format env)\"` first"
            );
            Err(Error::new(ErrorKind::Permission, "AWS_PROFILE", message))
        }
    }
}

/// The settings of the first of these sections that a file has. A file that is not there has none.
fn section(path: Option<PathBuf>, names: &[&str]) -> Result<Option<Vec<(String, String)>>> {
    let Some(path) = path else { return Ok(None) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path.display(), "cannot read the profiles", e)),
    };
    let mut found: Option<Vec<(String, String)>> = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = names.contains(&name.trim());
            if inside {
                found.get_or_insert_default();
            }
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
            && let Some(found) = &mut found
        {
            found.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_with_keys_are_read_and_others_say_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let aws = home.path().join(".aws");
        std::fs::create_dir(&aws).unwrap();
        std::fs::write(
            aws.join("credentials"),
            "[default]\naws_access_key_id = DEFAULT\naws_secret_access_key=abc=\n\n[team]\n# a comment\n\
             aws_access_key_id=TEAM\naws_secret_access_key = def\naws_session_token = ghi\n",
        )
        .unwrap();
        std::fs::write(
            aws.join("config"),
            "[profile team]\nregion = eu-west-1\n[profile sso]\nsso_session = x\nregion = eu-west-2\n",
        )
        .unwrap();
        let env = Environment::of([("HOME", home.path().to_str().unwrap())]);
        let default = read(&env, "default", None).unwrap().unwrap();
        assert_eq!((default.access_key_id.as_str(), default.secret_access_key.as_str()), ("DEFAULT", "abc="));
        assert_eq!(default.region, None);
        let team = read(&env, "team", None).unwrap().unwrap();
        assert_eq!((team.session_token.as_deref(), team.region.as_deref()), (Some("ghi"), Some("eu-west-1")));
        assert!(read(&env, "absent", None).unwrap().is_none());
        let error = read(&env, "sso", None).err().unwrap();
        assert!(error.to_string().contains("aws configure export-credentials --profile sso"), "{error}");
    }
}
