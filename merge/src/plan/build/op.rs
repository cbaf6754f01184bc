//! The operations of recipes, each made in one place.

use crate::adapter::delta::{self, Factors};
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::{
    Add, Along, Circulant, Delta, Dense, Dora, DoraNorm, Grid, Hadamard, Kronecker, LowRank, Modulate, Norm, Op,
    Operand, Round, Scale, SetRows, Sparse,
};
use crate::tensor::float::Float;

/// `w += delta`.
pub(super) fn add(delta: Delta) -> Op {
    Op::Add(Add(delta))
}

/// `w += w ∘ delta`.
pub(super) fn modulate(delta: Delta) -> Op {
    Op::Modulate(Modulate(delta))
}

/// `w = (magnitude / norm) * (w + delta)`.
pub(super) fn dora(delta: Delta, magnitude: Operand, norm: Norm, of: DoraNorm) -> Op {
    Op::Dora(Dora { delta, magnitude, norm, of })
}

/// `w += scale * source`.
pub(super) fn add_scaled(source: Source, scale: f32) -> Op {
    add(Delta::Dense(Dense { tensor: Operand::matrix(source), scale }))
}

/// `w[rows[i], :] = source[i, :]`.
pub(super) fn set_rows(rows: Vec<u64>, source: Source) -> Op {
    Op::SetRows(SetRows { rows, source: Operand::matrix(source) })
}

/// `w *= gains`, one gain for each row or each column.
pub(super) fn multiply(gains: Source, along: Along) -> Op {
    Op::Scale(Scale { gains: Operand::vector(gains), along })
}

/// `w = fp32(round(w))`.
pub(super) fn round(to: Float) -> Op {
    Op::Round(Round { to })
}

/// A delta as it is laid onto a weight. `by_columns` tells that the weight is stored as [in, out]: the delta is then
/// (B @ A)^T = A^T @ B^T.
pub(super) fn delta(delta: delta::Delta, by_columns: bool, scale: f32) -> Delta {
    // The factors as rows x rank and rank x columns of the weight.
    let pair = |outputs: Source, inputs: Source| match by_columns {
        false => (Operand::matrix(outputs), Operand::matrix(inputs)),
        true => (Operand::transposed(inputs), Operand::transposed(outputs)),
    };
    match delta.factors {
        Factors::LowRank { a, b, inner } => {
            let (left, right) = pair(b, a);
            Delta::LowRank(LowRank { left, right: Operand { row_gains: inner, ..right }, scale })
        }
        Factors::Views { left, right } | Factors::Gained { b: left, a: right } => {
            Delta::LowRank(LowRank { left, right, scale })
        }
        Factors::Made { delta: straight, turned } => scaled(*turned.filter(|_| by_columns).unwrap_or(straight), scale),
        Factors::Hadamard { first, second } => {
            Delta::Hadamard(Hadamard { first: pair(first.0, first.1), second: pair(second.0, second.1), scale })
        }
    }
}

/// A delta of matrices that are made, with another scale.
fn scaled(delta: Delta, scale: f32) -> Delta {
    match delta {
        Delta::Kronecker(it) => Delta::Kronecker(Box::new(Kronecker { scale, ..*it })),
        Delta::Grid(it) => Delta::Grid(Box::new(Grid { scale, ..*it })),
        Delta::Circulant(it) => Delta::Circulant(Box::new(Circulant { scale, ..*it })),
        Delta::Sparse(it) => Delta::Sparse(Box::new(Sparse { scale, ..*it })),
        Delta::LowRank(it) => Delta::LowRank(LowRank { scale, ..it }),
        Delta::Hadamard(it) => Delta::Hadamard(Hadamard { scale, ..it }),
        Delta::Dense(it) => Delta::Dense(Dense { scale, ..it }),
    }
}

/// The scale of a delta: the adapter's own times its weight, in fp32.
///
/// # Errors
/// If fp32 cannot hold it.
pub(super) fn scale(module: &str, own: f64, weight: f64) -> Result<f32> {
    let product = own * weight;
    let rounded = product as f32;
    if rounded.is_finite() {
        return Ok(rounded);
    }
    Err(Error::new(
        Kind::BadConfig,
        format!("the delta of {module} would be scaled by {product:e} (alpha and rank give {own:e}, the weight is {weight:e}), which is not finite in fp32"),
    )
    .hint("check lora_alpha and alpha_pattern in adapter_config.json, and the weight"))
}
