//! A Kronecker product: LoKr (Yeh et al. 2023, arXiv:2309.14859), and a matrix that is repeated: MiSS.

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::inventory::Source;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::made::{Made, Matrices, Size};
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, Tile};

/// `delta[i, j] = scale * outer[i / high, j / wide] * inner[i % high, j % wide]`, where inner is [high, wide]. Without an outer
/// matrix the inner one is repeated to the right and down, and the last copy may be cut off.
///
/// In fp32 the product of the two is rounded and joined by [`add_product`](crate::recipe::arithmetic::add_product), or the inner
/// value alone by [`add_scaled`](crate::recipe::arithmetic::add_scaled).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kronecker {
    /// A factor for each copy of the inner matrix.
    pub outer: Option<Made>,
    /// What is repeated.
    pub inner: Made,
    /// alpha / r times the adapter's weight, rounded to fp32 once.
    pub scale: f32,
}

impl Kronecker {
    /// The size of the inner matrix.
    fn size(&self) -> Size {
        self.inner.size().unwrap_or(Size::one(1, 1))
    }

    /// Columns of the outer matrix.
    fn across(&self) -> usize {
        self.outer.as_ref().and_then(|outer| outer.size().ok()).map_or(1, |size| size.cols as usize)
    }
}

/// The values `columns` of row `row`: those of the outer matrix, if there is one, and those of the inner.
fn row<T: Copy>(
    outer: Option<(&[T], usize)>,
    (inner, size): (&[T], Size),
    row: u64,
    columns: std::ops::Range<u64>,
    (a, b): (&mut Vec<T>, &mut Vec<T>),
) {
    let wide = size.cols as usize;
    let inner = &inner[(row % size.rows) as usize * wide..][..wide];
    let outer = outer.map(|(outer, across)| &outer[(row / size.rows) as usize * across..][..across]);
    a.clear();
    b.clear();
    let mut at = columns.start;
    while at < columns.end {
        let (copy, from) = ((at / size.cols) as usize, (at % size.cols) as usize);
        let length = (wide - from).min((columns.end - at) as usize);
        b.extend_from_slice(&inner[from..from + length]);
        if let Some(outer) = outer {
            a.resize(b.len(), outer[copy]);
        }
        at += length as u64;
    }
}

impl Definition for Kronecker {
    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }

    fn matrices(&self) -> Vec<Matrices<'_>> {
        self.outer.iter().chain([&self.inner]).map(Matrices::plain).collect()
    }

    fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        let inner = self.inner.size()?;
        let outer = self.outer.as_ref().map(Made::size).transpose()?;
        let of = |a: u64, b: u64, whole: u64| a.checked_mul(b) == Some(whole);
        let fits = outer.is_none_or(|outer| {
            outer.count == 1 && of(outer.rows, inner.rows, rows) && of(outer.cols, inner.cols, cols)
        });
        if fits && inner.count == 1 {
            return Ok(());
        }
        Err(format!("a Kronecker product of {outer:?} and {inner:?} is no {rows} x {cols}"))
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn inner(&self) -> Vec<(&Source, u64, u64)> {
        Vec::new()
    }

    fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]) {
        let (outer, inner) = match values {
            [outer, inner] => (Some((outer.plain(), self.across())), inner.plain()),
            _ => (None, values[0].plain()),
        };
        let (size, columns) = (self.size(), tile.column..tile.column + tile.cols as u64);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (i, w) in tile.w.chunks_exact_mut(tile.cols).enumerate() {
            row(outer, (inner, size), tile.first + i as u64, columns.clone(), (&mut a, &mut b));
            match outer {
                Some(_) => arithmetic.add_product(w, &a, &b, self.scale),
                None => arithmetic.add_scaled(w, &b, self.scale),
            }
        }
    }

    fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]) {
        let size = self.size();
        for (w, i) in tile.w.chunks_exact_mut(tile.cols).zip(tile.rows) {
            for (w, j) in w.iter_mut().zip(tile.column..) {
                let inner = values[values.len() - 1][((i % size.rows) * size.cols + j % size.cols) as usize];
                let at = (i / size.rows) as usize * self.across() + (j / size.cols) as usize;
                let outer = if self.outer.is_some() { values[0][at] } else { 1.0 };
                *w += f64::from(self.scale) * outer * inner;
            }
        }
    }

    fn cost(&self) -> u64 {
        2
    }
}
