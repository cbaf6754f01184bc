//! `shardfuse submit`, and `shardfuse merge --coordinator`.

use shardfuse_merge::output::manifest;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, MergeState};

use super::{print, print_json};
use crate::args::{Format, Global, Merge, Submit};
use crate::client::{self, Client, follow, waiting};
use crate::net::Target;
use crate::text::Text;
use crate::{settings, size};

/// Hands a merge over, and follows it if that is asked for.
pub async fn run(args: Submit, global: &Global) -> Result<()> {
    let request = v1::SubmitRequest {
        spec: Some((&settings::for_fleet(args.spec)?).into()),
        restart: args.restart,
        force: args.force,
        priority: args.priority,
        device: device(args.device)?,
        verify_parts: args.verify_parts,
    };
    if args.wait {
        let target = Target::new(&args.connect.coordinator, &args.connect.way)?;
        let (client, merge, _) = waiting::submit(&target, request).await?;
        return to_the_end(client, merge, global).await;
    }
    let mut client = Client::connect(&args.connect).await?;
    let (merge, known) = client.submit(request).await?;
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
    if args.limit_rate.is_some() {
        return Err(Error::new(Kind::Usage, "--limit-rate has no meaning for a fleet")
            .hint("each worker has its own: shardfuse worker --help"));
    }
    let target = Target::new(coordinator, &args.way)?;
    let request = v1::SubmitRequest {
        spec: Some((&settings::for_fleet(args.spec)?).into()),
        restart: args.restart,
        force: args.force,
        priority: args.priority,
        device: device(args.device)?,
        verify_parts: None,
    };
    let (client, merge, known) = waiting::submit_when_free(&target, request).await?;
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
    print(&summary(&merge))
}

fn summary(merge: &v1::Merge) -> Text {
    let p = merge.progress.unwrap_or_default();
    let spec = merge.spec.clone().unwrap_or_default();
    let adapters = match spec.lora.len() {
        1 => "1 adapter".to_owned(),
        n => format!("{n} adapters"),
    };
    let kept = if p.parts_kept > 0 { format!(", {} parts were there already", p.parts_kept) } else { String::new() };
    let plan = merge.plan.get(..12).unwrap_or(&merge.plan);
    let mut text = Text::of(format_args!("merged {adapters} into {}", spec.base));
    text.line(format_args!("wrote {} to {}{kept}", size::show(p.bytes_total), spec.output));
    text.line(format_args!("plan {plan}, digests in {}", manifest::MANIFEST));
    text
}

fn device(typed: Option<String>) -> Result<String> {
    match typed.as_deref() {
        None => Ok(String::new()),
        Some("cpu" | "cuda") => Ok(typed.unwrap_or_default()),
        Some(other) => Err(Error::new(Kind::Usage, format!("--device is {other:?}, expected cpu or cuda"))
            .hint("which GPU it is, the first worker that takes part decides")),
    }
}
