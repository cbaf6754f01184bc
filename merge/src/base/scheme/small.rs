//! Small tensors whose values carry layout. Planning reads them.

use super::table::SCHEMES;
use crate::error::{Error, Kind, Result};
use crate::inventory::{Shard, Source};

/// The most bytes of one that is read. One that is larger carries no layout.
pub const MOST_EACH: u64 = 64 << 10;
/// The most bytes of all of them.
pub const MOST: u64 = 64 << 20;

/// The tensors of a checkpoint that planning reads, in the order of their objects and bytes.
///
/// # Errors
/// `unsupported` if they are too many.
pub fn to_read(shards: &[Shard]) -> Result<Vec<Source>> {
    let carries = |tensor: &&Source| {
        let mut endings = SCHEMES.iter().flat_map(|scheme| scheme.small());
        endings.any(|ending| tensor.name.ends_with(ending)) && (1..=MOST_EACH).contains(&tensor.bytes())
    };
    let mut all: Vec<Source> = shards.iter().flat_map(|shard| &shard.tensors).filter(carries).cloned().collect();
    all.sort_by_key(|tensor| (tensor.object, tensor.offset));
    let bytes: u64 = all.iter().map(Source::bytes).sum();
    if bytes > MOST {
        let (count, name) = (all.len(), &all[0].name);
        let text = format!("{count} tensors such as {name} carry layout in {bytes} bytes, more than {MOST}");
        return Err(Error::new(Kind::Unsupported, text));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::ObjectId;
    use crate::tensor::Dtype;

    fn shard(tensors: Vec<Source>) -> Shard {
        Shard { name: "f".into(), metadata: Default::default(), tensors }
    }

    fn tensor(name: String, offset: u64, bytes: u64) -> Source {
        Source { name, object: ObjectId(0), offset, dtype: Dtype::U8, shape: vec![bytes] }
    }

    #[test]
    fn what_carries_layout_is_read_and_nothing_large() {
        let of = |name: &str, offset, bytes| tensor(name.to_owned(), offset, bytes);
        let shards = [shard(vec![
            of("a.weight", 0, 8),
            of("b.weight_shape", 500, 16),
            of("a.weight.quant_state.bitsandbytes__nf4", 100, 80),
            of("c.weight_shape", 900, MOST_EACH + 1),
            of("d.weight_shape", 950, 0),
        ])];
        let names: Vec<_> = to_read(&shards).unwrap().into_iter().map(|tensor| tensor.name).collect();
        assert_eq!(names, ["a.weight.quant_state.bitsandbytes__nf4", "b.weight_shape"]);
    }

    #[test]
    fn more_than_planning_holds_is_refused() {
        let all = |count| (0..count).map(|i| tensor(format!("{i}.weight_shape"), i * MOST_EACH, MOST_EACH)).collect();
        let most = MOST / MOST_EACH;
        assert_eq!(to_read(&[shard(all(most))]).unwrap().len() as u64, most);
        let refused = to_read(&[shard(all(most + 1))]).unwrap_err();
        assert!(refused.message().starts_with("1025 tensors such as 0.weight_shape"), "{}", refused.message());
    }
}
