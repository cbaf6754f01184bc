//! What goes wrong in a run, and when.
//!
//! A fault begins with the n-th call to the store, so that it can hit any step of a merge, and lasts for a time of its
//! own. Two faults of the network never meet on one line, and who has crashed cannot crash again.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;
use turmoil::Sim;

use crate::bucket::{Nap, Weather};
use crate::fleet::{CLIENT, COORDINATORS, Fleet};
use crate::rng::Rng;

/// Calls to the store in a run without faults, about.
const CALLS: u64 = 600;
/// Faults of a run at the most.
const MOST: u64 = 6;
/// How long a fault lasts, in milliseconds: a moment, or beyond a lease and the answer to a ping.
const SHORT: (u64, u64) = (50, 8_000);
const LONG: (u64, u64) = (20_000, 90_000);
/// For how long a coordinator is stopped in publication, and how long it has to go on afterwards.
const NAP: Duration = Duration::from_secs(200);
const AWAKE: Duration = Duration::from_secs(30);
/// Runs in a thousand in which that is sure to be tried.
const NAPS: u64 = 400;
/// Writes of a publication that a reader sees, about.
const WRITES: u64 = 14;

/// A merge ends this soon after the last fault: a lease, the silence until a line counts as broken, the longest rest of a
/// task and the longest waits of a worker and of a store's retries together.
const TIMEOUT: Duration = Duration::from_secs(300);
/// So much later if a worker hangs: ten leases, until its tasks go to others, and a lease until that shows.
const STILL: Duration = Duration::from_secs(330);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A process ends, and is begun again. If quiet, its peers are not told by its system.
    CrashWorker {
        quiet: bool,
    },
    CrashCoordinator {
        quiet: bool,
    },
    CrashEverything,
    /// Messages between a worker and the coordinator are lost; in one direction only, or in both.
    Partition {
        way: Way,
    },
    /// Messages between a worker and the coordinator wait, and then arrive all at once.
    Stall,
    /// Messages between a worker and the coordinator take their time.
    SlowLine,
    /// A worker's parts arrive late.
    SlowParts,
    /// Many calls of a worker and the coordinator to the store fail.
    StoreErrors,
    /// All calls of a worker to the store fail, so that it gives up what it does.
    Outage,
    /// The store answers a worker no more until the merge is done, and the worker's heartbeats go on. Others must end it.
    Hang,
    /// A worker is told to leave.
    Drain,
    /// The coordinator is told to stop, and begun again.
    Stop,
    /// Another coordinator begins; the first one, which knows nothing of that, ends later and for good.
    Rival,
    /// The coordinator is stopped in publication, before one of its writes arrives, until another one has done it all.
    /// It goes on as if nothing had happened, and ends later and for good.
    Nap {
        after: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Both,
    ToWorker,
    ToCoordinator,
}

#[derive(Debug, Clone)]
struct Fault {
    what: What,
    worker: String,
    from_call: u64,
    lasts: Duration,
}

/// A fault that is there, with what it has hit.
struct Present {
    fault: Fault,
    coordinator: &'static str,
    until: Duration,
}

/// Whoever makes things go wrong.
pub struct Adversary {
    fleet: Arc<Fleet>,
    /// The next one last.
    planned: Vec<Fault>,
    present: Vec<Present>,
    gone: Vec<&'static str>,
    /// When the last fault was over.
    pub quiet_since: Duration,
}

impl Adversary {
    pub fn new(fleet: Arc<Fleet>, mut rng: Rng) -> Adversary {
        let hosts = fleet.hosts();
        let mut planned: Vec<Fault> = (0..=rng.below(MOST)).map(|_| plan(&mut rng, &hosts)).collect();
        if rng.chance(NAPS) {
            // From the start, so that nothing else is in its way.
            let what = What::Nap { after: rng.below(WRITES) };
            planned.push(Fault { what, worker: rng.pick(&hosts).clone(), from_call: 0, lasts: NAP });
        }
        planned.sort_by_key(|fault| std::cmp::Reverse(fault.from_call));
        Adversary { fleet, planned, present: Vec::new(), gone: Vec::new(), quiet_since: Duration::ZERO }
    }

    /// What is planned, in words.
    pub fn plan(&self) -> String {
        let shown = |f: &Fault| format!("{:?} on {} from call {} for {:?}", f.what, f.worker, f.from_call, f.lasts);
        self.planned.iter().rev().map(shown).collect::<Vec<_>>().join("; ")
    }

    /// Whether something is wrong that the merge may wait for. It may not wait for a worker that hangs.
    pub fn is_at_work(&self) -> bool {
        self.present.iter().any(|p| p.fault.what != What::Hang)
    }

    /// How long a merge may take once nothing is wrong that it may wait for.
    pub fn timeout(&self) -> Duration {
        if self.somebody_hangs() { TIMEOUT + STILL } else { TIMEOUT }
    }

    fn somebody_hangs(&self) -> bool {
        self.present.iter().any(|p| p.fault.what == What::Hang)
    }

    /// Begins and ends faults. Once the merge is done no further ones begin.
    pub fn act(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        self.follow_nap(now);
        let done = self.fleet.is_done();
        let is_over = |p: &Present| if p.fault.what == What::Hang { done } else { p.until <= now };
        let over: Vec<usize> = (0..self.present.len()).rev().filter(|i| is_over(&self.present[*i])).collect();
        for i in over {
            let present = self.present.remove(i);
            debug!(target: "simulation", what = ?present.fault.what, "a fault is over");
            self.end(sim, &present);
            self.quiet_since = now;
        }
        while !self.fleet.is_done()
            && let Some(fault) = self.planned.pop_if(|fault| fault.from_call <= self.fleet.bucket.calls())
        {
            self.begin(sim, fault, now);
        }
    }

    /// Moves the service once a coordinator was stopped, and forgets the plan to stop one once the merge is done.
    fn follow_nap(&mut self, now: Duration) {
        let Some(i) = self.present.iter().position(|p| matches!(p.fault.what, What::Nap { .. })) else { return };
        if self.fleet.bucket.has_napped() {
            debug!(target: "simulation", "the coordinator is stopped");
            self.fleet.move_service();
            self.fleet.laws.facts().rivals += 1;
            self.fleet.laws.facts().naps += 1;
            self.present[i].until = now + NAP + AWAKE;
            self.gone.push(self.present[i].coordinator);
        } else if self.gone.is_empty() && self.fleet.is_done() {
            self.present[i].until = now;
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, fault: Fault, now: Duration) {
        let coordinator = self.fleet.coordinator();
        let (worker, usual) = (fault.worker.as_str(), self.fleet.bucket.usual());
        let network = |what| matches!(what, What::Partition { .. } | What::Stall | What::SlowLine) || crashes(what);
        let meets = |p: &Present| {
            network(p.fault.what) && (p.fault.worker == worker || crashes_coordinator(p.fault.what))
                || matches!(p.fault.what, What::Rival | What::Nap { .. })
        };
        let possible = match fault.what {
            What::Rival | What::Nap { .. } => {
                self.gone.is_empty() && coordinator == COORDINATORS[0] && !self.is_at_work()
            }
            what if crashes_coordinator(what) || what == What::Stop => !self.is_at_work(),
            // One of several may hang, so that there is somebody else.
            What::Hang => self.fleet.hosts().len() > 1 && !self.somebody_hangs(),
            what if network(what) => !self.present.iter().any(meets),
            _ => true,
        };
        debug!(target: "simulation", what = ?fault.what, worker, possible, lasts = ?fault.lasts, "a fault begins");
        if !possible {
            return;
        }
        match fault.what {
            What::CrashWorker { quiet } => self.crash_worker(sim, worker, quiet),
            What::CrashCoordinator { quiet } => self.crash_coordinator(sim, coordinator, quiet),
            What::CrashEverything => {
                self.crash_coordinator(sim, coordinator, false);
                self.fleet.hosts().iter().for_each(|host| self.crash_worker(sim, host, false));
            }
            What::Partition { way } => {
                match way {
                    Way::Both => sim.partition(worker, coordinator),
                    Way::ToWorker => sim.partition_oneway(coordinator, worker),
                    Way::ToCoordinator => sim.partition_oneway(worker, coordinator),
                }
                self.fleet.worker_on(worker).iter().for_each(|id| self.fleet.laws.cut_off(*id));
            }
            What::Stall => {
                sim.hold(worker, coordinator);
                self.fleet.laws.facts().stalls += 1;
            }
            What::SlowLine => {
                sim.set_link_latency(worker, coordinator, Duration::from_millis(400));
                self.fleet.laws.facts().slow_lines += 1;
            }
            What::SlowParts => self.fleet.bucket.set(worker, Some(Weather { slow_parts: (5_000, 60_000), ..usual })),
            What::StoreErrors => {
                for host in [worker, coordinator] {
                    self.fleet.bucket.set(host, Some(Weather { errors: 250, ..usual }));
                }
            }
            What::Outage => self.fleet.bucket.set(worker, Some(Weather { errors: 1000, ..usual })),
            What::Hang => {
                self.fleet.bucket.set(worker, Some(Weather { hangs: true, ..usual }));
                self.fleet.laws.facts().hangs +=
                    u64::from(self.fleet.worker_on(worker).is_some_and(|id| self.fleet.laws.is_busy(id)));
                self.quiet_since = now;
            }
            What::Drain => {
                self.fleet.tell_to_leave(worker);
                self.fleet.laws.facts().drains += 1;
            }
            What::Stop => {
                self.fleet.tell_to_stop();
                self.fleet.laws.facts().stops += 1;
            }
            What::Rival => {
                self.fleet.move_service();
                self.fleet.laws.facts().rivals += 1;
            }
            What::Nap { after } => {
                self.fleet.bucket.plan_nap(Some(Nap { host: coordinator.to_owned(), after, lasts: NAP }));
            }
        }
        let until = match fault.what {
            // Until it was stopped, or the merge is done.
            What::Nap { .. } => Duration::MAX,
            _ => now + fault.lasts,
        };
        self.present.push(Present { fault, coordinator, until });
    }

    fn end(&mut self, sim: &mut Sim<'_>, present: &Present) {
        let Present { fault, coordinator, .. } = present;
        let worker = fault.worker.as_str();
        match fault.what {
            What::CrashWorker { .. } => self.restart(sim, worker),
            What::CrashCoordinator { .. } => self.restart(sim, coordinator),
            What::CrashEverything => {
                self.restart(sim, coordinator);
                self.fleet.hosts().iter().for_each(|host| self.restart(sim, host));
            }
            What::Partition { way } => match way {
                Way::Both => sim.repair(worker, *coordinator),
                Way::ToWorker => sim.repair_oneway(*coordinator, worker),
                Way::ToCoordinator => sim.repair_oneway(worker, *coordinator),
            },
            What::Stall => sim.release(worker, *coordinator),
            What::SlowLine => sim.set_link_latency(worker, *coordinator, Duration::from_millis(10)),
            What::SlowParts | What::Outage | What::Hang => self.fleet.bucket.set(worker, None),
            What::StoreErrors => [worker, coordinator].iter().for_each(|host| self.fleet.bucket.set(host, None)),
            What::Drain | What::Stop => {}
            What::Rival => {
                self.crash_coordinator(sim, coordinator, false);
                self.gone.push(coordinator);
            }
            What::Nap { .. } => {
                self.fleet.bucket.plan_nap(None);
                if self.gone.contains(coordinator) {
                    self.crash_coordinator(sim, coordinator, false);
                }
            }
        }
    }

    fn crash_worker(&self, sim: &mut Sim<'_>, host: &str, quiet: bool) {
        let busy = self.fleet.worker_on(host).is_some_and(|id| self.fleet.laws.is_busy(id));
        self.fleet.laws.facts().worker_crashes += u64::from(busy);
        self.crash(sim, host, quiet);
    }

    fn crash_coordinator(&self, sim: &mut Sim<'_>, host: &str, quiet: bool) {
        self.fleet.laws.facts().coordinator_crashes += 1;
        self.crash(sim, host, quiet);
    }

    fn crash(&self, sim: &mut Sim<'_>, host: &str, quiet: bool) {
        let others: Vec<String> =
            self.fleet.hosts().into_iter().chain(COORDINATORS.map(String::from)).chain([CLIENT.to_owned()]).collect();
        let others = others.iter().filter(|other| *other != host);
        if quiet {
            others.clone().for_each(|other| sim.partition(host, other.as_str()));
        }
        sim.crash(host);
        if quiet {
            // What its system would have said is lost, and the line is as it was when the host comes back.
            others.for_each(|other| sim.repair(host, other.as_str()));
        }
    }

    fn restart(&self, sim: &mut Sim<'_>, host: &str) {
        sim.bounce(host);
    }
}

fn plan(rng: &mut Rng, hosts: &[String]) -> Fault {
    let quiet = rng.chance(500);
    let after = rng.below(WRITES);
    let way = *rng.pick(&[Way::Both, Way::Both, Way::ToWorker, Way::ToCoordinator]);
    let kinds = [
        What::CrashWorker { quiet },
        What::CrashWorker { quiet },
        What::CrashCoordinator { quiet },
        What::CrashCoordinator { quiet },
        What::CrashEverything,
        What::Partition { way },
        What::Partition { way },
        What::Stall,
        What::SlowLine,
        What::SlowParts,
        What::SlowParts,
        What::StoreErrors,
        What::Outage,
        What::Outage,
        What::Hang,
        What::Hang,
        What::Drain,
        What::Stop,
        What::Rival,
        What::Nap { after },
    ];
    let what = *rng.pick(&kinds);
    let range = *rng.pick(&[SHORT, LONG]);
    Fault { what, worker: rng.pick(hosts).clone(), from_call: rng.below(CALLS), lasts: rng.millis(range) }
}

fn crashes(what: What) -> bool {
    matches!(what, What::CrashWorker { .. }) || crashes_coordinator(what)
}

fn crashes_coordinator(what: What) -> bool {
    matches!(what, What::CrashCoordinator { .. } | What::CrashEverything)
}
