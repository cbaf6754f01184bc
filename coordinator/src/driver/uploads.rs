//! An upload that a worker does not find: it is gone, or only that worker does not see it.
//!
//! A bucket's rule for incomplete uploads, or somebody who deletes the folder, can take an upload away in mid-merge. No
//! worker can put parts to it then, and trying again helps nobody. So at the first such put the coordinator looks for
//! itself. If the upload is gone the merge ends with `parts_lost`, and is admitted again at once. If it is there, the worker
//! does not see the storage that the coordinator sees, which is that worker's own failure.

use shardfuse_merge::plan::task::Work;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Location;

use super::actor::Driver;
use super::findings::Missed;
use super::input::Input;
use crate::failure::{io, join};
use crate::schedule::{ErrorKind, Event, TaskId};

impl Driver {
    /// The file that a task writes parts of.
    pub(super) fn file_of(&self, task: TaskId) -> Option<u32> {
        match self.opened.tasks.get(task.0 as usize)?.work {
            Work::Fill { file, .. } => Some(file),
            Work::Reduce { .. } => None,
        }
    }

    /// Looks for the upload of a file, unless somebody does; the answer comes into the mailbox. Until then the attempt keeps
    /// its place, so that no other task runs into the same.
    pub(super) fn look(&mut self, file: u32, missed: Missed) {
        let waiting = self.looking.entry(file).or_default();
        waiting.push(missed);
        if waiting.len() > 1 {
            return;
        }
        let place = join(&self.opened.output, &self.opened.plan.output.files[file as usize].name);
        let upload = self.opened.uploads[file as usize].clone();
        let (store, mailbox) = (self.opened.state.store.clone(), self.mailbox.clone());
        tokio::spawn(async move {
            let there = match place {
                Ok(at) => store.probe(&at, &upload).await.map_err(io),
                Err(e) => Err(e),
            };
            // A driver that has ended needs no answer.
            let _ = mailbox.send(Input::Looked(file, there));
        });
    }

    /// Takes the answer: what it means to the schedule, or the merge's end.
    pub(super) fn looked(&mut self, file: u32, there: Result<bool>) -> Result<Vec<Event>> {
        let waiting = self.looking.remove(&file).unwrap_or_default();
        let name = &self.opened.plan.output.files[file as usize].name;
        match there {
            Ok(false) => Err(gone(name, &self.opened.output)),
            Ok(true) => {
                let name = name.clone();
                Ok(waiting.into_iter().map(|missed| self.not_seen(&name, missed)).collect())
            }
            // The store cannot be asked now; the tasks are tried again after their backoff.
            Err(_) => Ok(waiting
                .into_iter()
                .map(|Missed { worker, task, epoch, error }| {
                    let message = error.message().to_owned();
                    Event::TaskFailed { worker, task, epoch, kind: ErrorKind::Stale, message }
                })
                .collect()),
        }
    }

    /// A worker does not see what is there: it is quarantined after a few of these.
    fn not_seen(&mut self, name: &str, Missed { worker, task, epoch, error }: Missed) -> Event {
        let message = format!(
            "{} does not see the upload of {name}, which is there: {}",
            self.names.called(worker),
            error.message()
        );
        let error = Error::new(Kind::Io, message.clone())
            .hint("every worker must reach the same output: mount the same file system, or use the same endpoint");
        self.quarantine.failed(worker, error.clone());
        self.failures.insert(task.0, error);
        Event::TaskFailed { worker, task, epoch, kind: ErrorKind::WorkerLocal, message }
    }
}

fn gone(name: &str, output: &Location) -> Error {
    Error::new(
        Kind::PartsLost,
        format!(
            "the upload of {name} to {output} is gone in mid-merge: a rule for incomplete uploads or somebody removed it, \
             and the parts that were put to it"
        ),
    )
    .hint("let the rule keep incomplete uploads longer than a merge takes, and run the same command again")
}
