//! Double quantisation: the scales of blocks are quantised themselves, less their mean.
//!
//! bitsandbytes (0.50, `functional.py`, `quantize_4bit` with `compress_statistics`) takes the mean of all scales of a weight from each,
//! and quantises what is left in runs of 256 to a dynamic map of 8 bits. Codes are those of its kernels for a card (`csrc/kernels.cu`,
//! `kQuantizeBlockwise`, `dQuantize`): the nearest one. Its CPU path looks codes up in a table of 65,536 places, and takes a neighbour for
//! some values near a limit.

use std::sync::OnceLock;

/// Scales that are quantised together.
pub(super) const RUN: usize = 256;

/// What the scales of a run become.
pub(super) fn again(scales: &mut [f32], mean: f32) {
    scales.iter_mut().for_each(|scale| *scale -= mean);
    let largest = scales.iter().fold(0.0_f32, |largest, v| largest.max(v.abs()));
    let reciprocal = 1.0 / largest;
    for scale in scales {
        let code = if largest > 0.0 { nearest(*scale * reciprocal) } else { 0.0 };
        *scale = code * largest + mean;
    }
}

/// The value of the map that is nearest to a number from -1 to 1.
fn nearest(x: f32) -> f32 {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    let map = MAP.get_or_init(map);
    let above = map.partition_point(|value| *value < x).min(map.len() - 1);
    let below = above.saturating_sub(1);
    if x > (map[below] + map[above]) * 0.5 { map[above] } else { map[below] }
}

/// The values of the map, from the smallest to the largest.
fn map() -> [f32; 256] {
    std::array::from_fn(|at| match at {
        0..127 => -SIZES[126 - at],
        127 => 0.0,
        255 => 1.0,
        _ => SIZES[at - 128],
    })
}

/// The sizes of the map: `create_dynamic_map()`, each with both signs. Beside them it has 0 and 1.
const SIZES: [f32; 127] = [
    0.000_000_550_000_04,
    0.000_003_250_000_2,
    0.000_007_75,
    0.000_021_249_998,
    0.000_043_75,
    0.000_066_25,
    0.000_088_75,
    0.000_156_250_01,
    0.000_268_750_04,
    0.000_381_250_02,
    0.000_493_750_03,
    0.000_606_250_1,
    0.000_718_750_06,
    0.000_831_25,
    0.000_943_750_1,
    0.001_281_249_9,
    0.001_843_75,
    0.002_406_25,
    0.002_968_75,
    0.003_531_249_7,
    0.004_093_75,
    0.004_656_249_7,
    0.005_218_750_3,
    0.005_781_25,
    0.006_343_75,
    0.006_906_25,
    0.007_468_75,
    0.008_031_25,
    0.008_593_75,
    0.009_156_249,
    0.009_718_75,
    0.011_406_25,
    0.014_218_75,
    0.017_031_25,
    0.019_843_752,
    0.022_656_25,
    0.025_468_75,
    0.028_281_251,
    0.031_093_75,
    0.033_906_25,
    0.036_718_752,
    0.039_531_25,
    0.042_343_747,
    0.045_156_25,
    0.047_968_75,
    0.050_781_25,
    0.053_593_75,
    0.056_406_25,
    0.059_218_753,
    0.062_031_25,
    0.064_843_75,
    0.067_656_256,
    0.070_468_746,
    0.073_281_25,
    0.076_093_75,
    0.078_906_25,
    0.081_718_76,
    0.084_531_25,
    0.087_343_75,
    0.090_156_25,
    0.092_968_754,
    0.095_781_26,
    0.098_593_75,
    0.107_031_256,
    0.121_093_75,
    0.135_156_24,
    0.149_218_75,
    0.163_281_25,
    0.177_343_76,
    0.191_406_25,
    0.205_468_74,
    0.219_531_25,
    0.233_593_75,
    0.247_656_24,
    0.261_718_75,
    0.275_781_27,
    0.289_843_74,
    0.303_906_26,
    0.317_968_73,
    0.332_031_25,
    0.346_093_74,
    0.360_156_24,
    0.374_218_76,
    0.388_281_23,
    0.402_343_75,
    0.416_406_24,
    0.430_468_74,
    0.444_531_26,
    0.458_593_73,
    0.472_656_25,
    0.486_718_7,
    0.500_781_24,
    0.514_843_7,
    0.528_906_2,
    0.542_968_75,
    0.557_031_3,
    0.571_093_8,
    0.585_156_26,
    0.599_218_7,
    0.613_281_25,
    0.627_343_8,
    0.641_406_3,
    0.655_468_76,
    0.669_531_2,
    0.683_593_75,
    0.697_656_3,
    0.711_718_8,
    0.725_781_26,
    0.739_843_7,
    0.753_906_25,
    0.767_968_8,
    0.782_031_24,
    0.796_093_76,
    0.810_156_2,
    0.824_218_75,
    0.838_281_3,
    0.852_343_74,
    0.866_406_26,
    0.880_468_7,
    0.894_531_25,
    0.908_593_8,
    0.922_656_24,
    0.936_718_76,
    0.950_781_2,
    0.964_843_75,
    0.978_906_3,
    0.992_968_74,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_in_order_and_a_value_gets_the_nearest() {
        let map = map();
        assert!(map.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((map[0], map[127], map[254], map[255]), (-0.992_968_74, 0.0, 0.992_968_74, 1.0));
        assert!(map.iter().all(|value| nearest(*value) == *value));
        let between = (map[200] + map[201]) * 0.5;
        assert_eq!((nearest(between), nearest(between.next_up())), (map[200], map[201]));
        assert_eq!((nearest(-1.0), nearest(1.0)), (map[0], 1.0));
    }

    #[test]
    fn scales_are_a_value_of_the_map_from_their_mean() {
        let mut scales = [3.0, 1.0, 2.0, 1.5];
        again(&mut scales, 2.0);
        assert_eq!(scales, [3.0, 2.0 - 0.992_968_74, 2.0, 2.0 + nearest(-0.5)]);
        let mut below = [0.0, 2.0];
        again(&mut below, 1.5);
        assert_eq!(below, [1.5 - 0.992_968_74 * 1.5, 1.5 + nearest(1.0 / 3.0) * 1.5], "the farthest lies below");
        let mut equal = [0.25; 3];
        again(&mut equal, 0.25);
        assert_eq!(equal, [0.25; 3]);
    }
}
