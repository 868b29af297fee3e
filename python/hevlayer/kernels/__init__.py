"""The only door to the Rust extension: typed, documented, and each kernel with a slow twin in `reference`."""
