//! `--dora-norm`: the text of [`DoraNorm`].

use super::named::named;
use crate::recipe::DoraNorm;

named!(DoraNorm { Standing = "standing", Original = "original" });
