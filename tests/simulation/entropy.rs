//! Randomness and time of the thread that simulates, both given by the seed.
//!
//! The standard library takes the keys of its hash maps from `getrandom` and every time from `clock_gettime`, and finds
//! both by name. Defined here, they are what this program gets: on the thread that simulates, a sequence of the seed and
//! simulated time; on every other thread, the system's. So the order of hash maps, what tokio's `select!` begins with,
//! tokens and timestamps are the same in every run of a seed, and the services need no switch for it.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use crate::rng::Rng;

/// When simulated time begins, since 1970.
const BEGINNING: Duration = Duration::from_secs(1_750_000_000);

thread_local! {
    static SEQUENCE: Cell<Option<Rng>> = const { Cell::new(None) };
    static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Gives the calling thread, which must be a new one, the randomness of a seed, and time that stands still.
pub fn simulate(seed: u64) {
    SEQUENCE.set(Some(Rng::new(seed)));
    set_time(Duration::ZERO);
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    assert_eq!(began.ok(), Some(BEGINNING), "the standard library does not take its time from here");
    let before = SEQUENCE.get();
    RandomState::new().hash_one(());
    assert_ne!(SEQUENCE.get(), before, "the standard library does not take its randomness from here");
}

/// Moves the calling thread's time.
pub fn set_time(elapsed: Duration) {
    NOW.set(Some(BEGINNING + elapsed));
}

/// What the C library calls `getrandom`.
///
/// # Safety
/// `to` must be valid for writing `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(to: *mut libc::c_void, length: usize, flags: libc::c_uint) -> libc::ssize_t {
    let Some(mut sequence) = SEQUENCE.get() else {
        // SAFETY: the system call of that name, with the caller's arguments.
        return unsafe { libc::syscall(libc::SYS_getrandom, to, length, flags) as libc::ssize_t };
    };
    for at in 0..length {
        // SAFETY: below the length that the caller promised.
        unsafe { to.cast::<u8>().add(at).write(sequence.next() as u8) };
    }
    SEQUENCE.set(Some(sequence));
    length as libc::ssize_t
}

/// What the C library calls `clock_gettime`.
///
/// # Safety
/// `to` must be valid for writing a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, to: *mut libc::timespec) -> libc::c_int {
    let Some(now) = NOW.get() else {
        // SAFETY: the system call of that name, with the caller's arguments.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) as libc::c_int };
    };
    let time = libc::timespec { tv_sec: now.as_secs() as libc::time_t, tv_nsec: now.subsec_nanos().into() };
    // SAFETY: the caller promised so.
    unsafe { to.write(time) };
    0
}
