//! The table of all faults, printed when the last one is over.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_BORDERS_ONLY};
use comfy_table::{CellAlignment, Table};
use e2e::suite;

use crate::row::Seen;

/// What one fault did.
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) warm: Seen,
    pub(crate) new: Seen,
}

const HEADER: [&str; 10] = [
    "fault",
    "requests",
    "wrong",
    "failed",
    "recovery s",
    "new pods",
    "first asks failed",
    "asks",
    "failed",
    "recovery s",
];

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Adds a row.
pub(crate) fn add(row: Row) {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner).push(row);
}

/// Prints all rows: for people with borders, for files as Markdown.
pub(crate) fn print() {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    if rows.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.load_style(if std::io::stderr().is_terminal() { UTF8_BORDERS_ONLY } else { ASCII_MARKDOWN });
    table.set_header(HEADER);
    table.add_rows(rows.iter().map(Row::cells));
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    suite::figure(format!(
        "{table}\nwrong: of all requests. failed and recovery: first of the 20 pods that had their credentials, then of the pods \
         that came during the fault."
    ));
}

impl Row {
    fn cells(&self) -> [String; 10] {
        let Self { fault, warm, new } = self;
        [
            (*fault).to_owned(),
            (warm.requests + new.requests).to_string(),
            (warm.wrongs() + new.wrongs()).to_string(),
            warm.failures().to_string(),
            seconds(warm.recovery),
            new.pods.to_string(),
            new.first_failed.to_string(),
            new.requests.to_string(),
            new.failures().to_string(),
            seconds(new.recovery),
        ]
    }
}

fn seconds(recovery: Option<Duration>) -> String {
    recovery.map_or_else(|| "never".to_owned(), |recovery| format!("{:.1}", recovery.as_secs_f64()))
}
