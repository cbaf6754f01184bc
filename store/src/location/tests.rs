use super::*;

fn at(text: &str) -> Location {
    Location::parse(text, Path::new("/home/me/work")).unwrap()
}

fn refused(text: &str) -> Error {
    Location::parse(text, Path::new("/home/me/work")).unwrap_err()
}

#[test]
fn paths_become_absolute_and_plain() {
    for (text, path) in [
        ("base", "/home/me/work/base"),
        ("./base//", "/home/me/work/base"),
        (".", "/home/me/work"),
        ("..", "/home/me"),
        ("../../../../../x", "/x"),
        ("./../x", "/home/me/work/../x"),
        ("/models/./base/", "/models/base"),
        ("/", "/"),
        ("/../x", "/x"),
        ("a:b", "/home/me/work/a:b"),
        ("a 50%20", "/home/me/work/a 50%20"),
    ] {
        assert_eq!(at(text).to_string(), path, "{text}");
    }
}

#[test]
fn a_parent_after_a_name_stays_for_the_file_system() {
    assert_eq!(at("link/../x").to_string(), "/home/me/work/link/../x");
    assert_eq!(at("/link/..").parent(), None);
    assert_eq!(at("/link/..").file_name(), None);
    assert!(!at("/allowed/../secret").is_within(&at("/allowed")));
}

#[test]
fn file_urls_are_decoded() {
    for (text, path) in [
        ("file:///models/a%20b%C3%A9", "/models/a bé"),
        ("FILE:///x", "/x"),
        ("file:/x/y", "/x/y"),
        ("file://localhost/x", "/x"),
        ("file:///%2e%2e/x", "/x"),
    ] {
        assert_eq!(at(text).to_string(), path, "{text}");
    }
    for text in
        ["file://host/x", "file://x", "file:///a%2Fb", "file:///a%00", "file:///a%2", "file:///a?b", "file:///%ff"]
    {
        assert_eq!(refused(text).kind(), ErrorKind::Permanent, "{text}");
    }
}

#[test]
fn what_is_shown_parses_back() {
    for text in ["/a b%20c", "x", "file:///100%25", "/", "/é?#"] {
        let location = at(text);
        assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
        assert_eq!(location.to_url().parse::<Location>().unwrap(), location);
    }
}

#[test]
fn other_schemes_are_refused_without_their_secrets() {
    let error = refused("s3://key:hunter2@bucket/model?X-Amz-Signature=hunter2#hunter2");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "s3://bucket/model: s3:// is not supported in this version");
    for text in ["https://u:hun/ter2@host/x", "hf://token@org/model", "file://u:hunter2@host/x"] {
        let shown = refused(text).to_string();
        assert!(!shown.contains("ter2") && !shown.contains("token"), "{shown}");
    }
}

#[test]
fn only_absolute_text_comes_from_the_wire() {
    assert_eq!("base".parse::<Location>().unwrap_err().kind(), ErrorKind::Permanent);
    assert_eq!("/a\0b".parse::<Location>().unwrap_err().kind(), ErrorKind::Permanent);
    assert_eq!(refused("").kind(), ErrorKind::Permanent);
}

#[test]
fn names_stay_below_their_folder() {
    let folder = at("/models");
    assert_eq!(folder.join("a/b.json").unwrap().to_string(), "/models/a/b.json");
    assert_eq!(at("/").join("x").unwrap().to_string(), "/x");
    for name in ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "a\0"] {
        assert!(folder.join(name).is_err(), "{name:?}");
    }
    assert_eq!(folder.join("a/b").unwrap().parent().unwrap().to_string(), "/models/a");
    assert_eq!(at("/").parent(), None);
    assert_eq!(at("/x").parent(), Some(at("/")));
}

#[test]
fn within_goes_by_whole_components() {
    assert!(at("/models/a").is_within(&at("/models")));
    assert!(at("/models").is_within(&at("/models")));
    assert!(at("/x").is_within(&at("/")));
    assert!(!at("/models-secret/a").is_within(&at("/models")));
}
