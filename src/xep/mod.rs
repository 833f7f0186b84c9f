//! One room per extension; [`ALL`] is the one registry.

use crate::hub::extension::Extension;

/// All extensions, in the order in which their hooks run.
pub const ALL: &[Extension] = &[crate::hub::ROSTER];
