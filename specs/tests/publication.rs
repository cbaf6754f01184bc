//! The protocol holds, and the model finds what is wrong with the two that the product does not use.

use shardfuse_specs::model::{HONEST, Moment, Publication, STAYS, WHOLE};
use shardfuse_specs::protocol::{Fence, Removal};
use shardfuse_specs::world::Plan::{self, P, Q};
use stateright::{Checker, HasDiscoveries, Model, Path};

type Trace = Path<Moment, <Publication as Model>::Action>;

fn publication(fence: Fence, plans: &[Plan]) -> Publication {
    Publication { fence, plans: plans.to_vec(), kills: 0, rerun: false, removal: Removal::ByVersion }
}

/// Explores everything; returns the number of moments.
fn holds(model: Publication) -> usize {
    let what = format!("{model:?}");
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("{what}: {} moments", checker.unique_state_count());
    checker.unique_state_count()
}

/// The shortest run in which a property is broken.
fn broken(model: Publication, property: &'static str) -> Trace {
    let what = format!("{model:?}");
    let only = HasDiscoveries::AnyOf([property].into_iter().collect());
    let checker = model.checker().finish_when(only).spawn_bfs().join();
    let trace = checker.discovery(property).unwrap_or_else(|| panic!("{what} keeps the law: {property}"));
    let steps: Vec<String> = trace.clone().into_actions().iter().map(|action| format!("  {action:?}")).collect();
    println!("{what} breaks the law: {property}\n{}", steps.join("\n"));
    trace
}

/// The same plan, so that publications of equal bytes meet, and an older model below them.
#[test]
fn two_of_one_plan_keep_out_of_each_others_way() {
    assert!(holds(publication(Fence::Announced, &[P, P])) > 1000);
}

#[test]
fn two_of_different_plans_keep_out_of_each_others_way() {
    assert!(holds(publication(Fence::Announced, &[P, Q])) > 1000);
}

#[test]
fn after_a_kill_at_any_step_the_run_that_is_repeated_publishes() {
    for plans in [[P, P], [P, Q], [Q, P]] {
        holds(Publication { kills: 1, rerun: true, ..publication(Fence::Announced, &plans) });
    }
}

/// The planted bug: one that is stopped before its delete takes what the other has published.
#[test]
fn deletes_and_puts_without_a_condition_are_found_out() {
    broken(publication(Fence::None, &[P, P]), STAYS);
    broken(publication(Fence::None, &[P, Q]), WHOLE);
    broken(publication(Fence::None, &[P, Q]), HONEST);
}

/// A condition on the bytes is no fence: the older config.json and the new one are equal.
#[test]
fn a_conditional_put_of_a_tombstone_over_equal_bytes_is_found_out() {
    broken(publication(Fence::IfMatch, &[P, P]), STAYS);
}

#[test]
fn three_keep_out_of_each_others_way() {
    for plans in [[P, P, P], [P, P, Q], [P, Q, Q]] {
        holds(publication(Fence::Announced, &plans));
    }
}

#[test]
fn a_kill_among_three_leaves_one_that_publishes() {
    for plans in [[P, P, P], [P, Q, P], [P, P, Q]] {
        holds(Publication { kills: 1, rerun: true, ..publication(Fence::Announced, &plans) });
    }
}

/// The removal of a state that hits the next one takes its announcements along: three coordinators are enough.
#[test]
fn a_removal_that_hits_the_next_state_is_found_out() {
    broken(Publication { removal: Removal::Late, ..publication(Fence::Announced, &[P, P, Q]) }, WHOLE);
}
