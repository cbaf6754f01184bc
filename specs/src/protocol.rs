//! What a coordinator does, one operation on the store after the other.

use crate::world::{Bytes, Coordinator, Name, Plan, State, Taken, Upload, World};

/// How an older output is taken away and the new one put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// Deletes and puts without a condition, after a look at the epoch: the planted bug. The product did this once.
    None,
    /// Tombstones and puts on the condition of the version that was seen: not enough where versions are bytes.
    IfMatch,
    /// Uploads that are written down first: what the product does.
    Announced,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Seals the state of another plan.
    SealOther,
    /// Drops the uploads of a sealed state.
    DropOther,
    /// Removes the sealed state that it found.
    RemoveOther,
    /// Begins a state, or takes the next epoch of the one that is there.
    Claim,
    /// Drops what earlier coordinators of the state announced.
    DropAnnounced,
    /// Looks at the epoch; ends if the claim does not hold.
    Hold,
    /// Looks at a file and remembers its bytes.
    Look(Name),
    /// Removes a file.
    Delete(Name),
    /// Removes a file if it has the remembered bytes.
    DeleteIf(Name),
    /// Puts a file of the plan.
    Put(Name),
    /// Puts a tombstone if the file has the remembered bytes, or is absent as it was.
    BuryIf(Name),
    /// Puts a file of the plan in the place of the own tombstone.
    PutOverTombstone(Name),
    /// Begins an upload of a tombstone.
    BeginTombstone(Name),
    /// Begins an upload of a file of the plan.
    BeginFinal(Name),
    /// Writes down the uploads that were begun.
    Announce,
    /// Completes the tombstone.
    Bury(Name),
    /// Completes the file of the plan.
    CompleteFinal(Name),
    /// Completes a weight file, of parts that are all there.
    CompleteParts(Name),
    /// Seals the own state.
    Seal,
    /// Removes the own state.
    Remove,
}

/// How a coordinator's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// It published.
    Published,
    /// What it wanted is there already.
    Finished,
    /// Another one has the output.
    Busy,
    /// An upload was gone: the run must be repeated.
    Lost,
    /// It was killed.
    Killed,
}

/// A coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// What it merges.
    pub plan: Plan,
    /// The next operation.
    pub at: u8,
    /// What it saw last, by a look.
    pub seen: Option<Bytes>,
    /// The number of its state.
    pub state: u8,
    /// How it ended.
    pub end: Option<End>,
}

/// The operations of a coordinator of a plan, in their order.
pub fn program(fence: Fence, plan: Plan) -> Vec<Op> {
    use Name::{Config, Extra, Manifest, Weights};
    let mut ops = vec![Op::SealOther, Op::DropOther, Op::RemoveOther, Op::Claim, Op::DropAnnounced, Op::Hold];
    let obsolete = plan.bytes(Extra).is_none();
    let old: Vec<Name> = [Manifest, Config].into_iter().chain(obsolete.then_some(Extra)).collect();
    match fence {
        Fence::None => ops.extend(old.iter().map(|name| Op::Delete(*name))),
        Fence::IfMatch => old.iter().for_each(|name| ops.extend([Op::Look(*name), Op::Hold, Op::BuryIf(*name)])),
        Fence::Announced => {
            ops.extend(old.iter().map(|name| Op::BeginTombstone(*name)));
            ops.extend([Op::Announce, Op::Hold]);
            ops.extend(old.iter().map(|name| Op::Bury(*name)));
        }
    }
    if obsolete && fence != Fence::None {
        ops.extend([Op::Look(Extra), Op::DeleteIf(Extra)]);
    }
    for name in [Weights].into_iter().chain((!obsolete).then_some(Extra)) {
        ops.extend([Op::Hold, Op::CompleteParts(name)]);
    }
    for name in [Config, Manifest] {
        match fence {
            Fence::None => ops.extend([Op::Hold, Op::Put(name)]),
            Fence::IfMatch => ops.extend([Op::Hold, Op::PutOverTombstone(name)]),
            Fence::Announced => ops.extend([Op::BeginFinal(name), Op::Announce, Op::Hold, Op::CompleteFinal(name)]),
        }
    }
    ops.extend([Op::Seal, Op::Remove]);
    ops
}

/// Whether the removal of a state may hit the next one, if a coordinator is stopped between its seal and the removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Removal {
    /// It removes the state that it sealed, and of a later one the plan at the most: what the product does.
    ByVersion,
    /// It removes whatever is there: the product did this once.
    Late,
}

/// Does a coordinator's next operation.
pub fn step(world: &mut World, actor: &mut Actor, who: Coordinator, op: Op, removal: Removal) {
    let plan = actor.plan;
    let held = world.state.as_ref().is_some_and(|s| s.number == actor.state && s.is_held_by(who));
    let fails = |actor: &mut Actor| actor.end = Some(if held { End::Lost } else { End::Busy });
    let mut end = None;
    match op {
        Op::SealOther => match &mut world.state {
            Some(s) if s.is_sealed() || s.plan != plan || !s.is_found => {
                s.epochs.push(None);
                actor.state = s.number;
            }
            // There is nothing to discard.
            _ => actor.at += 2,
        },
        Op::DropOther => {
            if let Some(s) = &world.state
                && s.number == actor.state
            {
                let theirs: Vec<Upload> = announced(s, &s.epochs).collect();
                let number = s.number;
                world.uploads.retain(|u| !matches!(u, Upload::Parts(n, _) if *n == number) && !theirs.contains(u));
            }
        }
        Op::RemoveOther => remove(world, actor.state, removal),
        Op::Claim => match &mut world.state {
            None if world.published == Some(plan) => end = Some(End::Finished),
            None => {
                world.states += 1;
                actor.state = world.states;
                let epochs = vec![Some(who)];
                let number = world.states;
                world.state = Some(State { plan, number, is_found: true, epochs, announced: Default::default() });
                let weights = [Name::Weights, Name::Extra].into_iter().filter(|n| plan.bytes(*n).is_some());
                world.uploads.extend(weights.map(|name| Upload::Parts(number, name)));
                // From here on the output is this plan's to change.
                world.published = None;
            }
            Some(s) if s.plan == plan && !s.is_sealed() && s.is_found => {
                s.epochs.push(Some(who));
                actor.state = s.number;
            }
            // Somebody else was faster: it looks again.
            Some(_) => {
                actor.at = 0;
                return;
            }
        },
        Op::DropAnnounced => {
            if let Some(s) = &world.state
                && s.number == actor.state
            {
                // It reads the journals below its own epoch.
                let below: Vec<Taken> = s.epochs.iter().copied().take_while(|taken| *taken != Some(who)).collect();
                let earlier: Vec<Upload> = announced(s, &below).collect();
                world.uploads.retain(|u| !earlier.contains(u));
            }
        }
        Op::Hold => {
            if !held {
                // What it has begun nobody else knows.
                world.uploads.retain(|u| !is_of(u, who));
                end = Some(End::Busy);
            }
        }
        Op::Look(name) => actor.seen = world.get(name),
        Op::Delete(name) => _ = world.files.remove(&name),
        Op::DeleteIf(name) => match world.get(name) {
            // Only the own tombstone is removed.
            Some(bytes) if bytes == Bytes::Tombstone(who) && actor.seen == Some(bytes) => {
                world.files.remove(&name);
            }
            None => {}
            Some(_) => return fails(actor),
        },
        Op::Put(name) => world.put(name, plan.bytes(name).expect("the plan has it")),
        Op::BuryIf(name) => match world.get(name) {
            now if now == actor.seen => world.put(name, Bytes::Tombstone(who)),
            _ => return fails(actor),
        },
        Op::PutOverTombstone(name) => match world.get(name) {
            Some(Bytes::Tombstone(whose)) if whose == who => {
                world.put(name, plan.bytes(name).expect("the plan has it"));
            }
            _ => return fails(actor),
        },
        Op::BeginTombstone(name) => _ = world.uploads.insert(Upload::Tombstone(who, name)),
        Op::BeginFinal(name) => _ = world.uploads.insert(Upload::Final(who, name)),
        Op::Announce => {
            let begun = world.uploads.iter().filter(|u| is_of(u, who)).map(|u| (who, *u));
            // A record in a state that is gone finds no reader.
            if let Some(s) = &mut world.state
                && s.number == actor.state
            {
                s.announced.extend(begun);
            }
        }
        Op::Bury(name) => match world.uploads.remove(&Upload::Tombstone(who, name)) {
            true => world.put(name, Bytes::Tombstone(who)),
            false => return fails(actor),
        },
        Op::CompleteFinal(name) => match world.uploads.remove(&Upload::Final(who, name)) {
            true => world.put(name, plan.bytes(name).expect("the plan has it")),
            false => return fails(actor),
        },
        Op::CompleteParts(name) => {
            let bytes = plan.bytes(name).expect("the plan has it");
            match world.uploads.remove(&Upload::Parts(actor.state, name)) {
                true => world.put(name, bytes),
                // Completed by an earlier coordinator: the bytes are compared.
                false if world.get(name) == Some(bytes) => {}
                false => return fails(actor),
            }
        }
        Op::Seal => match (held, &mut world.state) {
            (true, Some(s)) => {
                s.epochs.push(None);
                world.published = Some(plan);
            }
            _ => end = Some(End::Busy),
        },
        Op::Remove => {
            remove(world, actor.state, removal);
            end = Some(End::Published);
        }
    }
    actor.at += 1;
    if matches!(op, Op::DeleteIf(_) | Op::BuryIf(_)) {
        // What was seen is no longer needed, and would only tell equal states apart.
        actor.seen = None;
    }
    actor.end = end;
}

fn remove(world: &mut World, number: u8, removal: Removal) {
    match &mut world.state {
        Some(s) if s.number != number && removal == Removal::ByVersion => s.is_found = false,
        _ => world.state = None,
    }
}

/// Announcements of the coordinators that took these epochs.
fn announced(state: &State, epochs: &[Taken]) -> impl Iterator<Item = Upload> {
    state.announced.iter().filter(|(who, _)| epochs.contains(&Some(*who))).map(|(_, upload)| *upload)
}

fn is_of(upload: &Upload, coordinator: Coordinator) -> bool {
    matches!(upload, Upload::Tombstone(who, _) | Upload::Final(who, _) if *who == coordinator)
}
