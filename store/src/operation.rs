//! The operations of a store, by name.

/// The operations of a [`Store`](crate::Store).
#[allow(missing_docs, reason = "each is the method of its name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Resolve,
    Head,
    Read,
    Get,
    List,
    Links,
    Beside,
    Lock,
    Put,
    Create,
    Copy,
    Delete,
    DeleteIf,
    DeleteTree,
    RemoveEmptyDir,
    Sweep,
    Begin,
    Probe,
    PutPart,
    ComposePart,
    ReadPart,
    Complete,
    Abort,
    BootId,
    Space,
    CheckOutput,
    ConditionalPuts,
}

impl Operation {
    /// The name in metrics and logs. [`Self::Links`] and [`Self::Beside`] are listings there.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Resolve => "resolve",
            Operation::Head => "head",
            Operation::Read => "read",
            Operation::Get => "get",
            Operation::List | Operation::Links | Operation::Beside => "list",
            Operation::Lock => "lock",
            Operation::Put => "put",
            Operation::Create => "create",
            Operation::Copy => "copy",
            Operation::Delete => "delete",
            Operation::DeleteIf => "delete_if",
            Operation::DeleteTree => "delete_tree",
            Operation::RemoveEmptyDir => "remove_empty_dir",
            Operation::Sweep => "sweep",
            Operation::Begin => "begin",
            Operation::Probe => "probe",
            Operation::PutPart => "put_part",
            Operation::ComposePart => "compose_part",
            Operation::ReadPart => "read_part",
            Operation::Complete => "complete",
            Operation::Abort => "abort",
            Operation::BootId => "boot_id",
            Operation::Space => "space",
            Operation::CheckOutput => "check_output",
            Operation::ConditionalPuts => "conditional_puts",
        }
    }
}
