//! Patterns that people write: regular expressions of `permitted`, and globs.
//!
//! Every pattern runs in time linear in the text and in its own size: the `regex` crate promises it, and the size of a
//! compiled pattern is bounded here. The expressions taken are those on which RE2 (which the admission policy's CEL
//! speaks) and this engine agree: what one of them reads otherwise is refused by name.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, Visitor};
use thiserror::Error;

/// The longest pattern read, in bytes: an IAM ARN has at most 2,048.
pub const MAX_PATTERN: usize = 4096;
/// The most memory that one compiled pattern may take, in bytes. A pattern of a hundred names takes a tenth of it.
const MAX_COMPILED: usize = 1 << 20;
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
        if text.len() > MAX_PATTERN {
            return Err(BadPattern::TooLong(text.len()));
        }
        check_portable(text)?;
        // One group, so that an alternation is matched whole: `red|blue` is not `redX`. The text was parsed alone above, so
        // that it cannot close the group and begin something else.
        let regex = RegexBuilder::new(&format!("^(?:{text})$"))
            .unicode(false)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .nest_limit(MAX_NESTING + 2)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => BadPattern::TooLarge,
                other => BadPattern::Syntax(one_line(&other.to_string())),
            })?;
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

/// A glob: `*` stands for any text, slashes included, and `?` for one character.
#[derive(Clone, Debug, PartialEq)]
pub struct Glob(Pattern);

impl Glob {
    /// Parses a glob. Every text is one, but for its length.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let mut regex = String::with_capacity(text.len() * 2);
        for part in text.split_inclusive(['*', '?']) {
            let (literal, wildcard) = match part.strip_suffix('*') {
                Some(literal) => (literal, ".*"),
                None => part.strip_suffix('?').map_or((part, ""), |literal| (literal, ".")),
            };
            regex.push_str(&regex::escape(literal));
            regex.push_str(wildcard);
        }
        Pattern::parse(&regex).map(Self)
    }

    /// Whether the glob matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.0.matches(text)
    }
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
    ast::visit(&ast, Portable { after_repetition: false })
}

/// Refuses what RE2 refuses or reads otherwise.
struct Portable {
    /// Whether the parent is itself a repetition: `a**` and `a{2}{3}` are errors to RE2.
    after_repetition: bool,
}

impl Visitor for Portable {
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
                portable_repetition(&repetition.op)
            }
            Ast::Flags(set) => portable_flags(&set.flags),
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::NonCapturing(flags) => portable_flags(flags),
                // Older releases of RE2 know (?P<name>…) alone.
                ast::GroupKind::CaptureName { starts_with_p: false, .. } => {
                    Err(BadPattern::Unportable("a group (?<name>…), to be written (?P<name>…)"))
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

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), BadPattern> {
        Err(BadPattern::Unportable("a set operation (&&, -- or ~~) in a class"))
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), BadPattern> {
        match item {
            ast::ClassSetItem::Bracketed(_) => Err(BadPattern::Unportable("a class within a class")),
            ast::ClassSetItem::Unicode(_) => Err(BadPattern::Unportable("a Unicode class such as \\pL")),
            ast::ClassSetItem::Literal(literal) => portable_literal(literal),
            ast::ClassSetItem::Range(range) => portable_literal(&range.start).and(portable_literal(&range.end)),
            _ => Ok(()),
        }
    }
}

fn portable_repetition(op: &ast::RepetitionOp) -> Result<(), BadPattern> {
    use ast::{RepetitionKind::Range, RepetitionRange};
    let Range(RepetitionRange::Exactly(most) | RepetitionRange::AtLeast(most) | RepetitionRange::Bounded(_, most)) =
        op.kind
    else {
        return Ok(());
    };
    if most > MAX_REPEAT { Err(BadPattern::Unportable("a repetition of more than 1,000")) } else { Ok(()) }
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
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
