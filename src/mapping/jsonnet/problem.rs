//! Error messages for template authors: `1:1-8 Unknown variable: invalid`. Lines and columns count from 1; the
//! second column is exclusive.

use rsjsonnet_lang::lexer::LexError;
use rsjsonnet_lang::parser::ParseError;
use rsjsonnet_lang::program::{AnalyzeError, EvalError, EvalErrorKind, EvalStackTraceItem, LoadError};
use rsjsonnet_lang::span::{SpanContextId, SpanId, SpanManager};

/// The maximum number of characters of a text that a message shows.
const SHOWN_MAX: usize = 200;

/// A template and its position in the compiled source.
pub(super) struct TemplateSource<'a> {
    pub(super) spans: &'a SpanManager,
    pub(super) context: SpanContextId,
    /// The number of bytes before the template's text.
    pub(super) prelude: usize,
    pub(super) text: &'a str,
}

impl TemplateSource<'_> {
    /// A message, preceded by its position if that is in the template.
    pub(super) fn said(&self, span: Option<SpanId>, message: &str) -> String {
        match span.and_then(|span| self.position(span)) {
            Some(position) => format!("{position} {message}"),
            None => message.to_owned(),
        }
    }

    /// The source text of a span in the template.
    fn excerpt(&self, span: SpanId) -> Option<&str> {
        let (start, end) = self.range(span)?;
        self.text.get(start..end)
    }

    fn range(&self, span: SpanId) -> Option<(usize, usize)> {
        let (context, start, end) = self.spans.get_span(span);
        if context != self.context {
            return None;
        }
        Some((start.checked_sub(self.prelude)?, end.checked_sub(self.prelude)?))
    }

    fn position(&self, span: SpanId) -> Option<String> {
        let (start, end) = self.range(span)?;
        let ((line, column), (last_line, last_column)) = (self.line(start)?, self.line(end)?);
        Some(match (line == last_line, column == last_column) {
            (true, true) => format!("{line}:{column}"),
            (true, false) => format!("{line}:{column}-{last_column}"),
            (false, _) => format!("({line}:{column})-({last_line}:{last_column})"),
        })
    }

    /// The line and column of an offset.
    fn line(&self, offset: usize) -> Option<(usize, usize)> {
        let before = self.text.get(..offset)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((before.matches('\n').count() + 1, before.get(line_start..)?.chars().count() + 1))
    }
}

/// Why a template does not compile.
pub(super) fn of_load(error: &LoadError, source: &TemplateSource<'_>) -> String {
    let (span, message) = match error {
        LoadError::Lex(error) => of_lexer(error),
        LoadError::Parse(ParseError::Expected { span, .. }) => {
            let message = match source.excerpt(*span) {
                None | Some("") => "Unexpected end of the template".to_owned(),
                Some(token) => format!("Unexpected: {}", shortened(token)),
            };
            (*span, message)
        }
        LoadError::Analyze(error) => of_analyzer(error),
    };
    source.said(Some(span), &message)
}

fn of_lexer(error: &LexError) -> (SpanId, String) {
    use LexError as E;
    match error {
        E::InvalidChar { span, chr } => (*span, format!("Unexpected character {chr:?}")),
        E::InvalidUtf8 { span, .. } => (*span, "Invalid UTF-8".to_owned()),
        E::UnfinishedMultilineComment { span } => (*span, "Unterminated comment".to_owned()),
        E::LeadingZeroInNumber { span }
        | E::MissingFracDigits { span }
        | E::MissingExpDigits { span }
        | E::MissingDigitAfterUnderscore { span }
        | E::ExpOverflow { span } => (*span, "Invalid number".to_owned()),
        E::InvalidEscapeInString { span, .. }
        | E::IncompleteUnicodeEscape { span }
        | E::InvalidUtf16EscapeSequence { span, .. } => (*span, "Invalid escape in a string".to_owned()),
        E::UnfinishedString { span } => (*span, "Unterminated string".to_owned()),
        E::MissingLineBreakAfterTextBlockStart { span }
        | E::MissingWhitespaceTextBlockStart { span }
        | E::InvalidTextBlockTermination { span } => (*span, "Invalid text block".to_owned()),
    }
}

fn of_analyzer(error: &AnalyzeError) -> (SpanId, String) {
    use AnalyzeError as E;
    match error {
        E::UnknownVariable { span, name } => (*span, format!("Unknown variable: {}", shortened(name))),
        E::SelfOutsideObject { self_span } => (*self_span, "Can't use self outside of an object".to_owned()),
        E::SuperOutsideObject { super_span } => {
            (*super_span, "Can't use super outside of an object".to_owned())
        }
        E::DollarOutsideObject { dollar_span } => (*dollar_span, "No top-level object found".to_owned()),
        E::RepeatedLocalName { repeated_span, name, .. } => {
            (*repeated_span, format!("Duplicate local var: {}", shortened(name)))
        }
        E::RepeatedFieldName { repeated_span, name, .. } => {
            (*repeated_span, format!("Duplicate field: {}", shortened(name)))
        }
        E::RepeatedParamName { repeated_span, name, .. } => {
            (*repeated_span, format!("Duplicate function parameter: {}", shortened(name)))
        }
        E::PositionalArgAfterNamed { arg_span } => {
            (*arg_span, "Positional argument after a named argument is not allowed".to_owned())
        }
        E::TextBlockAsImportPath { span } | E::ComputedImportPath { span } => {
            (*span, "Imports are not allowed".to_owned())
        }
    }
}

/// Why a template yields no value.
pub(super) fn of_evaluation(error: &EvalError, source: &TemplateSource<'_>) -> String {
    let (own, message) = of_kind(&error.kind);
    // Includes a position, unless the message is the template's own or has no single position.
    let span = match error.kind {
        EvalErrorKind::StackOverflow
        | EvalErrorKind::ExplicitError { .. }
        | EvalErrorKind::AssertFailed { message: Some(_), .. } => None,
        _ => own.filter(|span| source.range(*span).is_some()).or_else(|| innermost(error, source)),
    };
    source.said(span, &message)
}

/// The innermost position in the template that was being evaluated.
fn innermost(error: &EvalError, source: &TemplateSource<'_>) -> Option<SpanId> {
    let spans = error.stack_trace.iter().rev().filter_map(|item| match item {
        EvalStackTraceItem::Expr { span }
        | EvalStackTraceItem::Variable { span, .. }
        | EvalStackTraceItem::Import { span } => Some(*span),
        EvalStackTraceItem::Call { span, .. }
        | EvalStackTraceItem::ArrayItem { span, .. }
        | EvalStackTraceItem::ObjectField { span, .. } => *span,
        _ => None,
    });
    spans.into_iter().find(|span| source.range(*span).is_some())
}

fn of_kind(kind: &EvalErrorKind) -> (Option<SpanId>, String) {
    use EvalErrorKind as E;
    match kind {
        E::StackOverflow => (None, "max stack frames exceeded".to_owned()),
        E::InfiniteRecursion => (None, "infinite recursion".to_owned()),
        E::ExplicitError { span, message } => (Some(*span), shortened(message)),
        E::AssertFailed { span, message } => {
            (Some(*span), message.as_deref().map_or_else(|| "assertion failed".to_owned(), shortened))
        }
        E::AssertEqualFailed { lhs, rhs } => {
            (None, format!("assertion failed: {} != {}", shortened(lhs), shortened(rhs)))
        }
        E::UnknownObjectField { span, field_name } => {
            (Some(*span), format!("field does not exist: {}", shortened(field_name)))
        }
        E::NumericIndexOutOfRange { span, index, length } => {
            (Some(*span), format!("index {index} out of bounds, not within [0, {length})"))
        }
        E::InvalidUnaryOpType { span, .. } => (Some(*span), "unexpected operand type".to_owned()),
        E::InvalidBinaryOpTypes { span, lhs_type, rhs_type, .. } => {
            (*span, format!("unexpected operand types: {lhs_type:?} and {rhs_type:?}").to_lowercase())
        }
        E::InvalidStdFuncArgType { func_name, got_type, .. } => {
            let got = format!("{got_type:?}").to_lowercase();
            (None, format!("unexpected argument of std.{func_name}: {got}"))
        }
        E::CalleeIsNotFunction { span, .. } => (*span, "only functions can be called".to_owned()),
        E::NumberOverflow { span } => (*span, "number overflow".to_owned()),
        E::NumberNan { span } => (*span, "not a number".to_owned()),
        E::DivByZero { span } => (*span, "division by zero".to_owned()),
        E::ManifestFunction => (None, "couldn't manifest function as JSON".to_owned()),
        E::ImportFailed { span, .. } => (Some(*span), "imports are not allowed".to_owned()),
        E::UnknownExtVar { name } => (None, format!("undefined external variable: {}", shortened(name))),
        E::TooManyCallArgs { span, .. }
        | E::UnknownCallParam { span, .. }
        | E::RepeatedCallParam { span, .. }
        | E::CallParamNotBound { span, .. } => {
            (*span, "arguments do not match the function's parameters".to_owned())
        }
        E::InvalidIndexedType { span, .. } | E::FieldOfNonObject { span } => {
            (Some(*span), "value has no fields".to_owned())
        }
        E::CondIsNotBool { span, .. } => (Some(*span), "condition must be a boolean".to_owned()),
        E::Other { span, message } => (*span, shortened(message)),
        _ => (None, "invalid operation".to_owned()),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => text.get(..end).map_or_else(String::new, |start| format!("{start}…")),
        None => text.to_owned(),
    }
}
