//! Random fleets in which one worker at the most computes wrong digests; workers come, go and are silent.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;

const LEASE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(60);

fn right(part: usize) -> Digest {
    [u8::try_from(part).expect("a few"); 32]
}

struct World {
    checks: Checks,
    now: Duration,
    faulty: Option<WorkerId>,
    parts: Vec<Part>,
    /// Parts whose journaled digest is wrong.
    wrong: BTreeSet<(TaskId, Piece)>,
    minds: BTreeMap<WorkerId, BTreeSet<(CheckId, Epoch)>>,
    reported: BTreeMap<CheckId, BTreeSet<WorkerId>>,
    odd: BTreeSet<WorkerId>,
    verdict: Option<Verdict>,
}

impl World {
    /// Parts made by the workers in turn. The faulty one's are wrong where `bits` says so.
    fn new(workers: u64, parts: usize, faulty: Option<u64>, bits: u64) -> World {
        let mut wrong = BTreeSet::new();
        let part = |number: usize| {
            let maker = WorkerId(number as u64 % workers);
            let (task, piece) = (TaskId(number as u32 / 3), Piece(number as u32 % 3));
            let is_wrong = Some(maker.0) == faulty && (bits >> number) & 1 == 1;
            if is_wrong {
                wrong.insert((task, piece));
            }
            Part { task, piece, maker: Some(maker), digest: if is_wrong { [250; 32] } else { right(number) } }
        };
        let parts = (0..parts).map(part).collect();
        World {
            checks: Checks::new(LEASE, TIMEOUT, Epoch(1)),
            now: Duration::ZERO,
            faulty: faulty.map(WorkerId),
            parts,
            wrong,
            minds: BTreeMap::new(),
            reported: BTreeMap::new(),
            odd: BTreeSet::new(),
            verdict: None,
        }
    }

    fn take(&mut self, actions: Vec<Action>) -> Result<(), TestCaseError> {
        for action in actions {
            prop_assert!(self.verdict.is_none(), "{:?} after the end", action);
            match action {
                Action::Assign { worker, check, epoch } => {
                    let part = self.checks.part(check).expect("it was chosen");
                    prop_assert!(part.maker != Some(worker), "worker {} checks its own part", worker);
                    prop_assert!(!self.odd.contains(&worker), "odd worker {} checks", worker);
                    let had = self.reported.get(&check).is_some_and(|had| had.contains(&worker));
                    prop_assert!(!had, "worker {} checks a part again", worker);
                    let twice = self.minds.values().any(|mind| mind.contains(&(check, epoch)));
                    prop_assert!(!twice, "one number for two attempts");
                    self.minds.entry(worker).or_default().insert((check, epoch));
                }
                Action::Revoke { worker, check, epoch } | Action::Ack { worker, check, epoch } => {
                    self.minds.entry(worker).or_default().remove(&(check, epoch));
                }
                Action::Odd { worker, .. } => {
                    prop_assert_eq!(Some(worker), self.faulty, "an honest worker is called odd");
                    self.odd.insert(worker);
                }
                Action::End(verdict) => self.verdict = Some(verdict),
            }
        }
        Ok(())
    }

    fn step(&mut self, event: Event) -> Result<(), TestCaseError> {
        let actions = self.checks.step(self.now, event);
        self.take(actions)
    }

    fn beat(&mut self, worker: WorkerId) -> Result<(), TestCaseError> {
        let running = self.minds.get(&worker).map(|mind| mind.iter().copied().collect()).unwrap_or_default();
        self.step(Event::Heartbeat { worker, running })
    }

    /// Reports the first that a worker has; the faulty one's digest is its own if it lies.
    fn report(&mut self, worker: WorkerId, lies: bool) -> Result<(), TestCaseError> {
        let Some((check, epoch)) = self.minds.get(&worker).and_then(|mind| mind.first().copied()) else {
            return Ok(());
        };
        let part = self.checks.part(check).expect("it was assigned");
        let number = self.parts.iter().position(|p| (p.task, p.piece) == (part.task, part.piece)).expect("one of them");
        let digest = if lies && Some(worker) == self.faulty { [251; 32] } else { right(number) };
        self.reported.entry(check).or_default().insert(worker);
        self.step(Event::Made { worker, check, epoch, digest })
    }

    /// What must hold at an end.
    fn judge(&self, fraction: f64, seed: u64) -> Result<(), TestCaseError> {
        let chosen = |at: &(TaskId, Piece)| is_chosen(seed, fraction, at.0, at.1);
        match self.verdict.as_ref() {
            Some(Verdict::Sound { checked }) => {
                prop_assert!(!self.wrong.iter().any(chosen), "a wrong part was chosen and nobody saw it");
                let count = self.parts.iter().filter(|p| chosen(&(p.task, p.piece))).count();
                prop_assert_eq!(*checked, count);
            }
            Some(Verdict::Lost { parts, odd }) => {
                prop_assert_eq!(odd, &self.odd);
                for at in &self.wrong {
                    // Chosen or not, once its maker is known to be odd.
                    prop_assert!(parts.contains(at), "{:?} is wrong and kept", at);
                }
                for part in &self.parts {
                    let lost = parts.contains(&(part.task, part.piece));
                    prop_assert!(!lost || part.maker == self.faulty, "an honest worker's part is lost");
                }
            }
            other => prop_assert!(false, "no decision: {:?}", other),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(Config::with_cases(1500))]

    /// With three honest workers or more that stay in the end, and one that is faulty at the most, every history ends: the
    /// parts are sound, or the wrong ones are lost and nobody honest is blamed.
    #[test]
    fn one_faulty_worker_is_found_and_nobody_else_is_blamed(
        (workers, parts, faulty) in (3..6_u64, 1..40_usize, 0..6_u64),
        (bits, seed) in any::<(u64, u64)>(),
        fraction in prop_oneof![Just(1.0), Just(0.5), Just(0.1)],
        moves in prop::collection::vec((0..9_u8, 0..6_u64), 0..120),
    ) {
        let faulty = Some(faulty).filter(|faulty| *faulty < workers);
        let mut world = World::new(workers, parts, faulty, bits);
        for worker in (0..workers).map(WorkerId) {
            world.step(Event::Joined { worker, slots: 2 })?;
        }
        let all = world.parts.clone();
        let actions = world.checks.begin(world.now, all, seed, fraction);
        world.take(actions)?;
        for (what, worker) in moves {
            if world.verdict.is_some() {
                break;
            }
            let worker = WorkerId(worker % workers);
            match what {
                0..=2 => world.report(worker, what == 0)?,
                3 => {
                    world.minds.remove(&worker);
                    world.step(Event::Left { worker })?;
                }
                4 => world.step(Event::Joined { worker, slots: 2 })?,
                // Everybody forgets what it runs.
                5 => world.minds.clear(),
                // Less than the timeout in all: with nobody there for longer, no decision is right.
                6 if world.now + Duration::from_secs(7) < TIMEOUT => world.now += Duration::from_secs(7),
                6 => {}
                7 => world.step(Event::Tick)?,
                _ => world.beat(worker)?,
            }
        }
        // From here on everybody is there and does what it is asked.
        for round in 0..2000_u32 {
            if world.verdict.is_some() {
                break;
            }
            world.now += Duration::from_secs(1);
            for worker in (0..workers).map(WorkerId) {
                world.step(Event::Joined { worker, slots: 2 })?;
                world.beat(worker)?;
                world.report(worker, round % 2 == 0)?;
            }
            world.step(Event::Tick)?;
        }
        world.judge(fraction, seed)?;
    }
}

fn begin(workers: &[u64], makers: &[u64]) -> Checks {
    let mut checks = Checks::new(LEASE, TIMEOUT, Epoch(1));
    for worker in workers {
        checks.step(Duration::ZERO, Event::Joined { worker: WorkerId(*worker), slots: 8 });
    }
    let part = |(number, maker): (usize, &u64)| Part {
        task: TaskId(0),
        piece: Piece(number as u32),
        maker: Some(WorkerId(*maker)),
        digest: [1; 32],
    };
    let parts = makers.iter().enumerate().map(part).collect();
    let actions = checks.begin(Duration::ZERO, parts, 7, 1.0);
    assert!(!actions.iter().any(|a| matches!(a, Action::End(_))), "{actions:?}");
    checks
}

fn made(checks: &mut Checks, worker: u64, epoch: u32, digest: u8) -> Vec<Action> {
    let (worker, epoch) = (WorkerId(worker), Epoch(epoch));
    checks.step(Duration::ZERO, Event::Made { worker, check: CheckId(0), epoch, digest: [digest; 32] })
}

/// Lets the time pass until a second, with heartbeats of those who are there.
fn wait(checks: &mut Checks, workers: &[u64], seconds: u64) -> Vec<Action> {
    let mut all = Vec::new();
    for second in 1..=seconds {
        let now = Duration::from_secs(second);
        for worker in workers {
            all.extend(checks.step(now, Event::Heartbeat { worker: WorkerId(*worker), running: Vec::new() }));
        }
        all.extend(checks.step(now, Event::Tick));
    }
    all
}

/// The workers that an undecided end names.
fn undecided(actions: &[Action]) -> Option<Vec<u64>> {
    actions.iter().find_map(|action| match action {
        Action::End(Verdict::Undecided { had, .. }) => Some(had.iter().filter_map(|(w, _)| w.map(|w| w.0)).collect()),
        _ => None,
    })
}

#[test]
fn a_worker_alone_verifies_nothing_and_the_merge_fails_after_a_while() {
    let mut checks = begin(&[1], &[1]);
    assert_eq!(undecided(&wait(&mut checks, &[1], 60)), None);
    let ended = wait(&mut checks, &[1], 61);
    assert_eq!(undecided(&ended), Some(vec![1]));
    let nobody = |action: &Action| {
        matches!(action, Action::End(Verdict::Undecided { why: Undecidable::NoOtherWorker { connected: 1, .. }, .. }))
    };
    assert!(ended.iter().any(nobody), "{ended:?}");
}

#[test]
fn two_workers_that_differ_are_both_named() {
    let mut checks = begin(&[1, 2], &[1]);
    assert_eq!(undecided(&made(&mut checks, 2, 1, 9)), None, "a third may come");
    assert_eq!(undecided(&wait(&mut checks, &[1, 2], 61)), Some(vec![1, 2]));
}

#[test]
fn three_that_all_differ_are_all_named_at_once() {
    let mut checks = begin(&[1, 2, 3], &[1]);
    made(&mut checks, 2, 1, 8);
    assert_eq!(undecided(&made(&mut checks, 3, 2, 9)), Some(vec![1, 2, 3]));
}

#[test]
fn a_share_is_near_what_was_asked_for_and_another_with_another_seed() {
    let chosen = |seed, fraction| -> Vec<u32> {
        (0..10_000).filter(|piece| is_chosen(seed, fraction, TaskId(3), Piece(*piece))).collect()
    };
    assert_eq!((chosen(1, 0.0).len(), chosen(1, 1.0).len()), (0, 10_000));
    let share = chosen(1, 0.1);
    assert!((900..1100).contains(&share.len()), "{}", share.len());
    assert_ne!(share, chosen(2, 0.1));
}
