//! What statistics, which earlier tasks reduced, make of an operand.

use std::sync::Arc;

use shardfuse_merge::recipe::Operand;
use shardfuse_merge::statistic::{Kind, StatisticId, numbers};

use super::reader::Reader;
use crate::Failure;

impl Reader<'_> {
    /// What a statistic makes of an operand.
    pub async fn derive(self, id: StatisticId, operand: &Operand) -> Result<Arc<Vec<f32>>, Failure> {
        let value = self.statistics.find(id)?;
        let key = (value.digest.clone(), self.inputs.version(operand.source.object)?, operand.source.offset);
        let (kind, cols) = (Kind::ColumnSquares, operand.view.rows);
        let load = async {
            let (raw, values) = futures::try_join!(
                self.inputs.read_checked(&value.url, kind.bytes(cols), &value.digest),
                self.rows(operand, 0..cols)
            )?;
            kind.derive(&operand.source.name, &values, &numbers(&raw)).map_err(Failure::from)
        };
        self.shared.derived.get(key, cols * 4, load).await
    }
}
