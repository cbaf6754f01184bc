//! Elementary functions in f64 from additions, multiplications and divisions alone, so that all machines get the same bits: those of
//! the standard library come from the system.

/// The upper bits of ln 2, whose products with whole numbers up to 2^20 are exact, and the rest of it.
const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];

/// e^x for x <= 0. Off by two units in the last place at the most; 0 below -700.
pub fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let halvings = (x / (LN_2[0] + LN_2[1])).round_ties_even();
    let rest = x - halvings * LN_2[0] - halvings * LN_2[1];
    // Taylor's series: |rest| is below 0.35, and the next term below 2^-60.
    let series = (1..=16).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    // A power of two by its bits; -1010 at the least.
    series * f64::from_bits(((1023 + halvings as i64) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponential_is_that_of_the_system_but_for_its_last_bits() {
        for i in 0..70_000 {
            let x = f64::from(i) * -0.01 - f64::from(i % 7) * 1e-5;
            let (have, expected) = (exp(x), x.exp());
            assert!((have - expected).abs() <= 4.0 * f64::EPSILON * expected, "{x}: {have:e}, {expected:e}");
        }
        assert_eq!([exp(0.0), exp(-0.0), exp(-701.0)], [1.0, 1.0, 0.0]);
    }
}
