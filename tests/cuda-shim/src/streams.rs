//! Streams, events, and the error that stays.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Instant;

use crate::settings::DEVICES;
use crate::{ILLEGAL_ADDRESS, NEVER, OK, Status, settings};

/// The error that each device's context died of.
static STICKY: [AtomicI32; DEVICES] = [const { AtomicI32::new(OK) }; DEVICES];

pub(crate) fn sticky(device: usize) -> Status {
    STICKY[device].load(Ordering::SeqCst)
}

pub(crate) type Work = Box<dyn FnOnce() -> Status + Send>;

enum Message {
    Work(Work),
    Flush(mpsc::Sender<()>),
}

/// A thread that does what is queued, in order.
pub(crate) struct Stream {
    queue: Mutex<mpsc::Sender<Message>>,
    pub(crate) device: usize,
}

impl Stream {
    pub(crate) fn new(device: usize) -> Stream {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let (queue, messages) = mpsc::channel();
        std::thread::spawn(move || {
            for (n, message) in messages.into_iter().enumerate() {
                match message {
                    Message::Work(work) => {
                        settings::delay(number, n as u64);
                        let status = work();
                        if status == ILLEGAL_ADDRESS {
                            STICKY[device].store(status, Ordering::SeqCst);
                        }
                        if status == NEVER {
                            loop {
                                std::thread::park();
                            }
                        }
                    }
                    Message::Flush(done) => {
                        let _ = done.send(());
                    }
                }
            }
        });
        Stream { queue: Mutex::new(queue), device }
    }

    fn send(&self, message: Message) {
        let _ = self.queue.lock().unwrap_or_else(PoisonError::into_inner).send(message);
    }

    /// Queues work that is dropped if the context is dead by then.
    pub(crate) fn push(&self, work: Work) -> Status {
        let device = self.device;
        self.send(Message::Work(Box::new(move || if sticky(device) == OK { work() } else { OK })));
        OK
    }

    /// Queues work that is done even then: nobody may wait for an event for ever.
    pub(crate) fn push_always(&self, work: Work) -> Status {
        self.send(Message::Work(work));
        OK
    }

    pub(crate) fn flush(&self) -> Status {
        let (done, wait) = mpsc::channel();
        self.send(Message::Flush(done));
        let _ = wait.recv();
        sticky(self.device)
    }
}

/// An event: how often it was recorded, and how many of these records a stream has passed.
#[derive(Default)]
pub(crate) struct Event {
    counts: Mutex<(u64, u64)>,
    passed: Condvar,
    /// When it was passed last.
    at: Mutex<Option<Instant>>,
}

impl Event {
    pub(crate) fn record(self: &Arc<Self>, stream: &Stream) -> Status {
        let record = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.0 += 1;
            counts.0
        };
        let event = Arc::clone(self);
        stream.push_always(Box::new(move || {
            *event.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            let mut counts = event.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.1 = counts.1.max(record);
            event.passed.notify_all();
            OK
        }))
    }

    /// The latest record.
    pub(crate) fn latest(&self) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn wait(&self, record: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        while counts.1 < record {
            counts = self.passed.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Milliseconds from this event to another, if both were passed.
    pub(crate) fn until(&self, other: &Event) -> Option<f32> {
        let at = |event: &Event| *event.at.lock().unwrap_or_else(PoisonError::into_inner);
        Some(at(other)?.saturating_duration_since(at(self)?).as_secs_f32() * 1e3)
    }

    pub(crate) fn is_passed(&self) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.1 >= counts.0
    }
}
