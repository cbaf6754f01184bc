//! The coordinators together, and what must hold.

use stateright::{Model, Property};

use crate::protocol::{Actor, End, Fence, Op, Removal, program, step};
use crate::world::{Bytes, Name, Plan, World};

/// What is explored.
#[derive(Clone, Debug)]
pub struct Publication {
    /// How coordinators publish.
    pub fence: Fence,
    /// The plan of each coordinator.
    pub plans: Vec<Plan>,
    /// How many of them may be killed.
    pub kills: u8,
    /// The last coordinator begins when the others have ended, and is not killed: the run that an operator repeats.
    pub rerun: bool,
    /// What the removal of a state hits.
    pub removal: Removal,
}

/// All there is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// The store.
    pub world: World,
    /// The coordinators.
    pub actors: Vec<Actor>,
    /// How many were killed.
    pub killed: u8,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A coordinator does its next operation.
    Step(u8, Op),
    /// A coordinator is killed.
    Kill(u8),
}

/// A loader takes nothing but a whole model.
pub const WHOLE: &str = "what a loader takes is whole";
/// A manifest names the files that are there.
pub const HONEST: &str = "a manifest names what is there";
/// Published is published.
pub const STAYS: &str = "what was published stays until another merge begins";
/// Somebody comes to the end.
pub const ENDS: &str = "somebody publishes";

impl Model for Publication {
    type State = Moment;
    type Action = Action;

    fn init_states(&self) -> Vec<Moment> {
        let actor = |plan: &Plan| Actor { plan: *plan, at: 0, seen: None, state: 0, end: None };
        vec![Moment { world: World::new(), actors: self.plans.iter().map(actor).collect(), killed: 0 }]
    }

    fn actions(&self, moment: &Moment, actions: &mut Vec<Action>) {
        for (who, actor) in (0u8..).zip(&moment.actors) {
            let last = self.rerun && usize::from(who) + 1 == moment.actors.len();
            if actor.end.is_some() || last && moment.actors.iter().filter(|a| a.end.is_none()).count() > 1 {
                continue;
            }
            actions.push(Action::Step(who, program(self.fence, actor.plan)[usize::from(actor.at)]));
            if moment.killed < self.kills && !last {
                actions.push(Action::Kill(who));
            }
        }
    }

    fn next_state(&self, moment: &Moment, action: Action) -> Option<Moment> {
        let mut next = moment.clone();
        match action {
            Action::Step(who, op) => {
                step(&mut next.world, &mut next.actors[usize::from(who)], who, op, self.removal);
            }
            Action::Kill(who) => {
                next.actors[usize::from(who)].end = Some(End::Killed);
                next.killed += 1;
            }
        }
        (next != *moment).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(WHOLE, |_, m: &Moment| {
                let world = &m.world;
                world.get(Name::Config) != Some(Bytes::Shared)
                    || [Plan::Older, Plan::P, Plan::Q].into_iter().any(|plan| world.is(plan))
            }),
            Property::always(HONEST, |_, m: &Moment| match m.world.get(Name::Manifest) {
                Some(Bytes::Of(plan)) => m.world.is(plan),
                _ => true,
            }),
            Property::always(STAYS, |_, m: &Moment| match m.world.published {
                Some(plan) => m.world.is(plan) && m.world.get(Name::Manifest) == Some(Bytes::Of(plan)),
                None => true,
            }),
        ];
        if !self.rerun || self.plans.len() > 2 {
            // Else the model explores less than it says.
            properties.push(Property::sometimes("one is replaced and another one publishes", |_, m: &Moment| {
                let ends = |end| m.actors.iter().any(|a| a.end == Some(end));
                ends(End::Busy) && ends(End::Published)
            }));
        }
        if self.kills == 0 || self.rerun {
            properties.push(Property::eventually(ENDS, |_, m: &Moment| {
                matches!(m.world.get(Name::Manifest), Some(Bytes::Of(Plan::P | Plan::Q)))
            }));
        }
        properties
    }
}
