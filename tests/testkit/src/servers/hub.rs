//! The hub: what its API says of revisions and files, and a redirect to another host for all that is large.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::Answer;
use super::files::Files;
use super::server::Server;
use super::web::{Body, Quirks, Web, respond};

/// Files on a page of a listing.
const PAGE: usize = 2;
/// What a redirect to the other host is signed with.
pub const SIGNATURE: &str = "Signature=not-for-your-eyes";

#[derive(Clone, Debug, Default)]
struct Models {
    /// `org/model` and commit.
    commits: BTreeMap<(String, String), Files>,
    /// `org/model` and branch.
    branches: BTreeMap<(String, String), String>,
    /// What is asked for the model: a code of the refusal of all who do not send the token.
    closed: BTreeMap<String, &'static str>,
    /// Model and branch that move to this commit once somebody has asked what they mean.
    moves: BTreeMap<(String, String), String>,
}

#[derive(Clone)]
struct Shared {
    models: Arc<Mutex<Models>>,
    token: &'static str,
    blobs: Files,
    blobs_url: String,
}

/// A running hub, and the host that holds its large files.
pub struct Hub {
    pub server: Server,
    pub blobs: Web,
    models: Arc<Mutex<Models>>,
}

impl Hub {
    /// The token that closed models are opened with.
    pub const TOKEN: &'static str = "hf_the_right_one";

    pub async fn start() -> Self {
        let models: Arc<Mutex<Models>> = Arc::default();
        let blobs = Web::start(Files::default(), Quirks::default()).await;
        let shared = Shared {
            models: models.clone(),
            token: Self::TOKEN,
            blobs: blobs.files.clone(),
            blobs_url: blobs.url().to_owned(),
        };
        let server = Server::start(Router::new().fallback(handle).with_state(shared)).await;
        Self { server, blobs, models }
    }

    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Commits files, and moves a branch there. Returns the commit.
    pub fn commit(&self, model: &str, branch: &str, files: &Files) -> String {
        let mut models = self.models.lock().unwrap();
        let number = models.commits.len();
        let commit = blake3::hash(format!("{model}{number}").as_bytes()).to_hex()[..40].to_owned();
        for name in files.names().iter().filter(|name| is_large(name)) {
            let bytes = files.get(name).unwrap().bytes;
            self.blobs.files.write(&format!("blobs/{}", blake3::hash(&bytes).to_hex()), bytes);
        }
        models.commits.insert((model.to_owned(), commit.clone()), files.fork());
        models.branches.insert((model.to_owned(), branch.to_owned()), commit.clone());
        commit
    }

    /// Commits files to which a branch moves as soon as somebody has asked where it is.
    pub fn commit_when_resolved(&self, model: &str, branch: &str, files: &Files) {
        let before = self.branch(model, branch);
        let commit = self.commit(model, branch, files);
        self.back_to(model, branch, &before);
        self.models.lock().unwrap().moves.insert((model.to_owned(), branch.to_owned()), commit);
    }

    /// The commit that a branch means.
    pub fn branch(&self, model: &str, branch: &str) -> String {
        self.models.lock().unwrap().branches[&(model.to_owned(), branch.to_owned())].clone()
    }

    /// Moves a branch to an earlier commit.
    pub fn back_to(&self, model: &str, branch: &str, commit: &str) {
        self.models.lock().unwrap().branches.insert((model.to_owned(), branch.to_owned()), commit.to_owned());
    }

    /// Lets only those in who send the token; all others get this error code.
    pub fn close(&self, model: &str, code: &'static str) {
        self.models.lock().unwrap().closed.insert(model.to_owned(), code);
    }
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

async fn handle(State(shared): State<Shared>, method: Method, uri: Uri, request: HeaderMap) -> Response {
    respond(answer(&shared, &method, &uri, &request), &method, Body::Whole)
}

fn refused(status: StatusCode, code: &str) -> Answer {
    Answer::status(status).with("x-error-code", code).with("x-error-message", "in many words")
}

fn answer(shared: &Shared, method: &Method, uri: &Uri, request: &HeaderMap) -> Answer {
    let path = uri.path().trim_start_matches('/');
    let (path, api) = path.strip_prefix("api/models/").map_or((path, false), |path| (path, true));
    let parts: Vec<&str> = path.splitn(5, '/').collect();
    let [org, model, what, revision] = parts[..4.min(parts.len())] else {
        return Answer::status(StatusCode::NOT_FOUND);
    };
    let file = parts.get(4).copied().unwrap_or_default();
    let model = format!("{org}/{model}");
    let models = shared.models.lock().unwrap().clone();

    let token = request.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    if token.as_ref().is_some_and(|token| *token != format!("Bearer {}", shared.token)) {
        return Answer::status(StatusCode::UNAUTHORIZED);
    }
    if let Some(code) = models.closed.get(&model).filter(|_| token.is_none()) {
        return refused(StatusCode::UNAUTHORIZED, code);
    }
    if !models.branches.keys().any(|(known, _)| *known == model) {
        return refused(if token.is_some() { StatusCode::NOT_FOUND } else { StatusCode::UNAUTHORIZED }, "RepoNotFound");
    }
    let branch = (model.clone(), revision.to_owned());
    let commit = models.branches.get(&branch).map_or(revision, String::as_str);
    if what == "revision"
        && let Some(next) = models.moves.get(&branch)
    {
        shared.models.lock().unwrap().branches.insert(branch, next.clone());
    }
    let Some(files) = models.commits.get(&(model, commit.to_owned())) else {
        return refused(StatusCode::NOT_FOUND, "RevisionNotFound");
    };
    match (api, what) {
        (true, "revision") => json_answer(&json!({ "sha": commit, "private": false, "siblings": [] })),
        (true, "tree") => tree(shared, uri, files, file, request),
        (false, "resolve") => resolve(shared, method, request, files, file).with("x-repo-commit", commit),
        _ => Answer::status(StatusCode::NOT_FOUND),
    }
}

fn json_answer(value: &Value) -> Answer {
    Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: value.to_string().into() }
}

/// A page of the files below a folder; the next one is named by an address of this host, as the hub does.
fn tree(_: &Shared, uri: &Uri, files: &Files, folder: &str, request: &HeaderMap) -> Answer {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let names: Vec<String> = files.names().into_iter().filter(|name| name.starts_with(&prefix)).collect();
    if names.is_empty() && !folder.is_empty() {
        return refused(StatusCode::NOT_FOUND, "EntryNotFound");
    }
    let query = uri.query().unwrap_or_default();
    assert!(query.contains("recursive=true"), "{query}");
    let from: usize = query.split("cursor=").nth(1).map_or(0, |cursor| cursor.parse().unwrap());
    let mut items = vec![json!({ "type": "directory", "oid": "0", "size": 0, "path": format!("{prefix}folder") })];
    for name in names.iter().skip(from).take(PAGE) {
        let size = files.get(name).unwrap().bytes.len();
        let lfs = json!({ "oid": "1", "size": size, "pointerSize": 134 });
        items.push(match is_large(name) {
            true => json!({ "type": "file", "oid": "2", "size": 134, "lfs": lfs, "path": name }),
            false => json!({ "type": "file", "oid": "2", "size": size, "path": name }),
        });
    }
    let answer = json_answer(&items.into());
    if from + PAGE >= names.len() {
        return answer;
    }
    let host = request.get("host").unwrap().to_str().unwrap();
    let next = format!("<http://{host}{}?recursive=true&cursor={}>; rel=\"next\"", uri.path(), from + PAGE);
    answer.with("link", next)
}

fn resolve(shared: &Shared, method: &Method, request: &HeaderMap, files: &Files, name: &str) -> Answer {
    let Some(file) = files.get(&name.replace("%20", " ")) else {
        return refused(StatusCode::NOT_FOUND, "EntryNotFound");
    };
    let digest = blake3::hash(&file.bytes).to_hex().to_string();
    if !is_large(name) {
        return Answer::object(method, request, &file.bytes, true).with("etag", format!("\"{digest}\""));
    }
    assert!(shared.blobs.get(&format!("blobs/{digest}")).is_some());
    Answer::status(StatusCode::FOUND)
        .with("location", format!("{}/blobs/{digest}?{SIGNATURE}", shared.blobs_url))
        .with("x-linked-size", file.bytes.len().to_string())
        .with("x-linked-etag", format!("\"{digest}\""))
}
