//! A factor whose pieces are mixtures of a few vectors of a bank: VB-LoRA (Li et al. 2024, arXiv:2405.15179; PEFT's `VBLoRALayer`).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use super::functions::exp;
use crate::recipe::operand::Operand;
use crate::recipe::tile::{NoPlace, NoResult};
use crate::tensor::number::END_OF_PLACES;

/// A row of weights gives `sum of weight * vector`, a piece of a row of the factor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    /// [vectors, length].
    pub bank: Operand,
    /// How the weights are stored; a row is a piece.
    pub weights: Weights,
    /// Rows of the factor.
    pub rank: u64,
    /// Whether pieces of the same place in all rows follow each other, and not those of a row.
    pub by_place: bool,
    /// Whether it is the transpose of the factor.
    pub transposed: bool,
}

/// Weights of vectors, pieces x number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Weights {
    /// A logit for each vector: the softmax of the largest ones are the weights. Of equal ones the first counts.
    Logits {
        /// [pieces, vectors].
        logits: Operand,
        /// How many count.
        top: u64,
    },
    /// The vectors that count, and their weights but for the last one, which is what they lack to 1.
    Top {
        /// [pieces, top], numbers of vectors.
        places: Operand,
        /// [pieces, top - 1]; `None` if that is none.
        weights: Option<Operand>,
    },
}

impl Mixture {
    fn pieces(&self) -> u64 {
        match &self.weights {
            Weights::Logits { logits, .. } => logits.view.rows,
            Weights::Top { places, .. } => places.view.rows,
        }
    }

    /// Number and weight of each vector of a piece.
    fn weights(&self, piece: usize, values: &[&[f64]]) -> Result<Vec<(usize, f64)>, NoResult> {
        match &self.weights {
            Weights::Logits { logits, top } => {
                let count = logits.view.cols as usize;
                let row = &values[1][piece * count..][..count];
                let mut order: Vec<usize> = (0..count).collect();
                order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
                order.truncate(*top as usize);
                let most = order.first().map_or(0.0, |at| row[*at]);
                let each: Vec<f64> = order.iter().map(|at| exp(row[*at] - most)).collect();
                let sum: f64 = each.iter().sum();
                Ok(order.into_iter().zip(each).map(|(at, v)| (at, v / sum)).collect())
            }
            Weights::Top { places, weights } => {
                let top = places.view.cols as usize;
                let but_one = weights.as_ref().map_or(&[][..], |_| &values[2][piece * (top - 1)..][..top - 1]);
                let last = 1.0 - but_one.iter().sum::<f64>();
                let all = but_one.iter().copied().chain([last]);
                let numbers = values[1][piece * top..][..top].iter();
                let check = |at: &f64| NoPlace::check(&places.source.name, *at, self.bank.view.rows);
                numbers.zip(all).map(|(at, weight)| Ok((check(at)? as usize, weight))).collect()
            }
        }
    }
}

impl Definition for Mixture {
    fn operands(&self) -> Vec<&Operand> {
        let mut operands = vec![&self.bank];
        match &self.weights {
            Weights::Logits { logits, .. } => operands.push(logits),
            Weights::Top { places, weights } => {
                operands.push(places);
                operands.extend(weights);
            }
        }
        operands
    }

    fn places(&self) -> Option<&Operand> {
        match &self.weights {
            Weights::Logits { .. } => None,
            Weights::Top { places, .. } => Some(places),
        }
    }

    fn size(&self) -> Result<Size, String> {
        let bank = self.bank.view;
        let fits = match &self.weights {
            Weights::Logits { logits, top } => logits.view.cols == bank.rows && (1..=bank.rows).contains(top),
            Weights::Top { places, weights } => match weights {
                None => places.view.cols == 1,
                Some(weights) => weights.view.rows == places.view.rows && weights.view.cols + 1 == places.view.cols,
            },
        };
        let pieces = self.pieces();
        if !fits || self.rank == 0 || !pieces.is_multiple_of(self.rank) || bank.rows > END_OF_PLACES {
            let shown = |o: &&Operand| format!("{} of shape {:?}", o.source.name, o.source.shape);
            let all: Vec<String> = self.operands().iter().map(shown).collect();
            return Err(format!("{} give no factor of rank {}", all.join(", "), self.rank));
        }
        let width = (pieces / self.rank).checked_mul(bank.cols).ok_or("a factor that is too large")?;
        Ok(if self.transposed { Size::one(width, self.rank) } else { Size::one(self.rank, width) })
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let (rank, length) = (self.rank as usize, self.bank.view.cols as usize);
        let places = self.pieces() as usize / rank;
        let mut out = vec![0.0; rank * places * length];
        for piece in 0..rank * places {
            let (row, place) =
                if self.by_place { (piece % rank, piece / rank) } else { (piece / places, piece % places) };
            let weights = self.weights(piece, values)?;
            for at in 0..length {
                let value =
                    weights.iter().fold(0.0, |sum, (vector, weight)| sum + weight * values[0][vector * length + at]);
                let column = place * length + at;
                out[if self.transposed { column * rank + row } else { row * places * length + column }] = value;
            }
        }
        Ok(out)
    }

    fn effort(&self) -> u64 {
        self.operands().iter().map(|operand| operand.view.elements()).sum::<u64>() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    fn operand(name: &str, shape: [u64; 2]) -> Operand {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        Operand::matrix(Source { name, object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape })
    }

    /// Two rows of two pieces; a bank of three vectors of length 2.
    fn mixture(weights: Weights) -> Mixture {
        Mixture { bank: operand("bank", [3, 2]), weights, rank: 2, by_place: false, transposed: false }
    }

    const BANK: [f64; 6] = [1.0, 2.0, 10.0, 20.0, 100.0, 200.0];

    fn top() -> Weights {
        Weights::Top { places: operand("places", [4, 2]), weights: Some(operand("weights", [4, 1])) }
    }

    #[test]
    fn a_piece_is_its_vectors_by_their_weights_and_the_last_weight_is_what_lacks() {
        let values: [&[f64]; 3] = [&BANK, &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 2.0, 2.0], &[0.5, 0.25, 1.0, 0.5]];
        let made = mixture(top()).make(&values).unwrap();
        assert_eq!(made, [5.5, 11.0, 25.75, 51.5, 10.0, 20.0, 100.0, 200.0]);
        let turned = Mixture { transposed: true, ..mixture(top()) }.make(&values).unwrap();
        assert_eq!(turned, [5.5, 10.0, 11.0, 20.0, 25.75, 100.0, 51.5, 200.0]);
        let by_place = Mixture { by_place: true, ..mixture(top()) }.make(&values).unwrap();
        assert_eq!(by_place, [5.5, 11.0, 10.0, 20.0, 25.75, 51.5, 100.0, 200.0]);
    }

    #[test]
    fn the_largest_logits_give_the_weights() {
        let logits = Weights::Logits { logits: operand("logits", [4, 3]), top: 2 };
        let third = 3f64.ln();
        let values: [&[f64]; 2] = [&BANK, &[third, -9.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 9e3, -5.0, 0.0, third]];
        let made = mixture(logits).make(&values).unwrap();
        let expected = [25.75, 51.5, 5.5, 11.0, 100.0, 200.0, 77.5, 155.0];
        for (have, expected) in made.iter().zip(expected) {
            assert!((have - expected).abs() < 1e-13 * expected, "{made:?}");
        }
    }

    #[test]
    fn a_number_beyond_the_bank_is_refused() {
        let values: [&[f64]; 3] = [&BANK, &[0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[0.5; 4]];
        let error = mixture(top()).make(&values).unwrap_err();
        assert_eq!(error, NoPlace { tensor: "places".into(), place: 3.0, of: 3 }.into());
    }
}
