//! A server on the loopback address that speaks as much of the Hub's protocol as the program does, with faults at will.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What goes wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes after so many bytes, and the connection stays.
    Stall(usize),
    /// The body's first byte is another.
    OtherByte,
    /// The body is a byte longer.
    Longer,
    /// The status, with the wish to come again at once.
    Status(u16),
    /// A range is not understood, and the whole comes.
    NoRanges,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// Whether it came to the other host, where large files lie.
    pub at_storage: bool,
}

/// A repository.
#[derive(Clone, Debug, Default)]
pub struct Repo {
    pub files: BTreeMap<String, Vec<u8>>,
    pub private: bool,
    pub gated: bool,
}

/// All that the server knows.
#[derive(Default)]
pub struct State {
    /// By `models/OWNER/NAME` and `datasets/OWNER/NAME`.
    pub repos: BTreeMap<String, Repo>,
    pub requests: Vec<Request>,
    /// What a path contains, what goes wrong with it, and how often.
    pub faults: Vec<(String, Fault, usize)>,
    /// The token that opens private repositories and writes.
    pub token: String,
    /// What was put to storage, by its path there.
    pub stored: BTreeMap<String, Vec<u8>>,
    /// The lines of each commit.
    pub commits: Vec<Vec<Value>>,
    /// The bytes of a part, where uploads go in parts.
    pub part: Option<usize>,
}

/// The server; it ends with the tests' process.
pub struct HubServer {
    pub address: String,
    state: Arc<Mutex<State>>,
}

/// The commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl HubServer {
    pub fn start() -> Self {
        let [hub, storage] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let state = Arc::new(Mutex::new(State { token: "hf_right".to_owned(), ..State::default() }));
        let [address, other] =
            [&hub, &storage].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        for (listener, at_storage) in [(hub, false), (storage, true)] {
            let (state, addresses) = (Arc::clone(&state), [address.clone(), other.clone()]);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (state, addresses) = (Arc::clone(&state), addresses.clone());
                    thread::spawn(move || serve(stream.unwrap(), &state, &addresses, at_storage));
                }
            });
        }
        Self { address, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn add(&self, repo: &str, files: impl IntoIterator<Item = (String, Vec<u8>)>) {
        self.state().repos.entry(repo.to_owned()).or_default().files.extend(files);
    }

    pub fn fail(&self, path: &str, fault: Fault, times: usize) {
        self.state().faults.push((path.to_owned(), fault, times));
    }

    /// The requests so far, whose list begins again.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }
}

/// An answer before faults.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    fn json(value: &Value) -> Self {
        Self::new(200, value.to_string()).with("Content-Type", "application/json")
    }

    fn refused(status: u16, code: &str) -> Self {
        Self::new(status, r#"{"error": "refused"}"#).with("X-Error-Code", code)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, addresses: &[String; 2], at_storage: bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = Request { method, path, headers, body, at_storage };
    let mut state = state.lock().unwrap();
    state.requests.push(request.clone());
    let hit =
        state.faults.iter_mut().find(|(path, _, times)| *times > 0 && request.path.contains(path.as_str()));
    // What concerns bodies is for requests that get one.
    let hit = hit.filter(|(_, fault, _)| matches!(fault, Fault::Status(_)) || request.method == "GET");
    let fault = hit.map(|(_, fault, times)| {
        *times -= 1;
        *fault
    });
    let answer = match fault {
        Some(Fault::Status(status)) => Answer::new(status, "busy").with("Retry-After", "0"),
        _ if at_storage => from_storage(&mut state, &request, fault == Some(Fault::NoRanges)),
        _ => from_hub(&mut state, &request, addresses),
    };
    drop(state);
    send(stream, &request, answer, fault);
}

fn send(mut stream: TcpStream, request: &Request, mut answer: Answer, fault: Option<Fault>) {
    match fault {
        Some(Fault::OtherByte) => answer.body[0] ^= 1,
        Some(Fault::Longer) => answer.body.push(0),
        _ => {}
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    if !answer.headers.iter().any(|(name, _)| *name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = if request.method == "HEAD" { &[][..] } else { &answer.body };
    let sent = match fault {
        Some(Fault::Cut(count) | Fault::Stall(count)) => &body[..count.min(body.len())],
        _ => body,
    };
    let _gone = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(sent));
    if let Some(Fault::Stall(_)) = fault {
        thread::sleep(Duration::from_secs(60));
    }
}

fn from_hub(state: &mut State, request: &Request, addresses: &[String; 2]) -> Answer {
    let right = request.headers.get("authorization") == Some(&format!("Bearer {}", state.token));
    let path = request.path.trim_start_matches('/').to_owned();
    if request.method == "POST" {
        return if right { written(state, request, &path, addresses) } else { Answer::refused(401, "") };
    }
    // /api/models/O/N[/revision/R], /O/N/resolve/C/FILE, /datasets/O/N/resolve/C/FILE
    let api = path.strip_prefix("api/");
    let whole = match api {
        Some(rest) => rest.to_owned(),
        None if path.starts_with("datasets/") => path.clone(),
        None => format!("models/{path}"),
    };
    let parts: Vec<&str> = whole.splitn(6, '/').collect();
    let found = parts.get(..3).and_then(|key| state.repos.get(&key.join("/")));
    let Some(repo) = found.filter(|repo| right || !repo.private) else {
        return Answer::refused(if right { 404 } else { 401 }, "RepoNotFound");
    };
    if repo.gated {
        return Answer::refused(403, "GatedRepo");
    }
    let about = |revision: &str| match revision {
        "main" | COMMIT => {
            let siblings: Vec<Value> = repo.files.keys().map(|file| json!({ "rfilename": file })).collect();
            Answer::json(&json!({ "sha": COMMIT, "private": repo.private, "siblings": siblings }))
        }
        _ => Answer::refused(404, "RevisionNotFound"),
    };
    match (api, parts.get(3..).unwrap_or_default()) {
        (Some(_), []) => about("main"),
        (Some(_), ["revision", revision]) => about(revision),
        (None, ["resolve", COMMIT, file]) => {
            let Some(bytes) = repo.files.get(*file) else { return Answer::refused(404, "EntryNotFound") };
            if !is_large(file) {
                let etag = format!("\"{}\"", git_hash(bytes));
                return Answer::new(200, bytes.clone()).with("ETag", etag).with("X-Repo-Commit", COMMIT);
            }
            let hash = hex(&Sha256::digest(bytes));
            state.stored.insert(format!("/blob/{hash}"), bytes.clone());
            Answer::new(302, "")
                .with("Location", format!("{}/blob/{hash}?signed=1", addresses[1]))
                .with("X-Linked-Etag", format!("\"{hash}\""))
                .with("X-Linked-Size", state.stored[&format!("/blob/{hash}")].len().to_string())
                .with("X-Repo-Commit", COMMIT)
        }
        _ => Answer::refused(404, "EntryNotFound"),
    }
}

/// What changes something.
fn written(state: &mut State, request: &Request, path: &str, addresses: &[String; 2]) -> Answer {
    let value = || -> Value { serde_json::from_slice(&request.body).unwrap() };
    if path == "api/repos/create" {
        let wish = value();
        let key =
            format!("models/{}/{}", wish["organization"].as_str().unwrap(), wish["name"].as_str().unwrap());
        if state.repos.contains_key(&key) {
            return Answer::refused(409, "");
        }
        state.repos.insert(key, Repo { private: wish["private"] == json!(true), ..Repo::default() });
        return Answer::json(&json!({ "url": "made" }));
    }
    if path.contains("/branch/") {
        return Answer::json(&json!({}));
    }
    if path.contains("/preupload/") {
        let files = value()["files"].as_array().unwrap().clone();
        let modes = files.iter().map(|file| {
            let mode = if is_large(file["path"].as_str().unwrap()) { "lfs" } else { "regular" };
            json!({ "path": file["path"], "uploadMode": mode, "shouldIgnore": false })
        });
        return Answer::json(&json!({ "files": modes.collect::<Vec<_>>() }));
    }
    if path.ends_with(".git/info/lfs/objects/batch") {
        let objects = value()["objects"].as_array().unwrap().clone();
        let told = objects.iter().map(|object| {
            let oid = object["oid"].as_str().unwrap();
            let place = format!("{}/upload/{oid}", addresses[1]);
            let upload = match state.part {
                None => json!({ "href": place }),
                Some(part) => {
                    let count = (object["size"].as_u64().unwrap() as usize).div_ceil(part);
                    let mut header = json!({ "chunk_size": part.to_string() });
                    for number in 1..=count {
                        header[number.to_string()] = json!(format!("{place}/{number:03}"));
                    }
                    json!({ "href": format!("{}/complete/{oid}", addresses[0]), "header": header })
                }
            };
            let verify = json!({ "href": format!("{}/verify", addresses[0]) });
            json!({ "oid": oid, "size": object["size"], "actions": { "upload": upload, "verify": verify } })
        });
        return Answer::json(&json!({ "objects": told.collect::<Vec<_>>() }));
    }
    if path.contains("/commit/") {
        let lines = std::str::from_utf8(&request.body).unwrap().lines();
        state.commits.push(lines.map(|line| serde_json::from_str(line).unwrap()).collect());
        return Answer::json(&json!({ "success": true, "commitOid": COMMIT, "commitUrl": "there" }));
    }
    Answer::json(&json!({})) // complete, verify
}

fn from_storage(state: &mut State, request: &Request, no_ranges: bool) -> Answer {
    let path = request.path.split('?').next().unwrap();
    if request.method == "PUT" {
        state.stored.insert(path.to_owned(), request.body.clone());
        return Answer::new(200, "").with("ETag", format!("\"of {path}\""));
    }
    let Some(bytes) = state.stored.get(path) else { return Answer::new(404, "") };
    let from = request.headers.get("range").filter(|_| !no_ranges);
    let Some(from) =
        from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
    else {
        return Answer::new(200, bytes.clone());
    };
    if from >= bytes.len() {
        return Answer::new(416, "");
    }
    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    Answer::new(206, &bytes[from..]).with("Content-Range", range)
}

/// Whether the Hub keeps a file apart from git.
pub fn is_large(file: &str) -> bool {
    [".safetensors", ".bin", ".pth", ".pt", ".hdf5", ".gif"].iter().any(|end| file.ends_with(end))
}

pub fn git_hash(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
