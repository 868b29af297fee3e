//! The document cache on Aerospike: marks, settles and fills rows by compare-and-set of a record's generation.
//!
//! * [`layout`] is how ids and namespaces lie in sets, keys and bins.
//! * [`state`] is what a mark, a settle and a fill do to one id. Pure.
//! * [`store`] is the client: batches in, answers checked one by one out.
//! * [`guard`] tells when the cluster may have lost what it acknowledged.
//! * [`heads`] is the namespace's own record: its epoch and the writes whose ids are not known.
//! * [`bridge`] runs operations and hands their ends over.
//! * [`engine`] joins them; its operations are in `reads`, `fills`,
//!   `writes` and `facts`.
//! * [`scan`] reads every row of a namespace; [`held`] is what it brought.
//!
//! Correctness rests on three facts. Every change is carried out only on the very record that it was decided on, so an
//! answer that is late, lost or repeated changes nothing that it should not. Every look-up reads the namespace's record
//! in the same call as the row, so it sees each mark and each new epoch that was acknowledged before it began. And an
//! id that a write has touched keeps a record for longer than any read takes, so that absent means untouched.

pub mod bridge;
pub mod engine;
pub mod error;
pub mod facts;
pub mod fills;
pub mod guard;
pub mod heads;
pub mod held;
pub mod layout;
mod reads;
pub mod scan;
pub mod state;
pub mod store;
pub mod tallies;
pub mod writes;
