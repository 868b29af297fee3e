# Sourced by what builds the extension for release. Messages of panics name source files: as seen from the project and
# from cargo's folder, not from this machine. Other flags would mean another build of everything.
export RUSTFLAGS="--remap-path-prefix=$PWD=hevlayer --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=crates"
