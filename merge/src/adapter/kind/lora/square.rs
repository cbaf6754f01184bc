//! Which dimension of a square stacked parameter PEFT took for the inputs.

/// What a release of PEFT did with a parameter [experts, x, y].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Square {
    /// `x` are the inputs, whatever the module says: 0.17 and 0.18.
    InputsFirst,
    /// `x` are the inputs unless the module is transposed: 0.19.0.
    Inverted,
    /// `x` are the inputs if the module is transposed: 0.19.1 and later.
    ByModule,
}

impl Square {
    /// By `peft_version`, which releases before 0.18 did not write.
    pub(super) fn of(version: Option<&str>) -> Square {
        let mut numbers = version.unwrap_or("0").split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        match (next(), next(), next()) {
            (0, ..=18, _) => Square::InputsFirst,
            (0, 19, 0) => Square::Inverted,
            _ => Square::ByModule,
        }
    }

    /// Whether `x` are the inputs.
    pub(super) fn inputs_first(self, transposed: bool) -> bool {
        match self {
            Square::InputsFirst => true,
            Square::Inverted => !transposed,
            Square::ByModule => transposed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_differ() {
        for (version, straight, transposed) in [
            (None, true, true),
            (Some("0.17.1"), true, true),
            (Some("0.18.1"), true, true),
            (Some("0.19.0"), true, false),
            (Some("0.19.1"), false, true),
            (Some("0.21.2"), false, true),
            (Some("1.0.0"), false, true),
        ] {
            let square = Square::of(version);
            assert_eq!((square.inputs_first(false), square.inputs_first(true)), (straight, transposed), "{version:?}");
        }
    }
}
