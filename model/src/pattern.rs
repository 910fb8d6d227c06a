//! Patterns that people write: regular expressions of `permitted`, and globs.
//!
//! Every pattern runs in time linear in the text and in its own size: the `regex` crate promises it, and the size of a
//! compiled pattern is bounded here. The expressions taken are those on which RE2 (which the admission policy's CEL
//! speaks) and this engine agree: what one of them reads otherwise is refused by name.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_syntax::ast::{self, Ast, Visitor};
use thiserror::Error;

/// The longest pattern read, in bytes: an IAM ARN has at most 2,048.
pub const MAX_PATTERN: usize = 4096;
/// The most memory that one compiled pattern may take, in bytes. A pattern of a hundred names takes a tenth of it.
const MAX_COMPILED: usize = 1 << 20;
/// The most memory that the patterns of one list may take together, in bytes: a list of a thousand names takes a third of it.
const MAX_COMPILED_SET: usize = 4 << 20;
/// How deep groups may nest; RE2 stops at 1,000, a person long before this.
const MAX_NESTING: u32 = 50;
/// RE2's limit for a counted repetition.
const MAX_REPEAT: u32 = 1000;

/// Why a pattern is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadPattern {
    /// Longer than [`MAX_PATTERN`].
    #[error("it has {0} bytes, at most {MAX_PATTERN} are read")]
    TooLong(usize),
    /// Not a regular expression.
    #[error("{0}")]
    Syntax(String),
    /// RE2 refuses or reads it otherwise.
    #[error("{0} is not taken, since RE2 (which the admission policy speaks) refuses it or reads it otherwise")]
    Unportable(&'static str),
    /// Compiled, it would take too much memory.
    #[error("it is too large once compiled: use fewer or smaller counted repetitions")]
    TooLarge,
}

/// A regular expression that must match the whole of a text.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    regex: Regex,
}

impl Pattern {
    /// Parses an expression; white space around it is dropped.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let text = text.trim();
        check(text)?;
        let regex = RegexBuilder::new(&whole(text))
            .unicode(false)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .nest_limit(MAX_NESTING + 2)
            .build()
            .map_err(not_compiled)?;
        Ok(Self { text: text.into(), regex })
    }

    /// Whether the expression matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text.as_bytes())
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Expressions of which one must match the whole of a text. They are compiled together under one limit, so that a list of
/// nasty ones takes no more memory than a list of names.
#[derive(Clone)]
pub(crate) struct PatternSet {
    texts: Vec<String>,
    set: RegexSet,
}

impl PatternSet {
    /// Compiles expressions that [`check`] has passed.
    pub(crate) fn compile(texts: Vec<String>) -> Result<Self, BadPattern> {
        let set = RegexSetBuilder::new(texts.iter().map(|text| whole(text)))
            .unicode(false)
            .size_limit(MAX_COMPILED_SET)
            .dfa_size_limit(MAX_COMPILED_SET)
            .nest_limit(MAX_NESTING + 2)
            .build()
            .map_err(not_compiled)?;
        Ok(Self { texts, set })
    }

    /// Whether one of them matches the whole of `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.set.is_match(text.as_bytes())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

impl fmt::Debug for PatternSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.texts, f)
    }
}

impl PartialEq for PatternSet {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

/// Checks an expression without compiling it.
pub(crate) fn check(text: &str) -> Result<(), BadPattern> {
    if text.len() > MAX_PATTERN {
        return Err(BadPattern::TooLong(text.len()));
    }
    check_portable(text)
}

/// One group, so that an alternation is matched whole: `red|blue` is not `redX`. The text was parsed alone before, so that it
/// cannot close the group and begin something else.
fn whole(text: &str) -> String {
    format!("^(?:{text})$")
}

fn not_compiled(error: regex::Error) -> BadPattern {
    match error {
        regex::Error::CompiledTooBig(_) => BadPattern::TooLarge,
        other => BadPattern::Syntax(one_line(&other.to_string())),
    }
}

/// A glob: `*` stands for any text, slashes included, and `?` for one character.
#[derive(Clone, Debug, PartialEq)]
pub struct Glob(Pattern);

impl Glob {
    /// Parses a glob. Every text is one, but for its length.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        Pattern::parse(&glob_expression(text)).map(Self)
    }

    /// Whether the glob matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.0.matches(text)
    }
}

/// A glob as an expression.
pub(crate) fn glob_expression(text: &str) -> String {
    let mut regex = String::with_capacity(text.len() * 2);
    for part in text.split_inclusive(['*', '?']) {
        let (literal, wildcard) = match part.strip_suffix('*') {
            Some(literal) => (literal, ".*"),
            None => part.strip_suffix('?').map_or((part, ""), |literal| (literal, ".")),
        };
        regex.push_str(&regex::escape(literal));
        regex.push_str(wildcard);
    }
    regex
}

/// What the writer of a shell-like pattern meant: each unescaped `*` that does not follow `.`, `)` or `]` becomes `.*`. None
/// where that changes nothing or yields no expression.
pub fn corrected(text: &str) -> Option<Pattern> {
    let mut out = String::with_capacity(text.len() + 4);
    let mut previous = None;
    let mut escaped = false;
    for c in text.trim().chars() {
        if c == '*' && !escaped && !matches!(previous, Some('.' | ')' | ']')) {
            out.push('.');
        }
        out.push(c);
        escaped = c == '\\' && !escaped;
        previous = Some(c);
    }
    (out != text.trim()).then(|| Pattern::parse(&out).ok()).flatten()
}

/// The first line alone says nothing in this engine's many-line messages; the last one names the fault.
fn one_line(error: &str) -> String {
    let last = error.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it is no regular expression");
    last.trim().trim_start_matches("error: ").to_owned()
}

fn check_portable(text: &str) -> Result<(), BadPattern> {
    if !text.is_ascii() {
        return Err(BadPattern::Unportable("a character outside ASCII (no role has one)"));
    }
    let ast = ast::parse::ParserBuilder::new()
        .nest_limit(MAX_NESTING)
        .build()
        .parse(text)
        .map_err(|error| BadPattern::Syntax(error.kind().to_string()))?;
    ast::visit(&ast, Portable { text, after_repetition: false, repeated: Vec::new() })
}

/// Refuses what RE2 refuses or reads otherwise.
struct Portable<'a> {
    text: &'a str,
    /// Whether the parent is itself a repetition: `a**` and `a{2}{3}` are errors to RE2.
    after_repetition: bool,
    /// How often each counted repetition around this place repeats it.
    repeated: Vec<u32>,
}

impl Visitor for Portable<'_> {
    type Output = ();
    type Err = BadPattern;

    fn finish(self) -> Result<(), BadPattern> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), BadPattern> {
        let nested = std::mem::replace(&mut self.after_repetition, matches!(ast, Ast::Repetition(_)));
        match ast {
            Ast::Repetition(repetition) => {
                if nested {
                    return Err(BadPattern::Unportable("a repetition of a repetition such as a** or a{2}{3}"));
                }
                portable_count(self.text.get(repetition.op.span.start.offset..repetition.op.span.end.offset))?;
                self.repeated.push(count(&repetition.op));
                let product = self.repeated.iter().fold(1_u32, |product, count| product.saturating_mul(*count));
                if product > MAX_REPEAT {
                    return Err(BadPattern::Unportable(
                        "a repetition of more than 1,000, or several within each other",
                    ));
                }
                Ok(())
            }
            Ast::Flags(set) => portable_flags(&set.flags),
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::NonCapturing(flags) => portable_flags(flags),
                // Older releases of RE2 know (?P<name>…) alone.
                ast::GroupKind::CaptureName { starts_with_p: false, .. } => {
                    Err(BadPattern::Unportable("a group (?<name>…), to be written (?P<name>…)"))
                }
                ast::GroupKind::CaptureName { name, .. } if name.name.contains(['.', '[', ']']) => {
                    Err(BadPattern::Unportable("a name of a group with a dot or a bracket"))
                }
                _ => Ok(()),
            },
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => Ok(()),
                _ => Err(BadPattern::Unportable("a special word boundary such as \\< or \\b{start}")),
            },
            Ast::Literal(literal) => portable_literal(literal),
            Ast::ClassUnicode(_) => Err(BadPattern::Unportable("a Unicode class such as \\pL")),
            _ => Ok(()),
        }
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), BadPattern> {
        if matches!(ast, Ast::Repetition(_)) {
            self.repeated.pop();
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), BadPattern> {
        Err(BadPattern::Unportable("a set operation (&&, -- or ~~) in a class"))
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), BadPattern> {
        match item {
            ast::ClassSetItem::Bracketed(_) => Err(BadPattern::Unportable("a class within a class")),
            ast::ClassSetItem::Unicode(_) => Err(BadPattern::Unportable("a Unicode class such as \\pL")),
            ast::ClassSetItem::Literal(literal) => portable_literal(literal),
            // A range that begins with a hyphen to RE2: `[--/]` is `-`, `.` and `/`.
            ast::ClassSetItem::Union(union) => match union.items.as_slice() {
                [first, second, ..] if is_hyphen(first) && is_hyphen(second) => {
                    Err(BadPattern::Unportable("a class that begins with two hyphens"))
                }
                _ => Ok(()),
            },
            ast::ClassSetItem::Range(range) => portable_literal(&range.start).and(portable_literal(&range.end)),
            _ => Ok(()),
        }
    }
}

/// RE2 reads `a{01}`, and `a{ 1 }` with a white space in it, as text.
fn portable_count(op: Option<&str>) -> Result<(), BadPattern> {
    let Some(counts) = op.and_then(|op| op.strip_prefix('{')) else { return Ok(()) };
    let counts = counts.trim_end_matches('?').trim_end_matches('}').split(',');
    let plain = |count: &str| count.bytes().all(|b| b.is_ascii_digit()) && (count.len() < 2 || !count.starts_with('0'));
    if counts.into_iter().all(plain) {
        Ok(())
    } else {
        Err(BadPattern::Unportable("a counted repetition with a leading zero or a white space, which is text to RE2,"))
    }
}

/// How much a repetition counts towards RE2's limit, which knows no count for `*`, `+` and `?`.
fn count(op: &ast::RepetitionOp) -> u32 {
    use ast::{RepetitionKind::Range, RepetitionRange};
    match op.kind {
        Range(RepetitionRange::Exactly(most) | RepetitionRange::AtLeast(most) | RepetitionRange::Bounded(_, most)) => {
            most.max(1)
        }
        _ => 1,
    }
}

fn is_hyphen(item: &ast::ClassSetItem) -> bool {
    matches!(item, ast::ClassSetItem::Literal(ast::Literal { kind: ast::LiteralKind::Verbatim, c: '-', .. }))
}

fn portable_flags(flags: &ast::Flags) -> Result<(), BadPattern> {
    let known = |item: &ast::FlagsItem| {
        matches!(
            item.kind,
            ast::FlagsItemKind::Negation
                | ast::FlagsItemKind::Flag(
                    ast::Flag::CaseInsensitive | ast::Flag::DotMatchesNewLine | ast::Flag::SwapGreed
                )
        )
    };
    if flags.items.iter().all(known) { Ok(()) } else { Err(BadPattern::Unportable("a flag other than i, s and U")) }
}

fn portable_literal(literal: &ast::Literal) -> Result<(), BadPattern> {
    match literal.kind {
        ast::LiteralKind::HexFixed(ast::HexLiteralKind::UnicodeShort | ast::HexLiteralKind::UnicodeLong)
        | ast::LiteralKind::HexBrace(ast::HexLiteralKind::UnicodeShort | ast::HexLiteralKind::UnicodeLong) => {
            Err(BadPattern::Unportable("an escape \\u or \\U"))
        }
        _ if !literal.c.is_ascii() => Err(BadPattern::Unportable("a character outside ASCII (no role has one)")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
