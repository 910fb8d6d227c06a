//! What is shown: each step as it happens, a table at the end, and the same as JSON.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::steps::{Seen, Step};

/// The longest text that a line shows; the JSON has all of it.
const LONGEST: usize = 620;

/// The course of the demo so far.
pub(crate) struct Report {
    start: Instant,
    total: usize,
    colour: bool,
    done: Vec<Done>,
}

#[derive(Serialize)]
struct Done {
    name: &'static str,
    ok: bool,
    expected: &'static str,
    got: String,
}

/// A pod, as the JSON tells of it.
#[derive(Serialize)]
pub(crate) struct PodEntry {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) netns: String,
    pub(crate) role: Option<String>,
}

impl Report {
    pub(crate) fn new(total: usize) -> Self {
        Self { start: Instant::now(), total, colour: std::io::stdout().is_terminal(), done: Vec::new() }
    }

    /// One line of what is being prepared.
    pub(crate) fn preparing(&self, what: &str) {
        println!("{} {what}", self.elapsed());
    }

    /// One step and what came of it.
    pub(crate) fn show(&mut self, step: &Step, outcome: Result<Seen>) {
        let seen = outcome.unwrap_or_else(|error| Seen {
            tried: String::new(),
            got: format!("it could not be tried: {error:#}"),
            ok: false,
        });
        let number = self.done.len() + 1;
        println!("\n{} [{number:>2}/{}] {}", self.elapsed(), self.total, self.bold(step.name));
        for (label, text) in
            [("tried", &*seen.tried), ("expected", step.expected), ("came back", &*shortened(&seen.got))]
        {
            if !text.is_empty() {
                println!("         {label:<9}  {}", text.trim().replace('\n', "\n                    "));
            }
        }
        println!("         {}", self.verdict(seen.ok));
        self.done.push(Done { name: step.name, ok: seen.ok, expected: step.expected, got: seen.got });
    }

    /// The table.
    pub(crate) fn conclude(&self) {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["", "step", "expected", ""]);
        for (number, done) in (1_u32..).zip(&self.done) {
            let verdict = if done.ok { "ok" } else { "FAILED" };
            table.add_row([number.to_string().as_str(), done.name, done.expected, verdict]);
        }
        let failed = self.done.iter().filter(|done| !done.ok).count();
        println!("\n{table}\n{} steps, {failed} not as expected, {}", self.done.len(), self.elapsed().trim());
    }

    /// What to do next.
    pub(crate) fn suggest() {
        println!(
            "\nThere is no real AWS here: ministack checked the signatures and policies, local-cloud played API Gateway,\n\
             Lambda and EC2 metadata. The node agent and the issuer are the release programs.\n\n\
             next: cargo xtask demo --keep   leave it running and look around in a pod\n      \
             cargo xtask test          every check, the end-to-end tests among them\n      \
             ARCHITECTURE.md           the path of a request, and why it is so"
        );
    }

    pub(crate) fn all_ok(&self) -> bool {
        self.done.iter().all(|done| done.ok)
    }

    /// Writes `{"steps": [...], "pods": [...]}`.
    pub(crate) fn write_json(&self, file: &Path, pods: &[PodEntry]) -> Result<()> {
        #[derive(Serialize)]
        struct Whole<'a> {
            steps: &'a [Done],
            pods: &'a [PodEntry],
        }
        let text = serde_json::to_string_pretty(&Whole { steps: &self.done, pods })?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    fn elapsed(&self) -> String {
        format!("{:>6.1} s", self.start.elapsed().as_secs_f64())
    }

    fn bold(&self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn verdict(&self, ok: bool) -> &'static str {
        match (ok, self.colour) {
            (true, true) => "\x1b[32mok\x1b[0m",
            (true, false) => "ok",
            (false, true) => "\x1b[31mNOT AS EXPECTED\x1b[0m",
            (false, false) => "NOT AS EXPECTED",
        }
    }
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}
