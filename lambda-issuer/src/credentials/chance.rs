//! Chance: what keeps environments from doing the same at the same time, and names owners of leases.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// A random part of `span`, so that those who wait for one item do not ask for it together.
pub(crate) fn jitter(span: Duration) -> Duration {
    let [byte] = random();
    span * u32::from(byte) / 255
}

/// A random place in a list: of the first 256, where it is longer.
pub(crate) fn place_in<T>(list: &[T]) -> usize {
    let [byte] = random();
    list.len().min(256) * usize::from(byte) / 256
}

/// A name that nobody else has.
pub(crate) fn random_hex() -> String {
    format!("{:032x}", u128::from_be_bytes(random()))
}

/// Random bytes; zeros should the system have none, which makes waits alike and owners of leases guessable, but nothing
/// unsafe: the table is the issuer's alone.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}
