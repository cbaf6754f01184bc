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
fn objects_keep_bucket_and_key_as_written() {
    for (text, scheme, authority, path) in [
        ("s3://bucket/models/a%20b", Scheme::S3, "bucket", "/models/a%20b"),
        ("S3://Bucket/x/", Scheme::S3, "Bucket", "/x"),
        ("gs://bucket", Scheme::Gs, "bucket", "/"),
        ("az://container/x", Scheme::Azure, "container", "/x"),
        ("abfss://c@acc.dfs.core.windows.net/x", Scheme::Azure, "c@acc.dfs.core.windows.net", "/x"),
        ("https://Example.org:8443/m/a%20b", Scheme::Https, "example.org:8443", "/m/a%20b"),
        ("http://127.0.0.1:9/m", Scheme::Http, "127.0.0.1:9", "/m"),
        ("hf://org/model", Scheme::Hub, "", "/org/model"),
        ("hf://org/model@main/config.json", Scheme::Hub, "", "/org/model@main/config.json"),
    ] {
        let location = at(text);
        assert_eq!((location.scheme(), location.authority(), location.path()), (scheme, authority, path), "{text}");
        assert_eq!(location.to_string().parse::<Location>().unwrap(), location, "{text}");
        assert_eq!(location.to_url().parse::<Location>().unwrap(), location, "{text}");
        assert_eq!(location.local_path(), None);
        let below = location.join("a b/c.json").unwrap();
        assert!(below.is_within(&location) && !location.is_within(&below));
        assert_eq!(below.parent().unwrap().parent().unwrap(), location, "{text}");
    }
    assert_eq!(at("https://h/m").join("a b").unwrap().to_string(), "https://h/m/a%20b");
    assert!(!at("s3://a/x").is_within(&at("s3://b/x")) && !at("s3://a/x").is_within(&at("gs://a/x")));
    assert_eq!(at("hf://org/model@v1").parent(), None);
    assert_eq!(at("s3://bucket").parent(), None);
}

#[test]
fn urls_that_name_nothing_are_refused() {
    for text in [
        "s3://",
        "s3:///x",
        "s3://b//x",
        "s3://b/../x",
        "s3://b/./x",
        "gs://u@b/x",
        "az://c@account/x",
        "hf://model",
        "hf://org/",
        "hf://org/m@",
        "hf://o?g/m",
        "http://",
        "http://h/a?b",
        "https://h/a#b",
        "s3://b/a\\b",
        "ftp://h/x",
    ] {
        let kind = refused(text).kind();
        assert!(matches!(kind, ErrorKind::Permanent | ErrorKind::Unsupported), "{text}: {kind:?}");
    }
}

#[test]
fn refusals_repeat_no_secret() {
    let error = refused("s3://key:hunter2@bucket/model?X-Amz-Signature=hunter2#hunter2");
    assert!(error.to_string().starts_with("s3://bucket/model: "), "{error}");
    for text in [
        "https://u:hun/ter2@host/x",
        "https://h/x?sig=hunter2",
        "ftp://u:hunter2@h/x",
        "file://u:hunter2@host/x",
        "s3://u:hunter2@b/x",
        "gs://hunter2@b/x",
    ] {
        let shown = refused(text).to_string();
        assert!(!shown.contains("ter2"), "{shown}");
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

#[test]
fn a_url_chooses_no_host_that_credentials_would_be_sent_to() {
    let parsed = |text: &str| text.parse::<Location>();
    for good in [
        "abfss://models@account.dfs.core.windows.net/a",
        "abfss://models@account.blob.core.windows.net/a",
        "abfss://models@account.dfs.core.usgovcloudapi.net/a",
        "az://$root/a",
    ] {
        assert!(parsed(good).is_ok(), "{good}");
    }
    for bad in [
        "abfss://models@evil.example/a",
        "abfss://models@account.dfs.core.windows.net.evil.example/a",
        "abfss://models@evil.example.dfs.core.windows.net/a",
        "abfss://models@.dfs.core.windows.net/a",
        "abfss://models@account.queue.core.windows.net/a",
        "abfss://models@evil.example#.dfs.core.windows.net/a",
        "s3://evil.example:9000/a",
        "s3://[::1]/a",
        "s3://bucket@evil.example/a",
        "s3://bucket?x/a",
        "gs://bucket:80/a",
        "az://models:80/a",
    ] {
        assert!(parsed(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_snapshot_of_a_hub_cache_has_its_blobs_beside_it() {
    for (text, blobs) in [
        ("/c/hub/models--o--m/snapshots/0123", Some("/c/hub/models--o--m/blobs")),
        ("/c/hub/models--o--m/snapshots/0123/sub", Some("/c/hub/models--o--m/blobs")),
        ("/c/hub/models--o--m/snapshots", None),
        ("/c/hub/models/snapshots/0123", None),
        ("/c/models--o--m/refs/main", None),
        ("s3://c/models--o--m/snapshots/0123", None),
    ] {
        assert_eq!(at(text).hub_cache_blobs(), blobs.map(at), "{text}");
    }
}
