//! What a peer may do.
//!
//! The listener decides who a peer is and puts the role into the request's extensions: from the client's certificate, or
//! one and the same for everybody on a channel that only one process can reach. A request without a role may do nothing.

use std::fmt;

use tonic::{Request, Status};

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes tasks and reports receipts (`Work`).
    Worker,
    /// Submits merges, follows and cancels them (`Merges`).
    Submitter,
    /// Both: the in-memory channel of one process, and a listener that was told to trust its network.
    Trusted,
}

impl Role {
    /// The name of a role, as certificates carry it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Worker => "worker",
            Role::Submitter => "submitter",
            Role::Trusted => "trusted",
        }
    }

    /// The role that the listener gave this request.
    pub fn of<T>(request: &Request<T>) -> Option<Role> {
        request.extensions().get::<Role>().copied()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a peer's certificate calls it alone. The listener puts it into the request's extensions. A certificate that several
/// workers share has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerName(pub String);

impl PeerName {
    /// The name that the listener gave this request, if it has one.
    pub fn of<T>(request: &Request<T>) -> Option<String> {
        request.extensions().get::<PeerName>().map(|name| name.0.clone())
    }
}

/// Refuses a request whose role is not `needed`, nor trusted with everything.
pub fn require<T>(request: &Request<T>, needed: Role) -> Result<(), Status> {
    match Role::of(request) {
        Some(Role::Trusted) => Ok(()),
        Some(role) if role == needed => Ok(()),
        Some(role) => Err(Status::permission_denied(format!("this needs the role {needed}, the peer's is {role}"))),
        None => Err(Status::permission_denied(format!("this needs the role {needed}, the peer has none"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(role: Option<Role>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(role) = role {
            request.extensions_mut().insert(role);
        }
        request
    }

    #[test]
    fn a_role_opens_its_own_service_and_trusted_opens_both() {
        for (role, work, merges) in [
            (None, false, false),
            (Some(Role::Worker), true, false),
            (Some(Role::Submitter), false, true),
            (Some(Role::Trusted), true, true),
        ] {
            assert_eq!(require(&with(role), Role::Worker).is_ok(), work, "{role:?}");
            assert_eq!(require(&with(role), Role::Submitter).is_ok(), merges, "{role:?}");
        }
    }

    #[test]
    fn a_refusal_names_both_roles() {
        let status = require(&with(Some(Role::Worker)), Role::Submitter).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert_eq!(status.message(), "this needs the role submitter, the peer's is worker");
    }
}
