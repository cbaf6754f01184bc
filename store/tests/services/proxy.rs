//! A proxy that spoils chosen requests on their way to a store.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store never sees it; the connection breaks.
    Reset,
    /// The store never sees it; `503 SlowDown` comes back.
    SlowDown,
    /// The store never sees it; `400 ExpiredToken` comes back.
    Expired,
    /// The store does it, and the answer is lost with the connection.
    LostReply,
    /// The store does it, and the connection breaks after so many bytes of the answer's body.
    Short(usize),
}

/// A proxy on a port of its own.
#[derive(Clone)]
pub struct Proxy {
    state: Arc<State>,
    port: u16,
}

struct State {
    upstream: String,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<String>>,
}

struct Rule {
    /// Method and a piece of the address.
    method: &'static str,
    piece: &'static str,
    fault: Fault,
    /// Of those that fit, every which one.
    every: usize,
    met: usize,
    left: usize,
}

impl Proxy {
    /// Begins to pass requests on to `endpoint`, until the process ends.
    pub fn before(endpoint: &str) -> Self {
        let upstream = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { upstream, rules: Mutex::default(), seen: Mutex::default() });
        let serving = state.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = serving.clone();
                // A broken connection is what this is for.
                std::thread::spawn(move || state.serve(&connection));
            }
        });
        Self { state, port }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Spoils the next `count` requests of this method whose address holds `piece`.
    pub fn spoil(&self, method: &'static str, piece: &'static str, count: usize, fault: Fault) {
        self.spoil_every(1, method, piece, count, fault);
    }

    /// Spoils every so many-th of them, `count` times.
    pub fn spoil_every(&self, every: usize, method: &'static str, piece: &'static str, count: usize, fault: Fault) {
        self.state.rules.lock().unwrap().push(Rule { method, piece, fault, every, met: 0, left: count });
    }

    /// How many requests of this method had an address with `piece` in it.
    pub fn count(&self, method: &str, piece: &str) -> usize {
        let wanted = |line: &&String| line.starts_with(&format!("{method} ")) && line.contains(piece);
        self.state.seen.lock().unwrap().iter().filter(wanted).count()
    }

    /// Whether every planned fault has happened.
    pub fn is_spent(&self) -> bool {
        self.state.rules.lock().unwrap().iter().all(|rule| rule.left == 0)
    }
}

impl State {
    fn fault(&self, line: &str) -> Option<Fault> {
        self.seen.lock().unwrap().push(line.to_owned());
        let mut rules = self.rules.lock().unwrap();
        let fits = |rule: &&mut Rule| {
            rule.left > 0 && line.starts_with(&format!("{} ", rule.method)) && line.contains(rule.piece)
        };
        let rule = rules.iter_mut().filter(fits).find_map(|rule| {
            rule.met += 1;
            rule.met.is_multiple_of(rule.every).then_some(rule)
        })?;
        rule.left -= 1;
        Some(rule.fault)
    }

    /// Requests of one connection, one after the other; each has an upstream connection of its own.
    fn serve(&self, client: &TcpStream) -> std::io::Result<()> {
        let mut from_client = BufReader::new(client.try_clone()?);
        let mut to_client = client;
        while let Some((head, body)) = message(&mut from_client, true)? {
            let fault = self.fault(head.lines().next().unwrap_or_default());
            let refusal = match fault {
                Some(Fault::Reset) => return client.shutdown(Shutdown::Both),
                Some(Fault::SlowDown) => Some(("503 Service Unavailable", "SlowDown")),
                Some(Fault::Expired) => Some(("400 Bad Request", "ExpiredToken")),
                _ => None,
            };
            if let Some((status, code)) = refusal {
                let text = format!("<Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
                write!(to_client, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
                continue;
            }
            let mut upstream = TcpStream::connect(&self.upstream)?;
            upstream.write_all(head.as_bytes())?;
            upstream.write_all(&body)?;
            let with_body = !head.starts_with("HEAD ");
            let Some((head, body)) = message(&mut BufReader::new(upstream), with_body)? else { return Ok(()) };
            let sent = match fault {
                Some(Fault::LostReply) => return client.shutdown(Shutdown::Both),
                Some(Fault::Short(bytes)) => bytes.min(body.len()),
                _ => body.len(),
            };
            to_client.write_all(head.as_bytes())?;
            to_client.write_all(&body[..sent])?;
            if sent < body.len() {
                return client.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }
}

/// Reads head and body of a request or an answer. A body in chunks is read, and passed on, as it is.
fn message(from: &mut impl BufRead, with_body: bool) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut head = String::new();
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        head += &line;
        if line == "\r\n" {
            break;
        }
        // The store answers an expectation on its own; here the body follows anyway.
    }
    let mut body = Vec::new();
    if with_body && chunked {
        loop {
            let mut size = String::new();
            from.read_line(&mut size)?;
            let bytes = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            body.extend_from_slice(size.as_bytes());
            let start = body.len();
            body.resize(start + bytes + 2, 0);
            from.read_exact(&mut body[start..])?;
            if bytes == 0 {
                break;
            }
        }
    } else if with_body {
        body.resize(length, 0);
        from.read_exact(&mut body)?;
    }
    Ok(Some((head, body)))
}
