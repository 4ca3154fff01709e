//! Does nothing: a package with a build script has an `OUT_DIR`, by which the daemon's harness finds what was built. The
//! program of a documented example lies in a temporary directory and cannot tell.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
