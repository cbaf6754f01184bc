//! Opening devices: probe, context, streams, memory, a self-test.

use std::mem::ManuallyDrop;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc as sync};
use std::time::Duration;

use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
use shardfuse_merge::DeviceClass;
use tokio::sync::{Notify, mpsc, watch};

use super::card::{self, Card};
use super::engine::{self, Stages, State};
use super::gpu::{Gpu, Held};
use super::right::Rights;
use super::ring::{Ring, SLOT_BYTES};
use super::trouble::Trouble;
use super::{library, probe, selftest};

/// The oldest architecture that the kernels are compiled for: Volta. Pascal has no independent threads and its support
/// ends with CUDA 12.
const OLDEST: (i32, i32) = (7, 0);
/// Kept free for the kernels that cuBLAS loads when it first needs them, and for the driver.
const HEADROOM: u64 = 512 << 20;

/// What devices may take of the host, and how long they may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The byte budget of the process. All devices together hold page-locked memory of half of it at the most.
    pub memory: u64,
    /// A device on which nothing ends for so long, although something should, is lost.
    pub patience: Duration,
}

/// Opens device `only`, or every usable one. The error says why there is none.
pub fn open(only: Option<u32>, limits: Limits) -> Result<Vec<Arc<Gpu>>, String> {
    // On a thread of its own: opening waits for the device, for ever if that hangs, and a panic of the bindings is caught.
    let (tell, told) = sync::channel();
    let opening = move || {
        let _ = tell.send(all(only, limits));
    };
    std::thread::Builder::new()
        .name("cuda-open".into())
        .spawn(opening)
        .map_err(|e| format!("cannot start a thread: {e}"))?;
    match told.recv_timeout(limits.patience) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => Err("the CUDA bindings panicked".to_owned()),
        Err(RecvTimeoutError::Timeout) => Err(format!("not opened within {:?}: a device hangs", limits.patience)),
    }
}

/// Page-locked memory of each of `count` devices, in bytes.
fn share(memory: u64, count: u32) -> Result<u64, String> {
    let (count, share) = (u64::from(count.max(1)), memory / 2 / u64::from(count.max(1)));
    if share < SLOT_BYTES {
        let least = (2 * SLOT_BYTES * count).div_ceil(1 << 20);
        return Err(format!(
            "{memory} bytes of memory leave {share} for page-locked memory of each of {count} devices, the least is \
             {SLOT_BYTES}: --memory {least}MiB is the smallest that will do"
        ));
    }
    Ok(share)
}

fn all(only: Option<u32>, limits: Limits) -> Result<Vec<Arc<Gpu>>, String> {
    let count = probe::devices()?;
    if let Some(number) = only {
        if number >= count {
            return Err(format!("there is no device {number}: the driver finds {count}, counted from 0"));
        }
        let gpu = one(number, share(limits.memory, 1)?, limits.patience);
        return gpu.map(|gpu| vec![Arc::new(gpu)]).map_err(|why| format!("device {number}: {why}"));
    }
    let host = share(limits.memory, count)?;
    let mut open: Vec<Arc<Gpu>> = Vec::new();
    let mut refused = Vec::new();
    for number in 0..count {
        match one(number, host, limits.patience) {
            Ok(gpu) => match open.first() {
                // One process takes part in merges as one class.
                Some(first) if first.class() != gpu.class() => {
                    refused.push(format!("device {number}: its class {} is not {}", gpu.class(), first.class()));
                }
                _ => open.push(Arc::new(gpu)),
            },
            Err(why) => refused.push(format!("device {number}: {why}")),
        }
    }
    if open.is_empty() {
        return Err(refused.join("; "));
    }
    for why in refused {
        tracing::warn!("left out: {why}");
    }
    Ok(open)
}

fn one(number: u32, host: u64, patience: Duration) -> Result<Gpu, String> {
    let told = |e: Trouble| e.to_string();
    let context = CudaContext::new(number as usize).map_err(|e| told(e.into()))?;
    let ask = |r: Result<i32, cudarc::driver::DriverError>| r.map_err(|e| told(e.into()));
    let (major, minor) = context.compute_capability().map_err(|e| told(e.into()))?;
    let name = context.name().map_err(|e| told(e.into()))?;
    if (major, minor) < OLDEST {
        return Err(format!(
            "{name} is of compute capability {major}.{minor}, {}.{} is the oldest that will do",
            OLDEST.0, OLDEST.1
        ));
    }
    let processors = ask(context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT))?;
    // SAFETY: no slice of cudarc's is used, so there is nothing to track; the ring says what waits for what.
    unsafe { context.disable_event_tracking() };
    let card = Arc::new(Card::new(context));
    let context = card.context();
    let ring = Ring::new(&card).map_err(told)?;
    let version = ring.blas_version().map_err(told)?;
    if !library::VERSIONS.contains(&(version / 10_000)) {
        return Err(format!("cuBLAS is of version {}, 12 and 13 will do", version / 10_000));
    }
    let slots = Ring::slots(&card, host).map_err(told)?;
    let (free, total) = context.mem_get_info().map_err(|e| told(e.into()))?;
    let limit = (free as u64).saturating_sub(HEADROOM) / 4 * 3;
    let label = format!("GPU {number} ({name})");
    let class =
        DeviceClass::cuda((major.unsigned_abs(), minor.unsigned_abs()), processors.unsigned_abs(), version).to_string();
    tracing::debug!(%label, %class, slots = slots.len(), free, total, "opened");
    let host_bytes = slots.len() as u64 * SLOT_BYTES;
    let uuid = uuid(context).map_err(told)?;
    let uploads = context.new_stream().map_err(|e| told(e.into()))?;
    let (orders, received) = mpsc::unbounded_channel();
    let state = Arc::new(State {
        label: label.clone(),
        number,
        lost: watch::Sender::new(None),
        running: AtomicUsize::new(0),
        ended: Notify::new(),
        stages: Stages::default(),
    });
    let silent = Arc::clone(&state);
    let why = format!("it hangs: for {patience:?} nothing ended on it that was begun");
    engine::start(Arc::clone(&card), ring, slots, received, Arc::clone(&state))
        .and_then(|()| card::watch(&card, patience, move || drop(silent.lose(&Trouble::Lost(why)))))
        .map_err(|e| format!("cannot start a thread: {e}"))?;
    let gpu = Gpu {
        class,
        label,
        uuid,
        host_bytes,
        held: ManuallyDrop::new(Held { rights: Rights::new(limit), uploads, card }),
        making_room: tokio::sync::Mutex::new(()),
        orders,
        state,
    };
    selftest::run(&gpu)?;
    Ok(gpu)
}

/// `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
fn uuid(context: &CudaContext) -> Result<String, Trouble> {
    let hex: Vec<String> = context.uuid()?.bytes.iter().map(|b| format!("{:02x}", *b as u8)).collect();
    let part = |range: std::ops::Range<usize>| hex[range].concat();
    Ok(format!("GPU-{}-{}-{}-{}-{}", part(0..4), part(4..6), part(6..8), part(8..10), part(10..16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_locked_memory_takes_half_of_the_budget_or_is_refused_with_the_least_that_works() {
        assert_eq!(share(1 << 30, 1), Ok(512 << 20));
        assert_eq!(share(1 << 30, 4), Ok(128 << 20));
        for count in 1..9 {
            let refusal = share(SLOT_BYTES, count).unwrap_err();
            let least: u64 = refusal.split("--memory ").nth(1).unwrap().split("MiB").next().unwrap().parse().unwrap();
            assert!(share(least << 20, count).unwrap() >= SLOT_BYTES, "{refusal}");
            assert!(share((least - 1) << 20, count).is_err(), "{refusal}");
        }
    }
}
