//! What drivers are told of workers. No driver is waited for.

use shardfuse_merge::DeviceClass;
use shardfuse_proto::v1::{self, from_worker, to_worker};

use super::actor::Hub;
use super::merges::Running;
use super::worker::{Closing, Open};
use crate::driver::{Input, Mailbox, Refused};
use crate::schedule::WorkerId;

impl Hub {
    /// Tells the drivers of a worker's class that it is there.
    pub(super) fn introduce(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let Some(Open { number, outbound, .. }) = &worker.session else { return };
        let (name, session, outbound) = (worker.name.clone(), *number, outbound.clone());
        let mut overrun = false;
        for (arrival, mailbox) in self.mailboxes(&worker.class) {
            let slots = self.shares.get(&(arrival, id)).copied().unwrap_or(0);
            let input = Input::Joined { worker: id, name: name.clone(), session, slots, outbound: outbound.clone() };
            overrun |= mailbox.send(input) == Err(Refused::Overrun);
        }
        if overrun {
            self.close(id, session, Closing::Overrun);
        }
    }

    /// Tells a driver that begins who is there.
    pub(super) fn introduce_all(&self, class: &DeviceClass, mailbox: &Mailbox) {
        for (id, worker) in self.workers.iter().filter(|(_, w)| &w.class == class) {
            let Some(open) = &worker.session else { continue };
            let joined = Input::Joined {
                worker: *id,
                name: worker.name.clone(),
                session: open.number,
                slots: 0,
                outbound: open.outbound.clone(),
            };
            // A driver that ends at once needs to know nobody.
            let _ = mailbox.send(joined);
            if worker.draining {
                let message = from_worker::Message::Draining(v1::Draining {});
                let _ = mailbox.send(Input::Said { worker: *id, message });
            }
        }
    }

    /// Tells all drivers of a worker's class something about it.
    pub(super) fn tell_drivers(&mut self, id: WorkerId, input: impl Fn() -> Input) {
        let Some(worker) = self.workers.get(&id) else { return };
        let refused: Vec<_> =
            self.mailboxes(&worker.class).into_iter().filter_map(|(_, mailbox)| mailbox.send(input()).err()).collect();
        if refused.contains(&Refused::Overrun) {
            self.close_current(id);
        }
    }

    /// Gives a report to the driver of its merge; one that holds a piece is answered also where there is none.
    pub(super) fn pass_on(
        &mut self,
        id: WorkerId,
        attempt: Option<v1::Attempt>,
        message: from_worker::Message,
        answer: bool,
    ) {
        let Some(attempt) = attempt else { return };
        let Some(worker) = self.workers.get(&id) else { return };
        let merge = self.routes.get(&attempt.merge).and_then(|merge| self.merges.get(merge));
        let running = merge.and_then(|m| m.running()).filter(|r| r.class == worker.class);
        let sent = match running {
            Some(running) => running.mailbox.send(Input::Said { worker: id, message }),
            None => Err(Refused::Ended),
        };
        match sent {
            Ok(()) => {}
            Err(Refused::Overrun) => self.close_current(id),
            Err(Refused::Ended) => {
                metrics::counter!("shardfuse_reports_unknown_total").increment(1);
                if answer {
                    worker.tell(to_worker::Message::Revoke(v1::Revoke { attempt: Some(attempt) }));
                }
            }
        }
    }

    fn close_current(&mut self, id: WorkerId) {
        if let Some(open) = self.workers.get(&id).and_then(|w| w.session.as_ref()) {
            self.close(id, open.number, Closing::Overrun);
        }
    }

    /// The mailboxes of the drivers of a class, by arrival of the merge.
    pub(super) fn mailboxes(&self, class: &DeviceClass) -> Vec<(u64, Mailbox)> {
        let of_class = |r: &&Running| &r.class == class;
        let running = self.merges.values().filter_map(|m| m.running().filter(of_class).map(|r| (m.arrival, r)));
        running.map(|(arrival, r)| (arrival, r.mailbox.clone())).collect()
    }
}
