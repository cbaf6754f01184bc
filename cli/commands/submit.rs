//! `shardfuse submit`, and `shardfuse merge --coordinator`.

use shardfuse_coordinator::hub::{Device, Submission};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, MergeState};
use shardfuse_worker::device::Choice;

use super::{print, print_json};
use crate::args::{Format, Global, Machine, Merge, Submit};
use crate::client::{self, Client, follow, waiting};
use crate::net::Target;
use crate::settings;
use crate::summary::Summary;
use crate::text::Text;

/// Hands a merge over, and follows it if that is asked for.
pub async fn run(args: Submit, global: &Global) -> Result<()> {
    let submission = Submission {
        priority: args.priority,
        device: args.device.map(Into::into),
        verify_parts: args.verify_parts,
        ..settings::submission(settings::for_fleet(args.spec)?, args.replace)
    };
    if args.wait {
        let target = Target::new(&args.connect.coordinator, &args.connect.way)?;
        let (client, merge, _) = waiting::submit(&target, &submission).await?;
        return to_the_end(client, merge, global).await;
    }
    let mut client = Client::connect(&args.connect).await?;
    let (merge, known) = client.submit(&submission).await?;
    match global.format {
        Format::Json => {
            let mut value = client::json(&merge);
            value["known"] = known.into();
            print_json(&value)
        }
        Format::Text => {
            if !global.quiet && known {
                Text::of(format_args!("this merge is known: {}", client::line(&merge)[1])).say();
            }
            // The id alone, so that a script can take it.
            print(&Text::of(&merge.id))
        }
    }
}

/// Lets a fleet do what `merge` would do here.
pub async fn merge(args: Merge, coordinator: &str, global: &Global) -> Result<()> {
    let Machine { resources, limit_rate, .. } = &args.machine;
    let given = [
        ("--memory", resources.memory.is_some()),
        ("--threads", resources.threads.is_some()),
        ("--limit-rate", limit_rate.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Error::new(Kind::Usage, format!("{flag} has no meaning for a fleet"))
            .hint("each worker has its own: shardfuse worker --help"));
    }
    let target = Target::new(coordinator, &args.way)?;
    let submission = Submission {
        priority: args.priority,
        device: args.device.map(device).transpose()?,
        ..settings::submission(settings::for_fleet(args.spec)?, args.replace)
    };
    let (client, merge, known) = waiting::submit_when_free(&target, &submission).await?;
    if known && merge.state() == MergeState::Done && global.format == Format::Text {
        let output = merge.spec.unwrap_or_default().output;
        let text = Text::of(format_args!("{output} is this very merge already, finished"));
        return if global.quiet { Ok(()) } else { print(&text) };
    }
    to_the_end(client, merge, global).await
}

/// Follows a merge and says how it went.
pub async fn to_the_end(client: Client, merge: v1::Merge, global: &Global) -> Result<()> {
    if !global.quiet && global.format == Format::Text {
        Text::of(format_args!("merge {}", merge.id)).say();
        for remark in &merge.remarks {
            Text::of(remark).say();
        }
    }
    let told = merge.remarks.len();
    let merge = follow::follow(client, merge, global).await?;
    if global.format == Format::Json {
        // Also of a merge that failed: stdout tells the whole, the exit code and stderr why.
        print_json(&client::json(&merge))?;
        return follow::outcome(merge).map(|_| ());
    }
    let merge = follow::outcome(merge)?;
    if global.quiet {
        return Ok(());
    }
    for remark in merge.remarks.iter().skip(told) {
        Text::of(remark).say();
    }
    print(&Summary::of_wire(&merge).text())
}

/// The device of a merge on a fleet.
fn device(choice: Choice) -> Result<Device> {
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Cuda(None) => Ok(Device::Cuda),
        Choice::Auto | Choice::Cuda(Some(_)) => {
            Err(Error::new(Kind::Usage, format!("--device is {choice}, expected cpu or cuda with --coordinator"))
                .hint("the first worker to join decides which class of GPU"))
        }
    }
}
