//! A GPU in use: jobs go in, parts come out, right factors stay.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cudarc::driver::CudaStream;
use tokio::sync::futures::Notified;
use tokio::sync::{MutexGuard, mpsc, oneshot};

use super::card::Card;
use super::engine::{Order, State};
use super::job::{Done, Program, Wrong};
use super::memory::Buffer;
use super::right::{Key, Right, Rights};
use super::trouble::Trouble;
use crate::Failure;
use crate::device::Slice;

/// Time by stage. Each is on a thread or a stream of its own: together more than has passed where they overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// Tiles that went through.
    pub tiles: u64,
    /// The host's copies into page-locked memory.
    pub fill: Duration,
    /// Copies to the device.
    pub copy_in: Duration,
    /// The arithmetic.
    pub compute: Duration,
    /// Copies back.
    pub copy_out: Duration,
    /// The host's copies out of page-locked memory.
    pub empty: Duration,
}

/// What is given back at the end.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) rights: Rights,
    /// Factors come over a stream of their own; they are there before anybody knows of them.
    pub(super) uploads: Arc<CudaStream>,
    pub(super) card: Arc<Card>,
}

/// A GPU in use.
#[derive(Debug)]
pub struct Gpu {
    pub(super) class: String,
    pub(super) label: String,
    pub(super) uuid: String,
    pub(super) host_bytes: u64,
    pub(super) held: ManuallyDrop<Held>,
    pub(super) making_room: tokio::sync::Mutex<()>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) state: Arc<State>,
}

impl Gpu {
    /// The device class: `cuda:<sm>:<SM count>:<cuBLAS version>`.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// For people: the number and the name.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The number by which CUDA counts it.
    pub fn number(&self) -> u32 {
        self.state.number
    }

    /// The device's UUID as NVML writes it.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Page-locked host memory that it holds.
    pub fn host_bytes(&self) -> u64 {
        self.host_bytes
    }

    /// A right factor that is on the device.
    pub fn right(&self, key: &Key) -> Option<Arc<Right>> {
        self.held.rights.get(key)
    }

    /// Keeps a right factor that was uploaded.
    pub fn keep(&self, key: Key, buffer: Buffer, transposed: bool, zero: bool) -> Arc<Right> {
        let right = Arc::new(Right::new(buffer, transposed, zero));
        self.held.rights.put(key, &right);
        right
    }

    /// Whoever brings factors to the device holds this, from the first allocation until its job is handed over: two parts
    /// can then never wait for each other's factors.
    pub async fn bring(&self) -> MutexGuard<'_, ()> {
        self.making_room.lock().await
    }

    /// Memory for a factor of so many bytes, out of the budget that the device's free memory gave. Where there is none, idle
    /// factors go first. `None` if a running job must be waited for ([`Self::ended`]). May wait for the device.
    pub fn room(&self, bytes: u64) -> Result<Option<Buffer>, Failure> {
        loop {
            let waits = self.state.running.load(Ordering::Acquire) > 0;
            if self.held.rights.has_room(bytes) {
                match self.allocate(bytes) {
                    Ok(buffer) => return Ok(Some(buffer)),
                    Err(Trouble::Full) => {}
                    Err(lost) => return Err(self.state.lose(&lost)),
                }
            }
            if self.held.rights.evict() {
                continue;
            }
            if waits {
                return Ok(None);
            }
            // All of it is for this part: the budget gives way, the device does not.
            return match self.allocate(bytes) {
                Ok(buffer) => Ok(Some(buffer)),
                Err(Trouble::Full) => {
                    let free = self.held.card.context().mem_get_info().map_or(0, |(free, _)| free);
                    Err(Failure::local(format!(
                        "{} has {free} bytes of memory free, a factor needs {bytes}",
                        self.label
                    ))
                    .hint("another program uses the device, or it is too small for these ranks: --device cpu"))
                }
                Err(lost) => Err(self.state.lose(&lost)),
            };
        }
    }

    /// Resolves when a job ends from now on, also before it is first polled.
    pub fn ended(&self) -> Notified<'_> {
        self.state.ended.notified()
    }

    pub(super) fn allocate(&self, bytes: u64) -> Result<Buffer, Trouble> {
        Ok(Buffer::new(&self.held.card, usize::try_from(bytes).map_err(|_| Trouble::Full)?)?)
    }

    /// Copies values into a factor's memory, from the `offset`th value on. It is there when this returns, which takes as
    /// long as the copy.
    pub fn put(&self, buffer: &Buffer, offset: u64, values: &[f32]) -> Result<(), Failure> {
        self.upload(buffer, offset, values).map_err(|trouble| match trouble {
            Trouble::Full => Failure::local(format!("{} has no memory left", self.label)),
            lost => self.state.lose(&lost),
        })
    }

    pub(super) fn upload(&self, buffer: &Buffer, offset: u64, values: &[f32]) -> Result<(), Trouble> {
        Ok(buffer.load_now(offset as usize * 4, values, &self.held.uploads)?)
    }

    /// Hands a job over. What comes back is for [`Self::answer`].
    pub fn submit(&self, raw: Bytes, program: Program, slice: Slice) -> oneshot::Receiver<Done> {
        let (reply, answer) = oneshot::channel();
        self.state.running.fetch_add(1, Ordering::AcqRel);
        if self.orders.send(Order { raw, program, slice, reply }).is_err() {
            self.state.running.fetch_sub(1, Ordering::AcqRel);
        }
        answer
    }

    /// Waits until all of a job is done, or the device is lost.
    pub async fn answer(&self, answer: oneshot::Receiver<Done>) -> Done {
        tokio::select! {
            biased;
            done = answer => {
                done.unwrap_or_else(|_| Err(Wrong::Failed(Failure::local(format!("{} does not answer", self.label)))))
            }
            failure = self.lost() => Err(Wrong::Failed(failure)),
        }
    }

    /// What the stages of all tiles so far took.
    pub fn stages(&self) -> Stages {
        let stages = &self.state.stages;
        let time = |sum: &AtomicU64| Duration::from_nanos(sum.load(Ordering::Relaxed));
        Stages {
            tiles: stages.tiles.load(Ordering::Relaxed),
            fill: time(&stages.fill),
            copy_in: time(&stages.load),
            compute: time(&stages.fuse),
            copy_out: time(&stages.store),
            empty: time(&stages.empty),
        }
    }

    /// Waits until the device fails for good; the failure says how.
    pub async fn lost(&self) -> Failure {
        let mut lost = self.state.lost.subscribe();
        let _ = lost.wait_for(Option::is_some).await;
        self.state.failure().unwrap_or_else(|| Failure::local(format!("{} is gone", self.label)))
    }
}

impl Drop for Gpu {
    /// Giving back waits for the device, and one that hangs may not be known to: a thread of its own does it, and whoever
    /// ends meanwhile does not wait.
    fn drop(&mut self) {
        // SAFETY: it is taken once, and not used after this.
        let held = unsafe { ManuallyDrop::take(&mut self.held) };
        if held.card.is_silent() {
            std::mem::forget(held);
        } else {
            // Where there is no thread to be had, it is given back here.
            let _ = std::thread::Builder::new().name("cuda-close".into()).spawn(move || drop(held));
        }
    }
}
