//! From an assignment to finished parts and blocks: plan, fetch, fuse, put, under a byte budget.
//!
//! Reads and writes are asynchronous; arithmetic runs on threads of its own ([`threads`]), so a long fusion never delays a
//! heartbeat.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use shardfuse_merge::plan::task::{Assignment, Job};
use shardfuse_proto::v1;
use shardfuse_store::{Allow, Stores};
use tokio::sync::mpsc;

use crate::Failure;
use crate::device::Device;
use crate::work::{Done, Gate, Meter, Usage, Work};

mod block;
mod copies;
mod copying;
mod fetch;
mod flow;
mod fuse;
mod level;
mod part;
mod part_plan;
mod permit;
#[cfg(test)]
mod properties;
mod put;
mod raw;
mod read;
mod shared;
mod stages;
#[cfg(test)]
mod tests;
mod threads;

use read::{Inputs, Reader, Statistics};
use shared::Shared;

/// A worker's pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

impl Pipeline {
    /// A pipeline with a byte budget and a number of threads, which may read and write every place. It fuses on `device` what
    /// has a path there. With no thread of its own it computes where it is awaited, which a simulation can replay.
    pub fn new(stores: Arc<Stores>, memory: u64, threads: usize, device: Device) -> Result<Self, Failure> {
        Self::limited(stores, Allow::everything(), memory, threads, device)
    }

    /// As [`Self::new`], refusing assignments that lead elsewhere than `allow` does.
    pub fn limited(
        stores: Arc<Stores>,
        allow: Allow,
        memory: u64,
        threads: usize,
        device: Device,
    ) -> Result<Self, Failure> {
        Ok(Pipeline { shared: Arc::new(Shared::new(stores, allow, memory, threads, device)?) })
    }

    /// The class whose bits its arithmetic has.
    pub fn device_class(&self) -> &str {
        self.shared.device.class()
    }

    /// Does an assignment, sending each part or block as it is finished. None begins while the gate is closed.
    async fn work(
        &self,
        assignment: &Assignment,
        done: &mpsc::Sender<Done>,
        gate: &Gate,
        meter: &Meter,
    ) -> Result<(), Failure> {
        permit::check(&self.shared.allow, assignment)?;
        let inputs = &Inputs::new(&self.shared, &assignment.objects, meter)?;
        let attempt = v1::Attempt { task: assignment.task, epoch: assignment.epoch, merge: assignment.merge.clone() };
        let statistics = &Statistics::new(assignment.job.statistics());
        let reader = Reader { shared: &self.shared, inputs, statistics };
        match &assignment.job {
            Job::Fill(fill) => {
                let parts = fill.parts.iter().map(|part| part::make(reader, fill, part, gate));
                report(parts.collect(), done, &attempt).await
            }
            Job::Reduce(reduce) => {
                let blocks = reduce.blocks.iter().map(|block| block::make(reader, reduce, *block, gate));
                report(blocks.collect(), done, &attempt).await
            }
        }
    }
}

/// Sends each as it is finished. The first failure ends all.
async fn report(
    mut running: FuturesUnordered<impl Future<Output = Result<Done, Failure>>>,
    done: &mpsc::Sender<Done>,
    attempt: &v1::Attempt,
) -> Result<(), Failure> {
    while let Some(result) = running.next().await {
        let finished = Done { attempt: Some(attempt.clone()), ..result? };
        done.send(finished).await.map_err(|_| Failure::local("the session ended"))?;
    }
    Ok(())
}

impl Work for Pipeline {
    fn device_class(&self) -> String {
        Pipeline::device_class(self).to_owned()
    }

    async fn lost(&self) -> Failure {
        match &self.shared.device {
            Device::Cpu => std::future::pending().await,
            Device::Cuda(gpu) => gpu.lost().await,
        }
    }

    fn usage(&self) -> Usage {
        self.shared.usage()
    }

    async fn run(
        &self,
        assignment: Assignment,
        done: mpsc::Sender<Done>,
        gate: Gate,
        meter: Meter,
    ) -> Result<(), Failure> {
        self.work(&assignment, &done, &gate, &meter).await
    }
}
