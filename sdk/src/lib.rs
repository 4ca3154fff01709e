//! Tenure's Rust client.
//!
//! What is there today: the types of the REST API, so that a program that brings its own HTTP client reads and writes
//! exactly what a member does. The client itself (sessions, renewal, retries, waiting) is not built yet.
//!
//! ```
//! use tenure::api::{Code, Problem};
//!
//! let body = r#"{"type":"urn:tenure:problem:lock-held","title":"It is held by somebody else","status":409,
//!     "detail":"jobs/nightly is held","code":"lock-held","outcome":"not_applied","retry":"same"}"#;
//! let problem: Problem = serde_json::from_str(body).expect("it is a problem");
//! assert_eq!(problem.code, Code::LockHeld);
//! ```

pub use tenure_api as api;
