use proptest::prelude::*;

use super::*;

fn worker(id: u64, slots: u32) -> WorkerSlots {
    WorkerSlots { id: WorkerId(id), class: DeviceClass::Cpu, slots, able: true }
}

fn merge(arrival: u64, priority: i32, demand: u32) -> MergeDemand {
    MergeDemand { arrival, class: DeviceClass::Cpu, priority, demand, barred: BTreeSet::new() }
}

fn of_merge(shares: &Shares, arrival: u64) -> u32 {
    shares.iter().filter(|((m, _), _)| *m == arrival).map(|(_, n)| n).sum()
}

#[test]
fn one_merge_gets_everything_also_what_it_cannot_use_yet() {
    let shares = share(&[worker(1, 4), worker(2, 2)], &[merge(1, 0, 1)], &Shares::new());
    assert_eq!(shares, Shares::from([((1, WorkerId(1)), 4), ((1, WorkerId(2)), 2)]));
}

#[test]
fn two_merges_share_evenly_and_by_whole_workers() {
    let workers = [worker(1, 4), worker(2, 4)];
    let alone = share(&workers, &[merge(1, 0, 100)], &Shares::new());
    let shares = share(&workers, &[merge(1, 0, 100), merge(2, 0, 100)], &alone);
    assert_eq!(shares, Shares::from([((1, WorkerId(1)), 4), ((2, WorkerId(2)), 4)]));
    assert_eq!(share(&workers, &[merge(1, 0, 100), merge(2, 0, 100)], &shares), shares);
}

#[test]
fn a_higher_priority_goes_first_and_what_it_cannot_use_goes_on() {
    let workers = [worker(1, 4), worker(2, 4)];
    let shares = share(&workers, &[merge(1, 0, 100), merge(2, 5, 3)], &Shares::new());
    assert_eq!((of_merge(&shares, 2), of_merge(&shares, 1)), (3, 5));
}

#[test]
fn a_merge_of_another_class_gets_nothing_and_takes_nothing() {
    let cuda = MergeDemand { class: CLASSES[1].parse().unwrap(), ..merge(1, 9, 100) };
    let shares = share(&[worker(1, 4)], &[cuda, merge(2, 0, 100)], &Shares::new());
    assert_eq!(shares, Shares::from([((2, WorkerId(1)), 4)]));
}

#[test]
fn a_worker_that_is_quarantined_for_one_merge_serves_the_other() {
    let barred = MergeDemand { barred: BTreeSet::from([WorkerId(1)]), ..merge(1, 0, 100) };
    let shares = share(&[worker(1, 4), worker(2, 4)], &[barred, merge(2, 0, 100)], &Shares::new());
    assert_eq!(shares, Shares::from([((1, WorkerId(2)), 4), ((2, WorkerId(1)), 4)]));
}

const CLASSES: [&str; 2] = ["cpu", "cuda:sm90:132:12.8"];

fn workers() -> impl Strategy<Value = Vec<WorkerSlots>> {
    prop::collection::vec((0..6u32, prop::bool::weighted(0.8), 0..4usize), 0..8).prop_map(|drawn| {
        let build = |(id, (slots, able, class)): (u64, (u32, bool, usize))| WorkerSlots {
            id: WorkerId(id),
            class: CLASSES[class / 3].parse().unwrap(),
            slots,
            able,
        };
        (0..).zip(drawn).map(build).collect()
    })
}

fn merges(barred: bool) -> impl Strategy<Value = Vec<MergeDemand>> {
    prop::collection::vec((-1..2i32, 0..12u32, 0..4usize, any::<u8>()), 0..6).prop_map(move |drawn| {
        let build = |(arrival, (priority, demand, class, bits)): (u64, (i32, u32, usize, u8))| {
            let set = (0..8).filter(|b| barred && bits & 0b1001 == 1 && (bits >> b) & 1 == 1).map(WorkerId).collect();
            MergeDemand { arrival, class: CLASSES[class / 3].parse().unwrap(), priority, demand, barred: set }
        };
        (0..).zip(drawn).map(build).collect()
    })
}

fn shared(shares: &Shares, worker: WorkerId) -> u32 {
    shares.iter().filter(|((_, w), _)| *w == worker).map(|(_, n)| n).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the shares were before, and for whatever fleet.
    #[test]
    fn no_slot_is_shared_twice_nor_with_a_merge_of_another_class(
        before in (workers(), merges(true)),
        (workers, merges) in (workers(), merges(true)),
    ) {
        let before = share(&before.0, &before.1, &Shares::new());
        let shares = share(&workers, &merges, &before);
        for worker in &workers {
            let most = if worker.able { worker.slots } else { 0 };
            prop_assert!(shared(&shares, worker.id) <= most);
        }
        for ((m, w), n) in &shares {
            let (merge, worker) = (&merges[*m as usize], &workers[w.0 as usize]);
            prop_assert!(*n > 0 && merge.class == worker.class && !merge.barred.contains(w));
        }
    }

    /// No slot is idle that a merge with unmet demand could use.
    #[test]
    fn nothing_is_idle_while_demand_is_there(
        before in (workers(), merges(true)),
        (workers, merges) in (workers(), merges(true)),
    ) {
        let before = share(&before.0, &before.1, &Shares::new());
        let shares = share(&workers, &merges, &before);
        for worker in workers.iter().filter(|w| w.able && shared(&shares, w.id) < w.slots) {
            for merge in merges.iter().filter(|m| m.class == worker.class && !m.barred.contains(&worker.id)) {
                prop_assert!(of_merge(&shares, merge.arrival) >= merge.demand, "{:?} is free for {:?}", worker, merge);
            }
        }
    }

    /// Nobody of a lower priority gets anything while a higher one goes short, and within a priority nobody who goes short
    /// has two slots less than another.
    #[test]
    fn priorities_come_first_and_equal_ones_share_to_one_slot(
        before in (workers(), merges(false)),
        (workers, merges) in (workers(), merges(false)),
    ) {
        let before = share(&before.0, &before.1, &Shares::new());
        let shares = share(&workers, &merges, &before);
        for short in merges.iter().filter(|m| of_merge(&shares, m.arrival) < m.demand) {
            for other in merges.iter().filter(|m| m.class == short.class) {
                let (mine, theirs) = (of_merge(&shares, short.arrival), of_merge(&shares, other.arrival));
                if other.priority < short.priority {
                    prop_assert_eq!(theirs, 0);
                } else if other.priority == short.priority {
                    prop_assert!(theirs <= mine + 1, "{} against {}", theirs, mine);
                }
            }
        }
    }

    /// Sharing again with nothing changed changes nothing.
    #[test]
    fn shares_stay_where_they_are(workers in workers(), merges in merges(false), before in (workers(), merges(false))) {
        let before = share(&before.0, &before.1, &Shares::new());
        let shares = share(&workers, &merges, &before);
        prop_assert_eq!(share(&workers, &merges, &shares), shares);
    }

    /// With as much demand as there are slots, at most one worker a merge but the last is split.
    #[test]
    fn workers_stay_whole_where_they_can(slots in 1..5u32, count in 1..6u64, several in 1..4u64) {
        let workers: Vec<WorkerSlots> = (0..count).map(|id| worker(id, slots)).collect();
        let merges: Vec<MergeDemand> = (0..several).map(|arrival| merge(arrival, 0, 1000)).collect();
        let shares = share(&workers, &merges, &Shares::new());
        let split = workers.iter().filter(|w| shares.keys().filter(|(_, id)| *id == w.id).count() > 1).count();
        prop_assert!(split < merges.len(), "{} are split among {}: {:?}", split, merges.len(), shares);
    }
}
