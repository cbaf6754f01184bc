//! Streams, events, and the error that stays.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};

use crate::{ILLEGAL_ADDRESS, OK, Status, settings};

/// The error that the context died of.
static STICKY: AtomicI32 = AtomicI32::new(OK);

pub(crate) fn sticky() -> Status {
    STICKY.load(Ordering::SeqCst)
}

pub(crate) type Work = Box<dyn FnOnce() -> Status + Send>;

enum Message {
    Work(Work),
    Flush(mpsc::Sender<()>),
}

/// A thread that does what is queued, in order.
pub(crate) struct Stream {
    queue: Mutex<mpsc::Sender<Message>>,
}

impl Stream {
    pub(crate) fn new() -> Stream {
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
                            STICKY.store(status, Ordering::SeqCst);
                        }
                    }
                    Message::Flush(done) => {
                        let _ = done.send(());
                    }
                }
            }
        });
        Stream { queue: Mutex::new(queue) }
    }

    fn send(&self, message: Message) {
        let _ = self.queue.lock().unwrap_or_else(PoisonError::into_inner).send(message);
    }

    /// Queues work that is dropped if the context is dead by then.
    pub(crate) fn push(&self, work: Work) -> Status {
        self.send(Message::Work(Box::new(move || if sticky() == OK { work() } else { OK })));
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
        sticky()
    }
}

/// An event: how often it was recorded, and how many of these records a stream has passed.
#[derive(Default)]
pub(crate) struct Event {
    counts: Mutex<(u64, u64)>,
    passed: Condvar,
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

    pub(crate) fn is_passed(&self) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.1 >= counts.0
    }
}
