//! Progress for programs: `{"progress":{…}}`, one object a line. `docs/cli.md` has the fields.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use shardfuse_coordinator::Progress;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::state::State;

/// Between two lines of one stage.
const EVERY: Duration = Duration::from_millis(200);

/// What a merge is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// It is not planned yet.
    Waiting,
    Fusing,
    Publishing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    stage: Stage,
    bytes_done: u64,
    bytes_total: u64,
    tasks_done: u32,
    tasks_total: u32,
}

impl Line {
    fn of(p: &Progress) -> Line {
        let stage = match (p.publishing, p.bytes_total) {
            (true, _) => Stage::Publishing,
            (false, 0) => Stage::Waiting,
            (false, _) => Stage::Fusing,
        };
        let Progress { bytes_done, bytes_total, tasks_done, tasks_total, .. } = *p;
        Line { stage, bytes_done, bytes_total, tasks_done, tasks_total }
    }

    fn print(&self) {
        let line = serde_json::json!({ "progress": self });
        // A closed stderr is no reason to fail.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// Prints how the merge stands, each new stage at once, and other changes from time to time. What was true last is printed in
/// any case.
pub async fn show(progress: &mut watch::Receiver<State>) {
    follow(progress, |line| line.print()).await;
}

async fn follow(progress: &mut watch::Receiver<State>, mut print: impl FnMut(&Line)) {
    let mut shown = Line::of(&progress.borrow_and_update().progress);
    print(&shown);
    let (mut next, mut open) = (Instant::now() + EVERY, true);
    while open {
        let now = Line::of(&progress.borrow_and_update().progress);
        if now != shown && (now.stage != shown.stage || Instant::now() >= next) {
            print(&now);
            (shown, next) = (now.clone(), Instant::now() + EVERY);
        }
        open = match now == shown {
            true => progress.changed().await.is_ok(),
            // Whether or not there is more, this is printed.
            false => !matches!(timeout_at(next, progress.changed()).await, Ok(Err(_))),
        };
    }
    let last = Line::of(&progress.borrow().progress);
    if last != shown {
        print(&last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bytes_done: u64, publishing: bool) -> Progress {
        Progress { bytes_done, bytes_total: 9, publishing, ..Progress::default() }
    }

    /// What is printed of progress that is told in steps of so much time.
    async fn printed(steps: &[(u64, Progress)]) -> Vec<(Stage, u64)> {
        let (send, mut receive) = watch::channel(State::default());
        let steps = steps.to_vec();
        tokio::spawn(async move {
            for (milliseconds, progress) in steps {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                send.send_replace(progress.into());
            }
        });
        let mut lines = Vec::new();
        follow(&mut receive, |line| lines.push((line.stage, line.bytes_done))).await;
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_each_stage_and_the_last_are_printed() {
        use Stage::{Fusing, Publishing, Waiting};
        let lines = printed(&[(1, at(0, false)), (1, at(1, false)), (1, at(9, true)), (1, at(9, true))]).await;
        assert_eq!(lines, [(Waiting, 0), (Fusing, 0), (Publishing, 9)]);
        // Of two changes within the time the later one is printed, also where no other follows.
        let lines = printed(&[(1, at(1, false)), (1, at(2, false)), (1, at(3, false)), (900, at(4, false))]).await;
        assert_eq!(lines, [(Waiting, 0), (Fusing, 1), (Fusing, 3), (Fusing, 4)]);
        assert_eq!(printed(&[(1, at(1, false)), (1, at(2, false))]).await.last(), Some(&(Fusing, 2)));
        assert_eq!(printed(&[]).await, [(Waiting, 0)]);
    }

    #[test]
    fn a_line_has_the_fields_of_the_documentation() {
        let line = serde_json::to_value(Line::of(&at(1, false))).unwrap();
        let text = include_str!("../../docs/cli.md");
        for field in line.as_object().unwrap().keys() {
            assert!(text.contains(&format!("`{field}`")), "docs/cli.md has no word of {field}");
        }
        assert_eq!(line["stage"], "fusing");
    }
}
