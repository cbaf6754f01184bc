//! Roles into requests.

use shardfuse_coordinator::service::role::Role;
use tonic::{Request, Status};

use super::certificate;

/// Puts the role of a connection into its requests. A request from a client without a role goes on without: health
/// and reflection ask for none, and the services refuse it.
#[derive(Debug, Clone, Copy)]
pub enum Roles {
    /// Everybody has this one.
    Fixed(Role),
    /// What the client's certificate says.
    FromCertificate,
}

impl tonic::service::Interceptor for Roles {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let role = match self {
            Roles::Fixed(role) => Some(*role),
            Roles::FromCertificate => {
                request.peer_certs().and_then(|certs| certs.first().and_then(|leaf| certificate::role(leaf)))
            }
        };
        request.extensions_mut().remove::<Role>();
        if let Some(role) = role {
            request.extensions_mut().insert(role);
        }
        Ok(request)
    }
}
