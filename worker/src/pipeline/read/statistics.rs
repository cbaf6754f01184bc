//! What statistics, which earlier tasks reduced, make of an operand, or say of a start.

use std::sync::Arc;

use bytes::Bytes;
use shardfuse_merge::base::scheme::claim::Whole;
use shardfuse_merge::recipe::{Operand, Start};
use shardfuse_merge::statistic::{Kind, StatisticId, gains, numbers, whole};

use super::reader::Reader;
use crate::Failure;

/// Bytes of a sum.
const SUM: u64 = 8;

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
            gains(&operand.source.name, &values, &numbers(&raw)).map_err(Failure::from)
        };
        self.shared.derived.get(key, cols * 4, load).await
    }

    /// What is known of all values of a parameter.
    pub async fn whole(self, id: StatisticId) -> Result<Whole, Failure> {
        let value = self.statistics.find(id)?;
        let raw = self.inputs.read_checked(&value.url, Kind::Range.bytes(1), &value.digest).await?;
        Ok(whole(&numbers(&raw)))
    }

    /// The value of the statistic that decoding a start needs.
    pub async fn of_start(self, start: &Start) -> Result<Option<Bytes>, Failure> {
        let Some(id) = start.statistic() else { return Ok(None) };
        let value = self.statistics.find(id)?;
        let read = self.inputs.read_checked(&value.url, SUM, &value.digest).await?;
        Ok(Some(Bytes::from(read)))
    }
}
