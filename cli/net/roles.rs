//! Roles and names into requests.

use shardfuse_coordinator::service::role::{PeerName, Role};
use tonic::{Request, Status};

use super::certificate;

/// Puts the role of a connection into its requests, and the name of the worker if the certificate names one. A request from a
/// client without a role passes through: health and reflection need none, and the other services refuse it.
#[derive(Debug, Clone, Copy)]
pub enum Roles {
    /// Everybody has this one.
    Fixed(Role),
    /// What the client's certificate says.
    FromCertificate,
}

impl tonic::service::Interceptor for Roles {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let (role, name) = match self {
            Roles::Fixed(role) => (Some(*role), None),
            Roles::FromCertificate => {
                let certificates = request.peer_certs();
                let leaf = certificates.as_ref().and_then(|certs| certs.first());
                (leaf.and_then(|leaf| certificate::role(leaf)), leaf.and_then(|leaf| certificate::worker_name(leaf)))
            }
        };
        let extensions = request.extensions_mut();
        extensions.remove::<Role>();
        extensions.remove::<PeerName>();
        if let Some(role) = role {
            extensions.insert(role);
        }
        if let Some(name) = name {
            extensions.insert(PeerName(name));
        }
        Ok(request)
    }
}
