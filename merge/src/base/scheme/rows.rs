//! Rows of a matrix that is stored quantised, where the scheme cannot store them apart: the tensors of the whole matrix, and which
//! rows are meant.
//!
//! So an adapter can change some rows of a matrix whose blocks, or whose only scale, other rows share. The settings are those of the
//! scheme, the first row and the number of rows.

use std::ops::Range;

use super::claim::{Claim, Encode, Floats, Layout, Scheme, StoredForm, Stretch, Tensors};
use super::quantised::{awq, bitsandbytes, fp8, gptq, llm_int8, mxfp4, mxfp4_packed, nvfp4, packed};
use crate::inventory::Source;

/// The scheme, and its layout, for each scheme of codes.
#[derive(Debug)]
struct RowsOf {
    name: &'static str,
    of: &'static dyn Scheme,
}

static ALL: [RowsOf; 9] = [
    RowsOf { name: "rows of fp8", of: &fp8::Fp8 },
    RowsOf { name: "rows of nvfp4", of: &nvfp4::Nvfp4 },
    RowsOf { name: "rows of mxfp4", of: &mxfp4::Mxfp4 },
    RowsOf { name: "rows of mxfp4-pack-quantized", of: &mxfp4_packed::Mxfp4Packed },
    RowsOf { name: "rows of compressed-tensors pack-quantized", of: &packed::Packed },
    RowsOf { name: "rows of gptq", of: &gptq::Gptq },
    RowsOf { name: "rows of awq", of: &awq::Awq },
    RowsOf { name: "rows of bitsandbytes", of: &bitsandbytes::BitsAndBytes },
    RowsOf { name: "rows of bitsandbytes int8", of: &llm_int8::LlmInt8 },
];

/// The scheme of a name.
pub(super) fn named(name: &str) -> Option<&'static dyn Scheme> {
    ALL.iter().find(|rows| rows.name == name).map(|rows| rows as &dyn Scheme)
}

/// The scheme of some of the rows of a matrix, with its settings. `None` if it is no matrix, or has no values.
pub(super) fn of(
    scheme: &dyn Scheme,
    form: StoredForm<'_>,
    rows: Range<u64>,
) -> Option<(&'static dyn Scheme, Vec<u64>)> {
    let own = ALL.iter().find(|own| own.of.name() == scheme.name())?;
    let settings = [form.settings, &[rows.start, rows.end.checked_sub(rows.start)?]].concat();
    own.dims(StoredForm { settings: &settings, ..form }).ok()?;
    Some((own, settings))
}

impl Scheme for RowsOf {
    fn name(&self) -> &'static str {
        self.name
    }

    /// No tensor is stored so: an adapter's edit makes rows of a matrix.
    fn claim(&self, _: usize, _: &Tensors<'_>) -> Option<Claim> {
        None
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        self.of.layout()?;
        ALL.iter().find(|rows| rows.name == self.name).map(|rows| rows as &dyn Layout)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        self.of.encode()?;
        Err("the adapter changes some of the rows that share a scale")
    }
}

impl RowsOf {
    /// The layout and the form of the whole matrix, and the first row and the number of those that are meant.
    fn whole<'a>(&self, form: StoredForm<'a>) -> Option<(&'static dyn Layout, StoredForm<'a>, u64, u64)> {
        let [settings @ .., first, count] = form.settings else { return None };
        Some((self.of.layout()?, StoredForm { settings, ..form }, *first, *count))
    }
}

impl Layout for RowsOf {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        let (layout, whole, first, count) = self.whole(form).ok_or("rows of a matrix that is not described")?;
        let dims = layout.dims(whole)?;
        match dims[..] {
            [rows, cols] if count > 0 && first.checked_add(count).is_some_and(|end| end <= rows) => {
                Ok(vec![count, cols])
            }
            _ => Err(format!("{count} rows from {first} on of a parameter of shape {dims:?}")),
        }
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        let whole = self.whole(form);
        whole.map_or(Vec::new(), |(layout, whole, first, _)| layout.ranges(whole, first + rows.start..first + rows.end))
    }

    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        if let Some((layout, whole, first, _)) = self.whole(form) {
            layout.decode(whole, first + rows.start..first + rows.end, bytes, floats, out);
        }
    }

    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let (_, whole, first, _) = self.whole(form)?;
        let settings = [whole.settings, &[first + rows.start, rows.end - rows.start]].concat();
        self.dims(StoredForm { settings: &settings, ..form }).ok()?;
        Some((form.tensors.to_vec(), settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::scheme::stored::Stored;
    use crate::base::scheme::table::SCHEMES;
    use crate::inventory::ObjectId;
    use crate::tensor::Dtype;
    use crate::tensor::float::{self, Float};

    fn tensor(name: &str, dtype: Dtype, shape: &[u64]) -> Source {
        Source { name: name.into(), object: ObjectId(0), offset: 0, dtype, shape: shape.into() }
    }

    /// 3 rows of 5 columns in blocks of 2 x 4.
    fn stored() -> Stored {
        let tensors = vec![tensor("w", Dtype::F8_E4M3, &[3, 5]), tensor("s", Dtype::F32, &[2, 2])];
        Stored { scheme: &fp8::Fp8, tensors, settings: Ok(vec![2, 4, 3]) }
    }

    #[test]
    fn rows_that_share_a_block_with_others_are_decoded_with_its_scale() {
        let rows = stored().portion(1..3).unwrap();
        let start = rows.start().unwrap();
        assert_eq!(start.dims(), [2, 5]);
        let scales: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let floats = |float: Float, bytes: &[u8], out: &mut [f32]| float::decode(float.dtype(), bytes, out);
        let mut out = [0.0; 10];
        assert_eq!(start.ranges(0..2).iter().map(|span| span.bytes.clone()).collect::<Vec<_>>(), [5..15, 0..16]);
        start.decode(0..2, &[&[0x38; 10], &scales], &floats, &mut out);
        assert_eq!(out, [1., 1., 1., 1., 2., 3., 3., 3., 3., 4.]);
        let last = rows.portion(1..2).unwrap().start().unwrap();
        assert_eq!(last.ranges(0..1)[0].bytes, 10..15);
    }

    #[test]
    fn every_scheme_of_codes_has_a_row() {
        let others = ["plain", "opaque", "seen through bitsandbytes"];
        let codes: Vec<_> = SCHEMES.iter().map(|scheme| scheme.name()).filter(|name| !others.contains(name)).collect();
        let rows: Vec<_> = ALL.iter().map(|rows| rows.of.name()).collect();
        assert_eq!(rows, codes);
        assert!(ALL.iter().all(|rows| rows.name == format!("rows of {}", rows.of.name())));
    }

    #[test]
    fn such_a_start_is_read_back_and_none_beyond_the_matrix() {
        let start = stored().portion(1..2).unwrap().start().unwrap();
        let text = serde_json::to_string(&start).unwrap();
        assert!(text.contains("rows of fp8"));
        let again: crate::base::scheme::stored::Start = serde_json::from_str(&text).unwrap();
        assert_eq!(start, again);
        assert!(stored().portion(1..4).is_none() && stored().portion(1..1).is_none());
        let beyond = text.replace("[2,4,3,1,1]", "[2,4,3,3,1]");
        assert!(beyond != text && serde_json::from_str::<crate::base::scheme::stored::Start>(&beyond).is_err());
    }

    #[test]
    fn rows_of_one_of_several_matrices_are_rows_of_all_of_them() {
        let tensors = vec![tensor("w", Dtype::F8_E4M3, &[2, 3, 5]), tensor("s", Dtype::F32, &[2, 2, 2])];
        let stacked = Stored { scheme: &fp8::Fp8, tensors, settings: Ok(vec![2, 4, 3]) };
        let start = stacked.portion(4..6).unwrap().start().unwrap();
        assert_eq!(start.dims(), [2, 5]);
        assert_eq!(start.ranges(0..2).iter().map(|span| span.bytes.clone()).collect::<Vec<_>>(), [20..30, 16..32]);
    }
}
