//! Bodies whose standstill is noticed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind, HttpRequestBody};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::broken::Broken;
use super::seen::{Outcome, Seen};

/// How far the sending of a request is.
#[derive(Debug)]
pub(super) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    moved: Instant,
    finished: bool,
}

impl Progress {
    pub(super) fn begin() -> Self {
        Self(Mutex::new(State { moved: Instant::now(), finished: false }))
    }

    /// Some bytes were taken from the body.
    fn step(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).moved = Instant::now();
    }

    /// All of the body was.
    pub(super) fn finish(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State { moved: Instant::now(), finished: true };
    }

    /// Waits for an answer as long as the body moves, and `answer` longer once it is sent.
    pub(super) async fn watch<T>(
        &self,
        body: Duration,
        answer: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, Broken> {
        let mut call = std::pin::pin!(call);
        loop {
            let (deadline, waited, what) = {
                let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                match state.finished {
                    true => (state.moved + answer, answer, "no answer came"),
                    false => (state.moved + body, body, "nothing could be sent"),
                }
            };
            if deadline <= Instant::now() {
                return Err(Broken::for_now(format!("{what} for {} s", waited.as_secs_f64())));
            }
            tokio::select! {
                biased;
                result = &mut call => return Ok(result),
                () = sleep_until(deadline) => {}
            }
        }
    }
}

/// The body of a request.
pub(super) struct Sent {
    body: HttpRequestBody,
    progress: Arc<Progress>,
}

impl Sent {
    pub(super) fn new(body: HttpRequestBody, progress: Arc<Progress>) -> Self {
        Self { body, progress }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(_))) => match self.body.is_end_stream() {
                true => self.progress.finish(),
                false => self.progress.step(),
            },
            Poll::Ready(None) => self.progress.finish(),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer.
pub(super) struct Received {
    body: reqwest::Body,
    seen: Seen,
    timeout: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl Received {
    pub(super) fn new(body: reqwest::Body, seen: Seen, timeout: Duration) -> Self {
        Self { body, seen, timeout, alarm: Box::pin(sleep(timeout)) }
    }

    fn break_off(&self, broken: Broken) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.seen.set(Outcome::Broken(broken.clone()));
        Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Interrupted, broken))))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let next = Instant::now() + self.timeout;
                self.alarm.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.break_off(Broken::of(error)),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.alarm.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    let message = format!("nothing was received for {} s", self.timeout.as_secs_f64());
                    self.break_off(Broken::for_now(message))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
