//! `shardfuse health`: the standard health check, for probes that run a command.

use std::time::Duration;

use shardfuse_merge::{Error, Kind, Result};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{print, print_json};
use crate::args::{Format, Global, Health};
use crate::net::{self, Target};
use crate::text::Text;

/// A process that does not answer within this time does not serve.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks. Everything but SERVING is a failure.
pub async fn run(args: Health, global: &Global) -> Result<()> {
    let target = Target::new(&args.connect.coordinator, &args.connect.way)?;
    let mut client = HealthClient::new(net::connect(&target).await?);
    let mut request = tonic::Request::new(HealthCheckRequest { service: args.service.clone() });
    request.set_timeout(TIMEOUT);
    let answer = tokio::time::timeout(TIMEOUT, client.check(request)).await.map_err(|_| {
        Error::new(Kind::Io, format!("the coordinator at {target} did not answer within {} s", TIMEOUT.as_secs()))
    })?;
    let what = if args.service.is_empty() { "the coordinator" } else { &args.service };
    match answer {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => match global.format {
            Format::Json => print_json(&serde_json::json!({ "service": args.service, "serving": true })),
            Format::Text if global.quiet => Ok(()),
            Format::Text => print(&Text::of("serving")),
        },
        Ok(answer) => {
            Err(Error::new(Kind::Io, format!("{what} at {target} says {}", answer.get_ref().status().as_str_name())))
        }
        Err(status) if status.code() == tonic::Code::NotFound => {
            Err(Error::new(Kind::Io, format!("{what} is no service of the process at {target}")))
        }
        Err(status) => Err(net::failure(&target, &status)),
    }
}
