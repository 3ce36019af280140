//! Requests to the Hub: who asks, what is tried again, and how refusals are told.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::error::HubError;
use super::settings::Settings;

/// Times that a request is sent at most.
const TRIES: u32 = 5;

/// The wait before the second try; it doubles before each further one, unless the server names another.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait that a server may ask for.
const LONGEST_WAIT: u64 = 60;

/// Redirections that are followed.
const REDIRECTIONS: u32 = 5;

/// Bytes of an answer in JSON.
const JSON_LIMIT: u64 = 64 << 20;

/// What a request says.
#[derive(Clone, Copy)]
pub enum Sent<'a> {
    /// Nothing.
    Nothing,
    /// A text of a type.
    Text(&'a [u8], &'static str),
    /// So many bytes of a file, from a place on.
    Part(&'a Path, u64, u64),
}

/// Speaks with the Hub.
pub struct Client {
    /// Where it is, and who asks.
    pub settings: Settings,
    agent: Agent,
}

impl Client {
    /// Connects to nothing yet.
    pub fn new(settings: Settings) -> Result<Self, HubError> {
        let mut tls = TlsConfig::builder();
        // Who sits behind a proxy that looks inside has its certificate in this file.
        if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
            let unreadable = |reason: String| HubError::Input(format!("SSL_CERT_FILE is {path:?}: {reason}"));
            let text = std::fs::read(&path).map_err(|error| unreadable(error.to_string()))?;
            let items = parse_pem(&text).filter_map(Result::ok);
            let certificates = items.filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            });
            let certificates: Vec<_> = certificates.collect();
            if certificates.is_empty() {
                return Err(unreadable("it holds no certificate, expected PEM".to_owned()));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(settings.patience))
            .timeout_recv_response(Some(settings.patience * 3))
            .timeout_per_read(Some(settings.patience * 3))
            .timeout_per_write(Some(settings.patience * 3))
            .user_agent(concat!("eva-rl/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        Ok(Self { settings, agent: config.new_agent() })
    }

    /// The address of something at the Hub.
    pub fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.endpoint)
    }

    /// Asks for JSON about `whose`, and gives up after one try where nobody answers.
    pub fn json(&self, address: &str, whose: &str) -> Result<Value, HubError> {
        let answer = self.retry(1, || self.follow("GET", address, &[], Sent::Nothing, true));
        self.read_json(answer?, address, whose)
    }

    /// Sends something and reads the answer, which is JSON or nothing; `accepted` are the failures that are none.
    pub fn post(
        &self,
        address: &str,
        sent: Sent,
        accept: Option<&str>,
        accepted: &[u16],
        whose: &str,
    ) -> Result<Value, HubError> {
        let headers: Vec<(&str, String)> =
            accept.map(|kind| ("accept", kind.to_owned())).into_iter().collect();
        let answer = self.retry(TRIES, || self.once("POST", address, &headers, sent))?;
        if accepted.contains(&answer.status().as_u16()) {
            return Ok(Value::Null);
        }
        self.read_json(answer, address, whose)
    }

    /// Sends a commit, once: it may have been made where the answer is lost.
    pub fn commit(&self, address: &str, lines: &str, whose: &str) -> Result<Value, HubError> {
        let sent = Sent::Text(lines.as_bytes(), "application/x-ndjson");
        let answer = self.retry(1, || self.once("POST", address, &[], sent))?;
        self.read_json(answer, address, whose)
    }

    /// Puts bytes to an address that the Hub has given; the answer's headers count.
    pub fn put(&self, address: &str, sent: Sent, whose: &str) -> Result<Response<Body>, HubError> {
        let answer = self.retry(TRIES, || self.once("PUT", address, &[], sent))?;
        self.accepted(answer, whose)
    }

    /// What the Hub says of a file: the answer itself, or the redirection to where it lies.
    pub fn head(&self, address: &str, whose: &str) -> Result<Response<Body>, HubError> {
        let headers = [("accept-encoding", "identity".to_owned())];
        let answer = self.retry(TRIES, || self.follow("HEAD", address, &headers, Sent::Nothing, false))?;
        if answer.status().is_redirection() { Ok(answer) } else { self.accepted(answer, whose) }
    }

    /// A file's bytes from a place on.
    pub fn get_from(&self, address: &str, from: u64, whose: &str) -> Result<Response<Body>, HubError> {
        let mut headers = vec![("accept-encoding", "identity".to_owned())];
        if from > 0 {
            headers.push(("range", format!("bytes={from}-")));
        }
        let answer = self.retry(TRIES, || self.follow("GET", address, &headers, Sent::Nothing, true))?;
        if answer.status().as_u16() == 416 { Ok(answer) } else { self.accepted(answer, whose) }
    }

    fn read_json(&self, answer: Response<Body>, address: &str, whose: &str) -> Result<Value, HubError> {
        let mut answer = self.accepted(answer, whose)?;
        let text = answer.body_mut().with_config().limit(JSON_LIMIT).read_to_vec();
        let text = text.map_err(|error| self.unreachable(error.to_string()))?;
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&text).map_err(|_| {
            HubError::Failed(format!(
                "{address} answers with something else than JSON, expected a server that speaks the Hub's protocol; HF_ENDPOINT and proxies decide which one answers"
            ))
        })
    }

    /// Tries again where the server is busy or the connection fails; the last answer counts.
    fn retry(
        &self,
        tries: u32,
        send: impl Fn() -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, HubError> {
        let mut wait = FIRST_WAIT;
        for left in (0..TRIES).rev() {
            let tried = TRIES - left;
            match send() {
                Ok(answer) if is_busy(answer.status().as_u16()) => {
                    if left == 0 {
                        let status = answer.status();
                        return Err(self.unreachable(format!("it answers {status}, after {tried} tries")));
                    }
                    let asked = answer.headers().get(header::RETRY_AFTER);
                    let asked = asked.and_then(|secs| secs.to_str().ok()?.trim().parse::<u64>().ok());
                    thread::sleep(asked.map_or(wait, |secs| Duration::from_secs(secs.min(LONGEST_WAIT))));
                }
                Ok(answer) => return Ok(answer),
                Err(ureq::Error::BadUri(address)) => {
                    return Err(HubError::Input(format!(
                        "{address:?} is no address, expected HF_ENDPOINT to be as https://huggingface.co"
                    )));
                }
                Err(error) if tried >= tries => return Err(self.unreachable(error.to_string())),
                Err(_) => thread::sleep(wait),
            }
            wait *= 2;
        }
        unreachable!("the last try returns")
    }

    fn unreachable(&self, reason: String) -> HubError {
        HubError::Unreachable { server: self.settings.endpoint.clone(), reason }
    }

    /// Sends a request, and goes where the answer points: `to_the_end`, or as long as the answer is not yet the Hub's.
    fn follow(
        &self,
        method: &str,
        address: &str,
        headers: &[(&str, String)],
        sent: Sent,
        to_the_end: bool,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut address = address.to_owned();
        for _ in 0..REDIRECTIONS {
            let answer = self.once(method, &address, headers, sent)?;
            let is_the_hub_s =
                ["x-linked-etag", "x-repo-commit"].iter().any(|name| answer.headers().contains_key(*name));
            if !answer.status().is_redirection() || (!to_the_end && is_the_hub_s) {
                return Ok(answer);
            }
            let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
            address = resolved(&address, place.ok_or(ureq::Error::RedirectFailed)?);
        }
        Err(ureq::Error::TooManyRedirects)
    }

    /// Sends one request; the token goes to the Hub's own address and to no other.
    fn once(
        &self,
        method: &str,
        address: &str,
        headers: &[(&str, String)],
        sent: Sent,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(address);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) =
            self.settings.token.as_ref().filter(|_| origin(address) == origin(&self.settings.endpoint))
        {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        match sent {
            Sent::Nothing if method == "POST" => self.agent.run(request.body(&b""[..])?),
            Sent::Nothing => self.agent.run(request.body(())?),
            Sent::Text(text, kind) => self.agent.run(request.header(header::CONTENT_TYPE, kind).body(text)?),
            Sent::Part(path, from, count) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(from))?;
                let mut part = file.take(count);
                let request = request.header(header::CONTENT_LENGTH, count);
                self.agent.run(request.body(SendBody::from_reader(&mut part))?)
            }
        }
    }

    /// The answer where it grants what was asked for; a sentence about `whose` where not.
    fn accepted(&self, mut answer: Response<Body>, whose: &str) -> Result<Response<Body>, HubError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let told =
            |name: &str| answer.headers().get(name).and_then(|text| text.to_str().ok()).map(str::to_owned);
        let (code, message) = (told("x-error-code").unwrap_or_default(), told("x-error-message"));
        let who = match &self.settings.token {
            Some(_) => "the token at hand does not open it",
            None => "no token is at hand; HF_TOKEN or `hf auth login` gives one",
        };
        Err(HubError::Input(match (status.as_u16(), code.as_str()) {
            (_, "RevisionNotFound") => {
                format!("{whose} has no such revision, expected a branch, a tag or a commit of it")
            }
            (_, "GatedRepo") => format!(
                "{whose} is gated: its page at {} says who may read it; {who}",
                self.settings.endpoint
            ),
            (_, "RepoNotFound") | (401 | 404, "") => {
                format!("{} has no {whose}, or it is private and {who}", self.settings.endpoint)
            }
            (401 | 403, _) => {
                let message = message.map_or(String::new(), |text| format!(" ({text})"));
                format!("{} refuses {whose}{message}: {who}", self.settings.endpoint)
            }
            _ => {
                let body =
                    answer.body_mut().with_config().limit(JSON_LIMIT).read_to_vec().unwrap_or_default();
                let said = serde_json::from_slice::<Value>(&body).ok();
                let said = said.and_then(|said| Some(said["error"].as_str()?.to_owned()));
                let said = said.or(message).map_or(String::new(), |text| format!(": {text}"));
                return Err(HubError::Failed(format!(
                    "{} answers {status} of {whose}{said}",
                    self.settings.endpoint
                )));
            }
        }))
    }
}

/// Whether a status asks to come again.
fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Scheme, host and port of an address.
fn origin(address: &str) -> &str {
    let start = address.find("://").map_or(0, |place| place + 3);
    let end = address[start..].find(['/', '?', '#']).map_or(address.len(), |place| start + place);
    &address[..end]
}

/// Where a redirection from `address` goes.
fn resolved(address: &str, place: &str) -> String {
    if place.starts_with("http://") || place.starts_with("https://") {
        place.to_owned()
    } else if let Some(rest) = place.strip_prefix("//") {
        let scheme = address.split("://").next().unwrap_or("https");
        format!("{scheme}://{rest}")
    } else {
        format!("{}/{}", origin(address), place.trim_start_matches('/'))
    }
}

/// A part of a path or a query, as addresses have it.
pub fn quoted(text: &str, kept: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.as_bytes().contains(&byte);
        if plain { quoted.push(char::from(byte)) } else { quoted += &format!("%{byte:02X}") }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_for_one_scheme_host_and_port() {
        assert_eq!(origin("https://a.b/c?d"), "https://a.b");
        assert_eq!(origin("http://127.0.0.1:80?x"), "http://127.0.0.1:80");
        assert_ne!(origin("https://huggingface.co.evil/x"), origin("https://huggingface.co/x"));
        assert_ne!(origin("https://huggingface.co@evil/x"), origin("https://huggingface.co/x"));
    }

    #[test]
    fn redirections_are_whole_addresses_or_paths_of_the_same_server() {
        assert_eq!(resolved("https://a/b", "https://c/d"), "https://c/d");
        assert_eq!(resolved("https://a/b", "//c/d"), "https://c/d");
        assert_eq!(resolved("https://a/b/c", "/d"), "https://a/d");
    }

    #[test]
    fn what_addresses_cannot_hold_is_quoted() {
        assert_eq!(quoted("refs/pr/1 ä", ""), "refs%2Fpr%2F1%20%C3%A4");
        assert_eq!(quoted("a/b", "/"), "a/b");
    }
}
