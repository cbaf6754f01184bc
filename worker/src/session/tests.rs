//! The session against a scripted coordinator: a real tonic service over in-memory streams, with scripted work. Time is
//! paused: it moves only while everybody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper_util::rt::TokioIo;
use shardfuse_proto::v1::work_server;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Server, Uri};
use tonic::{Code, Request, Response, Status, Streaming};

use super::*;

const LEASE: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(25);

/// The coordinator's service: every session is handed to the test, unless a status is planned for it.
#[derive(Clone)]
struct Coordinator {
    sessions: mpsc::Sender<Peer>,
    /// Refuses so many sessions with this.
    refuse: Arc<(AtomicU32, Code)>,
}

/// The coordinator's end of a session.
struct Peer {
    hello: v1::Hello,
    inbound: Streaming<v1::FromWorker>,
    outbound: mpsc::Sender<Result<v1::ToWorker, Status>>,
}

#[tonic::async_trait]
impl work_server::Work for Coordinator {
    type SessionStream = ReceiverStream<Result<v1::ToWorker, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (left, code) = &*self.refuse;
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            return Err(Status::new(*code, "the worker speaks protocol 1, the coordinator 7"));
        }
        let mut inbound = request.into_inner();
        let Some(v1::FromWorker { message: Some(from_worker::Message::Hello(hello)) }) = inbound.message().await?
        else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (outbound, receive) = mpsc::channel(64);
        let peer = Peer { hello, inbound, outbound };
        self.sessions.send(peer).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

impl Peer {
    async fn send(&self, message: to_worker::Message) {
        self.outbound.send(Ok(v1::ToWorker { message: Some(message) })).await.unwrap();
    }

    async fn welcome(&self) {
        self.welcome_as(PROTOCOL_VERSION).await;
    }

    async fn welcome_as(&self, protocol_version: u32) {
        self.send(to_worker::Message::Welcome(v1::Welcome {
            protocol_version,
            heartbeat_ms: 5_000,
            secret: format!("after {:?}", self.hello.secret).into_bytes(),
        }))
        .await;
    }

    async fn assign(&self, task: u32) {
        self.send(to_worker::Message::Assign(assign(task))).await;
    }

    async fn ack(&self, task: u32, piece: u32) {
        self.send(to_worker::Message::Ack(v1::Ack { attempt: Some(named(task)), piece })).await;
    }

    async fn revoke(&self, task: u32) {
        self.send(to_worker::Message::Revoke(v1::Revoke { attempt: Some(named(task)) })).await;
    }

    async fn next(&mut self) -> from_worker::Message {
        self.inbound.next().await.expect("the session goes on").expect("it is not broken").message.unwrap()
    }

    /// The tasks that the next heartbeat lists; nothing else comes before it.
    async fn heartbeat(&mut self) -> Vec<u32> {
        match self.next().await {
            from_worker::Message::Heartbeat(beat) => beat.running.iter().map(|a| a.task).collect(),
            other => panic!("a heartbeat is due, not {other:?}"),
        }
    }

    /// The next that is no heartbeat.
    async fn said(&mut self) -> from_worker::Message {
        loop {
            match self.next().await {
                from_worker::Message::Heartbeat(_) => {}
                other => return other,
            }
        }
    }

    async fn piece(&mut self) -> (u32, u32) {
        match self.said().await {
            from_worker::Message::PieceDone(done) => (done.attempt.unwrap().task, done.piece),
            other => panic!("a piece is due, not {other:?}"),
        }
    }

    async fn failed(&mut self) -> (u32, v1::ErrorKind, String) {
        match self.said().await {
            from_worker::Message::TaskFailed(f) => (f.attempt.as_ref().unwrap().task, f.kind(), f.message),
            other => panic!("a failure is due, not {other:?}"),
        }
    }

    /// Reads until a heartbeat lists exactly these.
    async fn until_alive(&mut self, tasks: &[u32]) {
        loop {
            if let from_worker::Message::Heartbeat(beat) = self.next().await
                && beat.running.iter().map(|a| a.task).eq(tasks.iter().copied())
            {
                return;
            }
        }
    }

    /// Whether the worker ended the session in order.
    async fn farewell(mut self) -> bool {
        loop {
            match self.inbound.next().await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(_)) => {}
            }
        }
    }
}

fn named(task: u32) -> v1::Attempt {
    v1::Attempt { task, epoch: 1, merge: "m".into() }
}

fn assign(task: u32) -> v1::Assign {
    let fill = v1::Fill {
        url: "/out/model.safetensors".into(),
        size: 4096,
        parts: (0..4)
            .map(|n| v1::Part { number: n, offset: u64::from(n) * 1024, length: 1024, digest: false })
            .collect(),
        ..v1::Fill::default()
    };
    v1::Assign {
        attempt: Some(named(task)),
        lease_ms: LEASE.as_millis() as u64,
        objects: Vec::new(),
        job: Some(v1::assign::Job::Fill(fill)),
        ..v1::Assign::default()
    }
}

/// Work that does what the test says.
#[derive(Clone)]
struct Scripted {
    jobs: mpsc::UnboundedSender<Job>,
    device: watch::Sender<Option<Failure>>,
}

/// Work that was begun.
struct Job {
    task: u32,
    done: mpsc::Sender<Done>,
    gate: Gate,
    meter: Meter,
    end: oneshot::Sender<Result<(), Failure>>,
}

impl Work for Scripted {
    fn device_class(&self) -> String {
        "cpu".into()
    }

    async fn lost(&self) -> Failure {
        let lost = self.device.subscribe().wait_for(Option::is_some).await.unwrap().clone();
        lost.unwrap()
    }

    fn usage(&self) -> Usage {
        Usage { bytes_put: 1, bytes_read: 2, memory_used: 3, ..Usage::default() }
    }

    async fn run(
        &self,
        assignment: Assignment,
        done: mpsc::Sender<Done>,
        gate: Gate,
        meter: Meter,
    ) -> Result<(), Failure> {
        let (end, ended) = oneshot::channel();
        let sent = self.jobs.send(Job { task: assignment.task, done, gate, meter, end });
        assert!(sent.is_ok(), "the test listens");
        ended.await.unwrap_or(Ok(()))
    }
}

impl Job {
    async fn piece(&self, piece: u32) {
        self.piece_with(piece, None).await;
    }

    async fn piece_with(&self, piece: u32, result: Option<v1::piece_done::Result>) {
        let attempt = Some(named(self.task));
        self.done.send(v1::PieceDone { attempt, piece, result, ..v1::PieceDone::default() }).await.unwrap();
    }

    fn end(self, result: Result<(), Failure>) {
        self.end.send(result).expect("the work is waited for");
    }

    /// Waits until the work is dropped.
    async fn aborted(mut self) {
        self.end.closed().await;
    }

    async fn held(&self) {
        while self.gate.is_open() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A worker and its coordinator.
struct Stage {
    sessions: mpsc::Receiver<Peer>,
    jobs: mpsc::UnboundedReceiver<Job>,
    worker: JoinHandle<Result<String, Error>>,
    shutdown: Option<oneshot::Sender<Duration>>,
    /// Cuts connections, and lets so many tries fail.
    network: Arc<Network>,
    /// What happened to the device.
    device: watch::Sender<Option<Failure>>,
}

#[derive(Default)]
struct Network {
    servers: std::sync::Mutex<Vec<JoinHandle<()>>>,
    unreachable: AtomicU32,
    tries: AtomicU32,
}

impl Network {
    /// Cuts every connection at once.
    fn cut(&self) {
        self.servers.lock().unwrap().drain(..).for_each(|s| s.abort());
    }

    async fn connect(self: Arc<Self>, service: Coordinator) -> Result<Channel, Error> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.unreachable.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            return Err(Error::new(Kind::Io, "nobody is there"));
        }
        let (client, server) = tokio::io::duplex(64 << 10);
        let service = work_server::WorkServer::new(service).max_encoding_message_size(64 << 20);
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
        let serving = tokio::spawn(async move {
            // The incoming stream ends with its only connection, which is served to its end.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        self.servers.lock().unwrap().push(serving);
        let mut client = Some(client);
        let connector = tower::service_fn(move |_: Uri| {
            let client = client.take();
            async move { client.map(TokioIo::new).ok_or_else(|| std::io::Error::other("cut")) }
        });
        let endpoint = Endpoint::from_static("http://scripted");
        endpoint.connect_with_connector(connector).await.map_err(|e| Error::new(Kind::Io, e.to_string()))
    }
}

fn stage_refusing(slots: u32, refusals: u32, code: Code) -> Stage {
    let (sessions_in, sessions) = mpsc::channel(4);
    let (jobs_in, jobs) = mpsc::unbounded_channel();
    let (shutdown, told) = oneshot::channel();
    let network = Arc::new(Network::default());
    let service = Coordinator { sessions: sessions_in, refuse: Arc::new((AtomicU32::new(refusals), code)) };
    let way = Arc::clone(&network);
    let connect = move || Arc::clone(&way).connect(service.clone());
    let options = Options { worker_id: 77, name: "scripted".into(), memory: 1 << 30, slots };
    let shutdown_told = async {
        match told.await {
            Ok(grace) => grace,
            Err(_) => std::future::pending().await,
        }
    };
    let device = watch::Sender::new(None);
    let work = Scripted { jobs: jobs_in, device: device.clone() };
    let worker = tokio::spawn(drive(connect, Retry::Forever, work, options, shutdown_told));
    Stage { sessions, jobs, worker, shutdown: Some(shutdown), network, device }
}

fn stage(slots: u32) -> Stage {
    stage_refusing(slots, 0, Code::Ok)
}

impl Stage {
    /// The next session, welcomed, after its first heartbeat with the tasks that it lists.
    async fn session(&mut self) -> (Peer, Vec<u32>) {
        let mut peer = self.sessions.recv().await.expect("the worker comes");
        assert_eq!((peer.hello.worker_id, peer.hello.protocol_version), (77, PROTOCOL_VERSION));
        peer.welcome().await;
        let alive = peer.heartbeat().await;
        (peer, alive)
    }

    async fn job(&mut self) -> Job {
        self.jobs.recv().await.expect("work is begun")
    }

    /// A session in which the worker works on task 1.
    async fn at_work(&mut self) -> (Peer, Job) {
        let (peer, alive) = self.session().await;
        assert!(alive.is_empty(), "a new worker has nothing");
        peer.assign(1).await;
        (peer, self.job().await)
    }

    /// Cuts the session; so many tries for another one fail.
    fn cut(&self, peer: Peer, tries: u32) {
        self.network.unreachable.store(tries, Ordering::Relaxed);
        self.network.cut();
        drop(peer);
    }

    fn leave(&mut self) {
        self.shutdown.take().unwrap().send(GRACE).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_secret_of_the_last_welcome_is_shown_in_the_next_hello() {
    let mut stage = stage(1);
    let (peer, _) = stage.session().await;
    assert_eq!(peer.hello.secret, b"");
    let given = format!("after {:?}", Vec::<u8>::new()).into_bytes();
    stage.cut(peer, 2);
    let (peer, _) = stage.session().await;
    assert_eq!(peer.hello.secret, given);
    let given = format!("after {given:?}").into_bytes();
    stage.cut(peer, 0);
    let (peer, _) = stage.session().await;
    assert_eq!(peer.hello.secret, given);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_tells_how_far_each_attempt_is() {
    let mut stage = stage(2);
    let (mut peer, _) = stage.session().await;
    peer.assign(1).await;
    let first = stage.job().await;
    for task in [2, 3] {
        peer.assign(task).await;
    }
    let second = stage.job().await;
    first.meter.read(10);
    first.meter.fused(20);
    second.meter.put(30);
    peer.until_alive(&[1, 2, 3]).await;
    let from_worker::Message::Heartbeat(beat) = peer.next().await else { panic!("a heartbeat is due") };
    let effort = |bytes_read, bytes_fused, bytes_put| v1::Effort { bytes_read, bytes_fused, bytes_put };
    assert_eq!(beat.running, [named(1), named(2), named(3)]);
    assert_eq!(beat.efforts, [effort(10, 20, 0), effort(0, 0, 30), effort(0, 0, 0)], "the third waits for a slot");
}

#[tokio::test(start_paused = true)]
async fn after_a_cut_only_what_was_not_acknowledged_is_said_again() {
    let mut stage = stage(2);
    let (mut peer, alive) = stage.session().await;
    assert!(alive.is_empty());
    peer.assign(5).await;
    let job = stage.job().await;
    job.piece(0).await;
    job.piece(1).await;
    assert_eq!((peer.piece().await, peer.piece().await), ((5, 0), (5, 1)));
    peer.ack(5, 0).await;
    // The acknowledgement has arrived when what was sent behind it has.
    peer.assign(6).await;
    let other = stage.job().await;
    stage.cut(peer, 3);
    // While nobody is there, work goes on and ends.
    job.piece(2).await;
    job.end(Ok(()));

    let (mut peer, alive) = stage.session().await;
    assert!(stage.network.tries.load(Ordering::Relaxed) >= 5, "it tried until somebody was there");
    assert_eq!(alive, [5, 6], "leases are asked for first, of what ended too");
    assert_eq!((peer.piece().await, peer.piece().await), ((5, 1), (5, 2)));
    peer.ack(5, 1).await;
    peer.ack(5, 2).await;
    peer.until_alive(&[6]).await;
    assert!(other.gate.is_open());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_counts_no_more_is_dropped_with_its_receipts() {
    let mut stage = stage(1);
    let (peer, job) = stage.at_work().await;
    // Away for longer than the lease: nothing new is begun, and what was under way is finished.
    stage.cut(peer, 20);
    job.held().await;
    job.piece(0).await;

    let (mut peer, alive) = stage.session().await;
    assert_eq!(alive, [1], "a zombie says what it has");
    peer.revoke(1).await;
    job.aborted().await;
    peer.until_alive(&[]).await;
    // Its slot is free.
    peer.assign(2).await;
    assert_eq!(stage.job().await.task, 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_still_counts_goes_on_after_a_long_absence() {
    let mut stage = stage(1);
    let (peer, job) = stage.at_work().await;
    stage.cut(peer, 20);
    job.held().await;
    let (_peer, alive) = stage.session().await;
    assert_eq!(alive, [1]);
    tokio::time::timeout(Duration::from_secs(60), job.gate.passed()).await.expect("a heartbeat opens the gate");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_takes_no_heartbeats_loses_the_lease() {
    let mut stage = stage(1);
    let (peer, job) = stage.at_work().await;
    // The connection stands, and nobody reads: heartbeats fill its buffers until it takes no more.
    job.held().await;
    assert!(!stage.worker.is_finished());
    drop(peer);
    let (_peer, alive) = stage.session().await;
    assert_eq!(alive, [1], "a coordinator that comes back is told of the attempt, and it goes on");
    job.gate.passed().await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_stops_the_work() {
    let mut stage = stage(1);
    let (mut peer, _) = stage.session().await;
    peer.assign(1).await;
    peer.assign(2).await;
    let job = stage.job().await;
    peer.until_alive(&[1, 2]).await;
    peer.revoke(1).await;
    job.aborted().await;
    let next = stage.job().await;
    assert_eq!(next.task, 2, "the next one has the slot");
    next.piece(0).await;
    assert_eq!(peer.piece().await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn failures_and_panics_are_told_and_the_worker_goes_on() {
    let mut stage = stage(1);
    let (mut peer, job) = stage.at_work().await;
    job.piece(0).await;
    job.end(Err(Failure::permanent(Kind::NonFinite, "tensor x: NaN")));
    assert_eq!(peer.piece().await, (1, 0), "its pieces come first");
    assert_eq!(peer.failed().await, (1, v1::ErrorKind::Permanent, "tensor x: NaN".into()));

    let mut bad = assign(2);
    bad.lease_ms = 0;
    peer.send(to_worker::Message::Assign(bad)).await;
    let (task, kind, message) = peer.failed().await;
    assert_eq!((task, kind), (2, v1::ErrorKind::Permanent));
    assert!(message.contains("lease"), "{message}");

    peer.assign(3).await;
    assert_eq!(stage.job().await.task, 3);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_finishes_what_runs_and_hands_back_the_rest() {
    let mut stage = stage(1);
    let (mut peer, _) = stage.session().await;
    peer.assign(1).await;
    peer.assign(2).await;
    let job = stage.job().await;
    peer.until_alive(&[1, 2]).await;
    stage.leave();
    assert!(matches!(peer.said().await, from_worker::Message::Draining(_)));
    let (task, kind, _) = peer.failed().await;
    assert_eq!((task, kind), (2, v1::ErrorKind::Stale));
    peer.assign(3).await;
    assert_eq!(peer.failed().await.0, 3, "nothing new is taken");
    job.piece(0).await;
    job.end(Ok(()));
    assert_eq!(peer.piece().await, (1, 0));
    peer.until_alive(&[1]).await;
    assert!(!stage.worker.is_finished(), "it waits for the acknowledgement");
    peer.ack(1, 0).await;
    assert!(peer.farewell().await, "the session ends in order");
    assert_eq!(stage.worker.await.unwrap().unwrap(), "told to leave");
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_what_runs_is_handed_back() {
    let mut stage = stage(1);
    let (mut peer, job) = stage.at_work().await;
    let asked = Instant::now();
    stage.leave();
    assert!(matches!(peer.said().await, from_worker::Message::Draining(_)));
    let (task, kind, _) = peer.failed().await;
    assert_eq!((task, kind, asked.elapsed() >= GRACE), (1, v1::ErrorKind::Stale, true));
    job.aborted().await;
    assert!(peer.farewell().await);
    stage.worker.await.unwrap().unwrap();
    assert!(asked.elapsed() <= GRACE + 2 * FAREWELL, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_nobody_is_there_waits_for_the_grace_and_no_longer() {
    let mut stage = stage(1);
    let (peer, job) = stage.at_work().await;
    stage.cut(peer, u32::MAX);
    job.piece(0).await;
    job.end(Ok(()));
    let asked = Instant::now();
    stage.leave();
    stage.worker.await.unwrap().unwrap();
    assert!((GRACE..=GRACE + 2 * FAREWELL).contains(&asked.elapsed()), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_loses_its_device_hands_everything_back_and_ends_with_what_happened() {
    let mut stage = stage(1);
    let (mut peer, job) = stage.at_work().await;
    peer.assign(2).await;
    job.piece(0).await;
    assert_eq!(peer.piece().await, (1, 0));
    peer.until_alive(&[1, 2]).await;
    let asked = Instant::now();
    stage.device.send_replace(Some(Failure::local("GPU 0 failed")));
    assert!(matches!(peer.said().await, from_worker::Message::Draining(_)));
    let (first, second) = (peer.failed().await, peer.failed().await);
    assert_eq!((first.0, first.1), (1, v1::ErrorKind::Stale));
    assert_eq!((second.0, second.1), (2, v1::ErrorKind::Stale));
    job.aborted().await;
    assert!(peer.farewell().await, "the session ends in order");
    assert_eq!(stage.worker.await.unwrap().unwrap_err().message(), "GPU 0 failed");
    assert!(asked.elapsed() <= 2 * FAREWELL, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_loses_its_device_while_nobody_is_there_ends_too() {
    let mut stage = stage(1);
    let (peer, _job) = stage.at_work().await;
    stage.cut(peer, u32::MAX);
    stage.device.send_replace(Some(Failure::local("GPU 0 failed")));
    assert_eq!(stage.worker.await.unwrap().unwrap_err().message(), "GPU 0 failed");
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_worker_with_its_reason() {
    let mut stage = stage(1);
    let (peer, _) = stage.session().await;
    peer.send(to_worker::Message::Stop(v1::Stop { reason: "the merge is finished".into() })).await;
    assert_eq!(stage.worker.await.unwrap().unwrap(), "the merge is finished");
}

#[tokio::test(start_paused = true)]
async fn another_protocol_version_is_refused_for_good_with_both() {
    let mut stage = stage(1);
    let peer = stage.sessions.recv().await.unwrap();
    peer.welcome_as(99).await;
    let error = stage.worker.await.unwrap().unwrap_err();
    assert_eq!(error.message(), format!("the coordinator speaks protocol 99, this worker {PROTOCOL_VERSION}"));

    let stage = stage_refusing(1, 1, Code::FailedPrecondition);
    let error = stage.worker.await.unwrap().unwrap_err();
    assert!(error.message().contains("protocol 1") && error.message().contains('7'), "{error}");
    assert_eq!(stage.network.tries.load(Ordering::Relaxed), 1, "it does not try again");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_not_ready_is_asked_again() {
    let mut stage = stage_refusing(1, 3, Code::Unavailable);
    let (_peer, _) = stage.session().await;
    assert_eq!(stage.network.tries.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn one_session_is_all_for_a_local_merge() {
    let (sessions_in, mut sessions) = mpsc::channel(4);
    let service = Coordinator { sessions: sessions_in, refuse: Arc::new((AtomicU32::new(0), Code::Ok)) };
    let network = Arc::new(Network::default());
    let way = Arc::clone(&network);
    let options = Options { worker_id: 77, name: "local".into(), memory: 1, slots: 1 };
    let (jobs, _jobs) = mpsc::unbounded_channel();
    let work = Scripted { jobs, device: watch::Sender::new(None) };
    let connect = move || Arc::clone(&way).connect(service.clone());
    let worker = tokio::spawn(drive(connect, Retry::Never, work, options, std::future::pending()));
    let peer = sessions.recv().await.unwrap();
    peer.welcome().await;
    network.cut();
    let error = worker.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_no_message_holds_is_a_failure_and_no_broken_session() {
    let mut stage = stage(1);
    let (mut peer, job) = stage.at_work().await;
    job.piece_with(0, Some(v1::piece_done::Result::Sums(vec![0; MAX_MESSAGE]))).await;
    let (task, kind, message) = peer.failed().await;
    assert_eq!((task, kind), (1, v1::ErrorKind::Permanent));
    assert!(message.contains("piece 0"), "{message}");
    job.aborted().await;
    peer.assign(2).await;
    assert_eq!(stage.job().await.task, 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_costs_the_session_and_not_the_worker() {
    let mut stage = stage(1);
    let (peer, job) = stage.at_work().await;
    let mut huge = assign(2);
    huge.attempt.as_mut().unwrap().merge = "m".repeat(MAX_MESSAGE + 1);
    peer.send(to_worker::Message::Assign(huge)).await;
    let (_peer, alive) = stage.session().await;
    assert_eq!(alive, [1]);
    assert!(job.gate.is_open());
}
