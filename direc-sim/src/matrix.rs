//! Every NAT against every NAT, over many seeds: how often a direct path comes to be, how soon, and whether that is what
//! the oracle promises.
//!
//! Data goes one way: a [`Plan`] has cells, [`run_all`] gives their samples, a [`Matrix`] says what they come to, and
//! [`text`] and [`page()`] show it.

mod limits;
mod page;
mod plan;
mod report;
pub mod statistics;
pub mod text;
mod trial;

pub use limits::{Best, Class, Limit};
pub use page::page;
pub use plan::{Cell, Condition, KINDS, Kind, Plan, Start};
pub use report::{ClassRow, Figures, Matrix, Report};
pub use trial::{Sample, run_all};
