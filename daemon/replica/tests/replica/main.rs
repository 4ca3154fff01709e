//! What `Core` and `Applier` promise together, a file for each matter: one program, since each has to be built.

mod applying;
mod common;
mod raising;
mod refusals;
mod tracing;
