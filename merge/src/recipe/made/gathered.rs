//! A factor whose elements are picked from one vector: Uni-LoRA (Li et al. 2025, arXiv:2506.00799; PEFT's `UniLoraLayer`).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use crate::recipe::operand::Operand;
use crate::recipe::tile::{NoPlace, NoResult};
use crate::tensor::number::END_OF_PLACES;

/// `out[i, j] = vector[places[i, j]] * scales[i, j]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gathered {
    /// What is picked from.
    pub vector: Operand,
    /// The numbers of its elements. Its view is the form of the result.
    pub places: Operand,
    /// One for each.
    pub scales: Operand,
}

impl Definition for Gathered {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.vector, &self.places, &self.scales]
    }

    fn places(&self) -> Option<&Operand> {
        Some(&self.places)
    }

    fn size(&self) -> Result<Size, String> {
        let (places, scales) = (self.places.view, self.scales.view);
        if (places.rows, places.cols) != (scales.rows, scales.cols) {
            let (one, other) = (&self.places.source, &self.scales.source);
            return Err(format!(
                "{} of shape {:?} and {} of shape {:?} do not fit each other",
                one.name, one.shape, other.name, other.shape
            ));
        }
        if self.vector.view.elements() > END_OF_PLACES {
            return Err(format!("{} has more than {END_OF_PLACES} values", self.vector.source.name));
        }
        Ok(Size::one(places.rows, places.cols))
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let [vector, places, scales] = [values[0], values[1], values[2]];
        let (name, count) = (&self.places.source.name, vector.len() as u64);
        let pick = |(place, scale): (&f64, &f64)| Ok(vector[NoPlace::check(name, *place, count)? as usize] * scale);
        places.iter().zip(scales).map(pick).collect()
    }

    fn effort(&self) -> u64 {
        self.places.view.elements()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    #[test]
    fn elements_are_picked_and_scaled() {
        let source = |name: &str, shape: &[u64]| Source {
            name: name.into(),
            object: ObjectId(0),
            offset: 0,
            dtype: Dtype::F32,
            shape: shape.to_vec(),
        };
        let gathered = Gathered {
            vector: Operand::vector(source("theta", &[3])),
            places: Operand::matrix(source("places", &[2, 2])),
            scales: Operand::matrix(source("scales", &[2, 2])),
        };
        let theta = [1.0, 10.0, 100.0];
        let made = gathered.make(&[&theta, &[2.0, 0.0, 1.0, 1.0], &[1.0, 2.0, 3.0, 0.5]]).unwrap();
        assert_eq!(made, [100.0, 2.0, 30.0, 5.0]);
        let error = gathered.make(&[&theta, &[2.0, 0.0, 1.0, 3.0], &[1.0; 4]]).unwrap_err();
        assert_eq!(error, NoPlace { tensor: "places".into(), place: 3.0, of: 3 }.into());
    }
}
