//! Notices that a cloud is about to take a spot machine away.
//!
//! A machine asks its own metadata service, which only it can reach. Nobody answers on other machines: that is no notice.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use shardfuse_merge::{Error, Kind};
use tracing::{debug, info};

/// How often is asked. The shortest notice is half a minute (GCP, Azure); AWS gives two.
const EVERY: Duration = Duration::from_secs(5);
/// A metadata service answers at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    service: Service,
    base: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Aws,
    Gcp,
    Azure,
    /// Anything that answers 200 once there is a notice.
    Other,
}

impl std::str::FromStr for Notice {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let (service, base) = match text {
            "aws" => (Service::Aws, "http://169.254.169.254"),
            "gcp" => (Service::Gcp, "http://metadata.google.internal"),
            "azure" => (Service::Azure, "http://169.254.169.254"),
            url if url.starts_with("http://") || url.starts_with("https://") => (Service::Other, url),
            _ => {
                return Err(Error::new(Kind::Usage, format!("{text:?} is not aws, gcp, azure or a URL")));
            }
        };
        Ok(Notice { service, base: base.to_owned() })
    }
}

impl Notice {
    /// Resolves when there is a notice. Asks for ever; a service that does not answer is asked again.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub async fn given(&self) -> Result<(), Error> {
        // Metadata services are reached directly, and lead nowhere else.
        let client = shardfuse_store::web::client()
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .map_err(|e| Error::new(Kind::Internal, format!("cannot make an HTTP client: {e}")))?;
        loop {
            match self.ask(&client).await {
                Ok(true) => {
                    info!(service = ?self.service, "this machine is about to be taken away");
                    return Ok(());
                }
                Ok(false) => {}
                Err(e) => debug!(service = ?self.service, error = %e, "no answer"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Whether there is a notice now.
    async fn ask(&self, client: &Client) -> Result<bool, reqwest::Error> {
        let at = |path: &str| client.get(format!("{}{path}", self.base));
        match self.service {
            Service::Aws => {
                let token = client
                    .request(Method::PUT, format!("{}/latest/api/token", self.base))
                    .header("X-aws-ec2-metadata-token-ttl-seconds", "60");
                let (status, token) = answer(token).await?;
                let asked = at("/latest/meta-data/spot/instance-action");
                // Machines with the older service alone have no tokens.
                let asked =
                    if status == StatusCode::OK { asked.header("X-aws-ec2-metadata-token", token) } else { asked };
                Ok(answer(asked).await?.0 == StatusCode::OK)
            }
            Service::Gcp => {
                let asked = at("/computeMetadata/v1/instance/preempted").header("Metadata-Flavor", "Google");
                let (status, text) = answer(asked).await?;
                Ok(status == StatusCode::OK && text.trim() == "TRUE")
            }
            Service::Azure => {
                let asked = at("/metadata/scheduledevents?api-version=2020-07-01").header("Metadata", "true");
                let (status, text) = answer(asked).await?;
                let events: Value = serde_json::from_str(&text).unwrap_or_default();
                let events = events["Events"].as_array().cloned().unwrap_or_default();
                Ok(status == StatusCode::OK && events.iter().any(|e| e["EventType"] == "Preempt"))
            }
            Service::Other => Ok(answer(client.get(&self.base)).await?.0 == StatusCode::OK),
        }
    }
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, String), reqwest::Error> {
    let mut response = request.send().await?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers `path` with the body if the header is there, and everything else with 404.
    async fn server(path: &'static str, header: &'static str, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => break,
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let answer = if request.starts_with("PUT /latest/api/token ") {
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntoken".to_owned()
                } else if request.starts_with(&format!("GET {path} ")) && request.to_lowercase().contains(header) {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
                } else {
                    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        base
    }

    async fn asked(service: Service, path: &'static str, header: &'static str, body: &'static str) -> bool {
        let base = server(path, header, body).await;
        let base = if service == Service::Other { format!("{base}/notice") } else { base };
        Notice { service, base }.ask(&Client::builder().no_proxy().build().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn each_service_is_asked_in_its_own_way() {
        let aws = "/latest/meta-data/spot/instance-action";
        assert!(asked(Service::Aws, aws, "x-aws-ec2-metadata-token: token", r#"{"action":"terminate"}"#).await);
        assert!(!asked(Service::Aws, "/elsewhere", "", "").await, "404 is no notice");
        let gcp = "/computeMetadata/v1/instance/preempted";
        assert!(asked(Service::Gcp, gcp, "metadata-flavor: google", "TRUE").await);
        assert!(!asked(Service::Gcp, gcp, "metadata-flavor: google", "FALSE").await);
        let azure = "/metadata/scheduledevents?api-version=2020-07-01";
        let event = r#"{"Events":[{"EventType":"Freeze"},{"EventType":"Preempt"}]}"#;
        assert!(asked(Service::Azure, azure, "metadata: true", event).await);
        assert!(!asked(Service::Azure, azure, "metadata: true", r#"{"Events":[{"EventType":"Freeze"}]}"#).await);
        assert!(asked(Service::Other, "/notice", "", "").await);
        assert!(!asked(Service::Other, "/elsewhere", "", "").await);
    }

    #[tokio::test]
    async fn a_notice_ends_the_wait() {
        let base = format!("{}/notice", server("/notice", "", "").await);
        base.parse::<Notice>().unwrap().given().await.unwrap();
        assert_eq!("ec2".parse::<Notice>().unwrap_err().kind(), Kind::Usage);
    }
}
