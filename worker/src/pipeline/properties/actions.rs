//! What recipes may consist of.

use proptest::prelude::*;
use shardfuse_merge::recipe::{Along, DoraNorm};
use shardfuse_merge::tensor::float::Float;

/// How an operand lies in its tensor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    Plain,
    Transposed,
    /// A slice of a larger tensor, such as one expert of a stack.
    Slice,
    /// Every second row of a larger tensor, such as the gate of a fused projection.
    Interleaved,
    /// Every second column of the transpose.
    Spread,
    /// Every third column, as B of stacked experts has those of one expert.
    Columns,
}

pub(super) fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![
        Just(Layout::Plain),
        Just(Layout::Transposed),
        Just(Layout::Slice),
        Just(Layout::Interleaved),
        Just(Layout::Spread),
        Just(Layout::Columns)
    ]
}

#[derive(Debug, Clone)]
pub(super) enum Term {
    LowRank {
        rank: u64,
        layouts: (Layout, Layout),
        gains: (bool, bool),
    },
    Hadamard {
        ranks: (u64, u64),
        layouts: (Layout, Layout),
    },
    Dense(Layout),
    /// An outer matrix or none, an inner one, and numbers that choose among the divisors of rows and columns.
    Kronecker {
        outer: Option<Way>,
        inner: Way,
        chosen: (u64, u64),
    },
    /// A number chooses among the common divisors of rows and columns.
    Grid {
        rank: u64,
        chosen: u64,
        down: bool,
        layouts: (Layout, Layout),
    },
    Normalised {
        rank: u64,
        layouts: (Layout, Layout),
    },
    Circulant {
        chosen: u64,
        layout: Layout,
    },
    /// Numbers that choose rows and columns; some may be chosen twice.
    Sparse {
        places: Vec<(u64, u64)>,
    },
}

/// How a matrix is made.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Whole(Layout),
    Product { rank: u64, layouts: (Layout, Layout) },
    Tucker { rank: u64, layout: Layout },
}

#[derive(Debug, Clone)]
pub(super) enum Action {
    Add(Term),
    DoraRows(Term, DoraNorm),
    DoraColumns(Term, DoraNorm),
    SetRows(Layout),
    Scale(Along),
    Round(Float),
    Mix { along: Along, chosen: u64, shared: bool, turn: Turn, shuffled: bool },
    Reflect { rank: u64, orthogonal: bool, layout: Layout },
    Modulate(Term),
}

/// How the blocks of a mix are made.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    Stored(Layout),
    Upper { terms: Option<u32>, limit: Option<f64>, transposed: bool },
    Square { transposed: bool },
}

pub(super) fn terms() -> impl Strategy<Value = Term> {
    let both = || (layouts(), layouts());
    prop_oneof![
        3 => (1..40u64, both(), any::<(bool, bool)>())
            .prop_map(|(rank, layouts, gains)| Term::LowRank { rank, layouts, gains }),
        2 => ((1..9u64, 1..9u64), both()).prop_map(|(ranks, layouts)| Term::Hadamard { ranks, layouts }),
        1 => layouts().prop_map(Term::Dense),
        2 => (prop::option::of(ways()), ways(), (0..9u64, 0..9u64))
            .prop_map(|(outer, inner, chosen)| Term::Kronecker { outer, inner, chosen }),
        1 => (1..9u64, 0..9u64, any::<bool>(), both())
            .prop_map(|(rank, chosen, down, layouts)| Term::Grid { rank, chosen, down, layouts }),
        1 => (1..9u64, both()).prop_map(|(rank, layouts)| Term::Normalised { rank, layouts }),
        1 => (0..9u64, layouts()).prop_map(|(chosen, layout)| Term::Circulant { chosen, layout }),
        1 => prop::collection::vec((0..10_000u64, 0..10_000u64), 1..40).prop_map(|places| Term::Sparse { places }),
    ]
}

pub(super) fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        layouts().prop_map(Way::Whole),
        (1..6u64, (layouts(), layouts())).prop_map(|(rank, layouts)| Way::Product { rank, layouts }),
        (1..4u64, layouts()).prop_map(|(rank, layout)| Way::Tucker { rank, layout }),
    ]
}

pub(super) fn actions() -> impl Strategy<Value = Action> {
    let of = || prop_oneof![Just(DoraNorm::Standing), Just(DoraNorm::Original)];
    prop_oneof![
        3 => terms().prop_map(Action::Add),
        2 => (terms(), of()).prop_map(|(term, of)| Action::DoraRows(term, of)),
        2 => (terms(), of()).prop_map(|(term, of)| Action::DoraColumns(term, of)),
        1 => layouts().prop_map(Action::SetRows),
        1 => alongs().prop_map(Action::Scale),
        2 => prop_oneof![Just(Float::F32), Just(Float::F16), Just(Float::BF16)].prop_map(Action::Round),
        2 => (alongs(), 0..9u64, any::<bool>(), turns(), any::<bool>())
            .prop_map(|(along, chosen, shared, turn, shuffled)| Action::Mix { along, chosen, shared, turn, shuffled }),
        1 => (1..5u64, any::<bool>(), layouts())
            .prop_map(|(rank, orthogonal, layout)| Action::Reflect { rank, orthogonal, layout }),
        1 => terms().prop_map(Action::Modulate),
    ]
}

pub(super) fn alongs() -> impl Strategy<Value = Along> {
    prop_oneof![Just(Along::Rows), Just(Along::Columns)]
}

pub(super) fn turns() -> impl Strategy<Value = Turn> {
    let terms = prop::option::of(1..7u32);
    prop_oneof![
        layouts().prop_map(Turn::Stored),
        (terms, prop::option::of(0.01..1.0f64), any::<bool>()).prop_map(|(terms, limit, transposed)| Turn::Upper {
            terms,
            limit,
            transposed
        }),
        any::<bool>().prop_map(|transposed| Turn::Square { transposed }),
    ]
}
