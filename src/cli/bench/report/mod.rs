//! How figures are presented.
//!
//! ```text
//! output        where figures go, and in which format; the arguments for it
//! table         figures as a table for people
//! json          figures as a JSON object for programs
//! page          figures as an HTML page
//! charts        the charts of the page
//! axis          the axes of charts
//! rows          the rows that table and page have in common
//! description   what load was asked for, in words
//! run_info      when, where and how the command ran
//! ```
//!
//! It takes figures from `measure`, and knows nothing of what made the load.

mod axis;
mod charts;
pub(crate) mod description;
pub(crate) mod json;
pub(crate) mod output;
pub(crate) mod page;
mod rows;
pub(crate) mod run_info;
pub(crate) mod table;
