//! What a merge's state folder shows of its coordinators: their epochs, and what they journal.

use bytes::Bytes;
use serde_json::Value;

use super::{Seen, token_of};

impl Seen {
    pub(super) fn state_written(&mut self, name: &str, bytes: &Bytes, in_vain: bool) {
        let mut path = name.split('/');
        match (path.next(), path.next()) {
            (Some("epoch"), Some(number)) => {
                let taken: Value = serde_json::from_slice(bytes).unwrap_or_default();
                let token = taken["token"].as_str().unwrap_or_default().to_owned();
                let number: usize = number.parse().unwrap_or_default();
                if in_vain {
                    // Whoever read the plan just before it was removed takes an epoch of nothing, and looks again.
                    return;
                }
                if number != self.epochs.len() + 1 {
                    self.broken.push(format!("epoch {number} was taken after epoch {}", self.epochs.len()));
                }
                // It reads the journals of the epochs below its own. Those of a state that was discarded are not among them.
                let below = self.epochs.iter().filter_map(|token| self.journaled.get(token));
                self.known.insert(token.clone(), below.flatten().copied().collect());
                self.epochs.push(token.clone());
                self.taken.insert((number, token.clone()));
                if taken["plan"] != "" {
                    // Also of a state that began anew, whose numbers begin with 1.
                    self.newest = token;
                    self.highest = self.highest.max(self.epochs.len() as u64);
                }
            }
            (Some("journal"), Some(writer)) => {
                let place = writer.split_once('-').and_then(|(n, token)| Some((n.parse::<usize>().ok()?, token)));
                let took = |(n, token): &(usize, &str)| self.taken.contains(&(*n, (*token).to_owned()));
                let Some((_, token)) = place.filter(took) else {
                    return self.broken.push(format!("a journal is written under {writer}, which took no epoch"));
                };
                // A record ends with a line feed and its digest.
                let record: Value =
                    serde_json::from_slice(&bytes[..bytes.len().saturating_sub(65)]).unwrap_or_default();
                self.journal(token, &record["record"]);
            }
            _ => {}
        }
    }

    fn journal(&mut self, token: &str, record: &Value) {
        let known = self.known.entry(token.to_owned()).or_default();
        for piece in record["pieces"].as_array().into_iter().flatten() {
            let piece = (piece["task"].as_u64().unwrap_or(u64::MAX), piece["piece"].as_u64().unwrap_or(u64::MAX));
            let of_token = self.attempts.iter().filter(|(merge, _)| token_of(merge) == token);
            if !of_token.into_iter().any(|(_, attempts)| attempts.has_accepted(piece)) {
                self.broken.push(format!("piece {piece:?} is journaled under {token}, and was never accepted"));
            }
            known.insert(piece);
            self.journaled.entry(token.to_owned()).or_default().insert(piece);
        }
        for upload in record["announced"]["uploads"].as_array().into_iter().flatten() {
            self.noted.insert(upload[2].as_str().unwrap_or_default().to_owned());
        }
        for upload in record["opened"]["uploads"].as_array().into_iter().flatten() {
            self.noted.insert(upload[1].as_str().unwrap_or_default().to_owned());
        }
        if !record["dropped"].is_null() || !record["lost"].is_null() {
            self.broken.push(format!("a store that loses nothing lost parts: {record}"));
        }
    }

    pub(super) fn state_removed(&mut self, name: &str) {
        let number = name.strip_prefix("out/.shardfuse/epoch/").and_then(|n| n.parse::<usize>().ok());
        // They go from the last one down.
        if number == Some(self.epochs.len()) {
            self.epochs.pop();
        }
    }
}
