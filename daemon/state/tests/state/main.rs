//! What the state promises, a file for each matter: one program, since each has to be built.

mod access;
mod interventions;
mod limits;
mod model;
mod naive;
mod pages;
mod queues;
mod random;
mod repeats;
mod restored;
mod stories;
mod support;
mod versions;
