//! local-cloud

fn main() {}
