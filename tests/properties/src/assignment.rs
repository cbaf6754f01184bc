//! An assignment is refused, or stays within what it describes and survives the wire.

use prost::Message;
use shardfuse_merge::inventory::Source;
use shardfuse_merge::plan::task::{Assignment, Job};
use shardfuse_merge::recipe::Recipe;
use shardfuse_proto::v1;

use super::memory::within;

/// An empty tensor is two bytes of a message.
const TIMES: usize = 512;

/// See the module.
pub fn holds(bytes: &[u8]) -> bool {
    let assignment =
        within(TIMES, bytes, || v1::Assign::decode(bytes).ok().and_then(|wire| Assignment::try_from(wire).ok()));
    let Some(assignment) = assignment else { return false };
    let inside = |source: &Source| {
        let object = assignment.objects.iter().find(|(id, _)| *id == source.object.0);
        let (_, object) = object.unwrap_or_else(|| panic!("{} lies in no object", source.name));
        assert!(source.offset + source.bytes() <= object.size, "{} reaches beyond {}", source.name, object.url);
    };
    match &assignment.job {
        Job::Fill(fill) => {
            assert!(fill.parts.iter().all(|part| part.bytes.end <= fill.size));
            for tensor in &fill.tensors {
                assert!(tensor.offset + tensor.length <= fill.size, "{} reaches beyond the file", tensor.name);
                if let Recipe::Copy(source) = &tensor.recipe {
                    assert_eq!(source.bytes(), tensor.length);
                }
                tensor.recipe.starts().iter().for_each(inside);
            }
        }
        Job::Reduce(reduce) => reduce.statistic.start.tensors().iter().for_each(inside),
    }
    let again = Assignment::try_from(v1::Assign::from(&assignment)).expect("what is sent can be read");
    assert_eq!(again, assignment);
    true
}
