//! The tonic edge: what comes over the wire, checked and turned into the hub's words, and its answers turned back.

pub mod merges;
pub mod role;
pub mod spec;
pub mod status;
pub mod work;

use std::sync::Arc;

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::DESCRIPTORS;
use shardfuse_proto::v1::{merges_server::MergesServer, work_server::WorkServer};
use shardfuse_store::{Allow, Stores};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::hub::Handle;

pub use merges::MergesService;
pub use role::Role;
pub use work::{ToWorker, WorkService};

/// All services of a fleet's coordinator: Work, Merges, health and reflection. A listener serves them, and puts a [`Role`]
/// into the extensions of every request; without one, Work and Merges refuse. The reporter is for the end: what stops
/// is to be told from what serves.
pub async fn routes(hub: Handle, stores: Arc<Stores>, allow: Allow) -> Result<(Routes, HealthReporter)> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<WorkServer<WorkService>>().await;
    reporter.set_serving::<MergesServer<MergesService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| Error::new(Kind::Internal, format!("the services cannot be described: {e}")))?;
    let mut routes = Routes::builder();
    routes
        .add_service(WorkService::new(hub.clone()).into_server())
        .add_service(MergesService::new(hub, stores, allow).into_server())
        .add_service(health)
        .add_service(reflection);
    Ok((routes.routes(), reporter))
}

/// Says to health checks that nothing is served any more.
pub async fn not_serving(reporter: &HealthReporter) {
    reporter.set_not_serving::<WorkServer<WorkService>>().await;
    reporter.set_not_serving::<MergesServer<MergesService>>().await;
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
}
