//! What the log says of workers.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use shardfuse_coordinator::hub::{Options, Stage};
use shardfuse_proto::v1::{self, from_worker};
use tracing_subscriber::fmt::MakeWriter;

use crate::fixture::{Fixture, until, wait_for};
use crate::worker::{Worker, hello};

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap()).lines().map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

#[tokio::test]
async fn every_line_about_a_worker_has_its_name() {
    let log = Log::default();
    let lines =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false).with_writer(log.clone());
    let _logged = tracing::subscriber::set_default(lines.finish());
    let fixture = Fixture::new();
    let (hub, merge) = fixture.running(Options::default()).await;
    let named = v1::Hello { name: "pod-a".into(), ..hello(7, "cpu", 1) };
    let mut worker = Worker::with_room(&hub, &fixture.stores, named, 1024).await;
    worker.until("an assignment", |w| !w.held.is_empty()).await;
    let assign = worker.held.pop_front().unwrap();
    worker.fail(&assign, v1::ErrorKind::WorkerLocal, "io").await;
    worker.say(from_worker::Message::Draining(v1::Draining {})).await;
    hub.left(worker.id, worker.session.number).await;
    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 8, 1).await.serve());
    wait_for(&hub, &merge, Stage::Done).await;
    serving.abort();
    until("the worker left", async || log.lines().iter().any(|line| line.contains("a worker left"))).await;
    let of_worker: Vec<String> = log.lines().into_iter().filter(|line| line.contains("worker=7 ")).collect();
    for about in ["a worker joined", "assigned", "a task failed", "a worker drains", "a worker left"] {
        assert!(of_worker.iter().any(|line| line.contains(about)), "{about}: {of_worker:#?}");
    }
    let nameless: Vec<&String> = of_worker.iter().filter(|line| !line.contains("name=\"pod-a\"")).collect();
    assert!(nameless.is_empty(), "{nameless:#?}");
}
