//! Random identifiers in the forms that AWS gives them.

use std::fmt::Write;

use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes of the operating system.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system's random source does not fail after boot");
    bytes
}

/// A version 4 UUID: the form of a request's id.
pub(crate) fn request_id() -> String {
    let mut bytes: [u8; 16] = random_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// An X-Ray trace header that asks for no sampling; `seconds` is the time since the epoch.
pub(crate) fn trace_header(seconds: i64) -> String {
    let root = hex(&random_bytes::<12>());
    let parent = hex(&random_bytes::<8>());
    format!("Root=1-{seconds:08x}-{root};Parent={parent};Sampled=0")
}

/// Small hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_version_4_uuid() {
        let id = request_id();
        let parts: Vec<_> = id.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4'), "{id}");
        assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        assert_ne!(id, request_id());
    }

    #[test]
    fn a_trace_header_has_its_three_fields() {
        let header = trace_header(1_795_475_000);
        assert_eq!(header.len(), "Root=1-00000000-;Parent=;Sampled=0".len() + 24 + 16);
        assert!(header.starts_with("Root=1-6b04c638-"), "{header}");
    }
}
