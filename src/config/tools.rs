//! Which tools an MCP client is given.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

/// A set of tools, each with all of the one before. A client's set only hides tools; limits are another matter.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    EnumString,
    Display,
    VariantNames,
)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
#[serde(rename_all = "lowercase")]
pub enum Toolset {
    /// Looks only: nothing is paid, opened or closed.
    Read,
    /// Pays, opens and closes too.
    Pay,
    /// Everything.
    #[default]
    All,
}
