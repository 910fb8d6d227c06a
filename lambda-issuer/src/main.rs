//! lambda-issuer

fn main() {}
