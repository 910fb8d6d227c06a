//! Standard output as lines of JSON: audit and metrics are read by machines, so a line is written whole or not at all.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// Where audit lines and metrics go.
pub struct JsonLines {
    /// A plain mutex: held for one write, never across an await.
    out: Mutex<Box<dyn Write + Send>>,
}

impl JsonLines {
    /// Writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Mutex::new(Box::new(out)) }
    }

    /// Writes one line. A failure is logged and not returned: nobody who asks for credentials can act on it.
    pub fn write(&self, line: &impl Serialize) {
        let written = serde_json::to_vec(line).map_err(std::io::Error::other).and_then(|mut text| {
            text.push(b'\n');
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(&text)?;
            out.flush()
        });
        if let Err(error) = written {
            tracing::error!(%error, "an audit or metrics line could not be written");
        }
    }
}
