//! Whether two tensors hold the same values: read side by side. What an adapter holds twice must be equal, which is
//! checked before any work starts.

use shardfuse_merge::inventory::{Object, Source};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::build::Equal;
use shardfuse_merge::tensor::matrix;
use shardfuse_merge::{DtypeExt, Error, Kind, Result};
use shardfuse_store::{Pin, Stores};

use crate::failure::{io, location};

/// Bytes that are read of each side at first, and at a time after that.
const FIRST: u64 = 64 << 10;
const CHUNK: u64 = 4 << 20;
/// A transposed comparison holds both sides; they are low-rank factors.
const MAX_TRANSPOSED: u64 = 1 << 30;

/// Checks every equality of a plan.
pub async fn check(stores: &Stores, plan: &Plan) -> Result<()> {
    for equal in &plan.equals {
        let same = if equal.transposed {
            transposed(stores, &plan.objects, equal).await?
        } else {
            straight(stores, &plan.objects, &equal.left, &equal.right).await?.0
        };
        if !same {
            return Err(Error::new(
                Kind::Conflict,
                format!("{} and {} must be equal and are not: {}", equal.left.name, equal.right.name, equal.why),
            )
            .hint("the adapter was changed after it was saved; save it again from the trained model"));
        }
    }
    Ok(())
}

/// Whether two tensors have one dtype, shape and values, and how many bytes of each were read to tell.
pub async fn same(stores: &Stores, objects: &[Object], left: &Source, right: &Source) -> Result<(bool, u64)> {
    if (left.dtype, &left.shape) != (right.dtype, &right.shape) {
        return Ok((false, 0));
    }
    straight(stores, objects, left, right).await
}

async fn straight(stores: &Stores, objects: &[Object], left: &Source, right: &Source) -> Result<(bool, u64)> {
    let length = left.bytes();
    if length != right.bytes() {
        return Ok((false, 0));
    }
    // Most that differ do so at once.
    let (mut at, mut chunk) = (0, FIRST);
    while at < length {
        let len = chunk.min(length - at);
        let (a, b) = futures::try_join!(read(stores, objects, left, at, len), read(stores, objects, right, at, len))?;
        if a != b {
            return Ok((false, at + len));
        }
        (at, chunk) = (at + len, CHUNK);
    }
    Ok((true, length))
}

async fn transposed(stores: &Stores, objects: &[Object], equal: &Equal) -> Result<bool> {
    let length = equal.left.bytes();
    if length > MAX_TRANSPOSED {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{} has {length} bytes, too many to compare with its transpose", equal.left.name),
        ));
    }
    let (a, b) = futures::try_join!(
        read(stores, objects, &equal.left, 0, length),
        read(stores, objects, &equal.right, 0, length)
    )?;
    let (rows, cols) = matrix(&equal.left.shape);
    let size = equal.left.dtype.bytes().unwrap_or(1) as usize;
    let (rows, cols) = (rows as usize, cols as usize);
    let element = |v: &[u8], i: usize| v.get(i * size..(i + 1) * size).map(<[u8]>::to_vec);
    Ok((0..rows).all(|i| (0..cols).all(|j| element(&a, i * cols + j) == element(&b, j * rows + i))))
}

async fn read(stores: &Stores, objects: &[Object], source: &Source, at: u64, len: u64) -> Result<Vec<u8>> {
    let object = &objects[source.object.0 as usize];
    let place = location(&object.url)?;
    let store = stores.open(&place);
    store.read(&place, source.offset + at, vec![0; len as usize], Some(&Pin::new(&object.pin))).await.map_err(io)
}
