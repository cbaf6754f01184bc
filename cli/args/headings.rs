//! The headings under which help lists flags. Those of one heading stand together, in the order in which headings first appear.

use shardfuse_merge::spec::Group;

/// What becomes of an output that is not empty.
pub const EXISTING: &str = "Unfinished or existing output";
/// What a process may take of its machine.
pub const MACHINE: &str = "This machine";
/// Where merges are queued.
pub const FLEET: &str = "Fleet";
/// Certificates and keys.
pub const SECURITY: &str = "Security";
/// How stores are reached.
pub const STORAGE: &str = "Storage";
/// Flags of every command. They come last.
pub const GENERAL: &str = "Every command";

/// The groups of the options of a spec, in the order of help.
pub const GROUPS: [(Group, &str); 3] =
    [(Group::Adapters, "Adapters"), (Group::Base, "Base"), (Group::Output, "Output")];
