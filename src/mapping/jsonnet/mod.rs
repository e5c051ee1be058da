//! Jsonnet: compiles templates and evaluates them for requests. For worker processes only: a program can take any
//! amount of time and memory.
//!
//! A template is the body of a function without parameters, preceded by bindings for the contract's functions.
//! These are on the template's first line, so positions are shifted by their length.

mod natives;
mod problem;

use super::{MappingRequest, ROW_MAX};
pub use natives::Natives;
use problem::TemplateSource;
use rsjsonnet_lang::arena::Arena;
use rsjsonnet_lang::interner::StrInterner;
use rsjsonnet_lang::lexer::Lexer;
use rsjsonnet_lang::program::{Program, Thunk};
use rsjsonnet_lang::span::{SpanContextId, SpanManager};
use rsjsonnet_lang::token::{STokenKind, TokenKind};

/// The code that precedes every template. A default that is a function means that no default was given.
const PRELUDE: &str = "local Ip() = std.native('Ip')(), \
     Now(format='%Y-%m-%dT%H:%M:%S.%fZ') = std.native('Now')(format), \
     Body(path='', default=function() null) = std.native('Body')(path, default), \
     BodyStr() = std.native('BodyStr')(), \
     Header(name='', default=function() null) = std.native('Header')(name, default), \
     HeaderStr() = std.native('HeaderStr')(); function() ";

/// The native functions and their parameters.
const NATIVES: [(&str, &[&str]); 6] = [
    ("Ip", &[]),
    ("Now", &["format"]),
    ("Body", &["path", "default"]),
    ("BodyStr", &[]),
    ("Header", &["name", "default"]),
    ("HeaderStr", &[]),
];

/// The maximum nesting depth of calls and values.
const STACK_MAX: usize = 500;

/// Why a template yields no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// The template failed, or does not compile. The message has no full stop.
    Template(String),
    /// The body's type has no fields.
    ContentType(String),
    /// The body does not match its type.
    Body(String),
    /// The value has more than [`ROW_MAX`] bytes.
    TooLarge,
}

/// An interpreter with everything it has compiled. Its memory is never released: some of its objects live as long
/// as it does.
pub struct Engine<'p> {
    program: Program<'p>,
    /// `std.manifestJsonMinified`.
    minify: Thunk<'p>,
}

/// A compiled template.
pub struct Compiled<'p> {
    function: Thunk<'p>,
    context: SpanContextId,
    text: String,
}

impl<'p> Engine<'p> {
    pub fn new(arena: &'p Arena) -> Self {
        let mut program = Program::new(arena);
        program.set_max_stack(STACK_MAX);
        for (name, parameters) in NATIVES {
            let parameters: Vec<_> =
                parameters.iter().map(|parameter| program.intern_str(parameter)).collect();
            program.register_native_func(program.intern_str(name), &parameters);
        }
        let source = b"std.manifestJsonMinified";
        let (context, _) = program.span_manager_mut().insert_source_context(source.len());
        let minify = program.load_source(context, source, true, "").expect("a constant, valid program");
        Self { program, minify }
    }

    /// Compiles a template; unknown variables are detected here.
    pub fn compile(&mut self, text: &str) -> Result<Compiled<'p>, String> {
        refuse_imports(text)?;
        let source = [PRELUDE, text].concat();
        let (context, _) = self.program.span_manager_mut().insert_source_context(source.len());
        let loaded = self.program.load_source(context, source.as_bytes(), true, "");
        let at = TemplateSource { spans: self.program.span_manager(), context, prelude: PRELUDE.len(), text };
        let function = loaded.map_err(|error| problem::of_load(&error, &at))?;
        Ok(Compiled { function, context, text: text.to_owned() })
    }

    /// Evaluates a template for a request to compact JSON; a text is returned unquoted if `raw`.
    pub fn evaluate(
        &mut self,
        template: &Compiled<'p>,
        natives: &mut Natives<'_, 'p>,
        raw: bool,
    ) -> Result<String, TemplateError> {
        let value = self.program.eval_call(&template.function, &[], &[], natives);
        let json = value.and_then(|value| match value.to_string() {
            Some(text) if raw => Ok(text),
            _ => {
                let value = self.program.value_to_thunk(&value);
                let json = self.program.eval_call(&self.minify, &[value], &[], natives)?;
                Ok(json.to_string().expect("the function that writes JSON returns a text"))
            }
        });
        match json {
            Ok(json) if json.len() > ROW_MAX => Err(TemplateError::TooLarge),
            Ok(json) => Ok(json),
            Err(error) => Err(natives.take_problem().unwrap_or_else(|| {
                let at = TemplateSource {
                    spans: self.program.span_manager(),
                    context: template.context,
                    prelude: PRELUDE.len(),
                    text: &template.text,
                };
                TemplateError::Template(problem::of_evaluation(&error, &at))
            })),
        }
    }
}

/// The functions that let templates access a request.
pub fn natives<'a, 'p>(request: &'a MappingRequest<'a>) -> Natives<'a, 'p> {
    Natives::new(request)
}

/// Rejects imports at compile time, since there is nothing to import.
fn refuse_imports(text: &str) -> Result<(), String> {
    let (arena, interner, mut spans) = (Arena::new(), StrInterner::new(), SpanManager::new());
    let (context, _) = spans.insert_source_context(text.len());
    let lexer = Lexer::new(&arena, &arena, &interner, &mut spans, context, text.as_bytes());
    // The compiler reports invalid tokens.
    let Ok(tokens) = lexer.lex_to_eof(false) else { return Ok(()) };
    let import = tokens.iter().find(|token| {
        use STokenKind::{Import, Importbin, Importstr};
        matches!(token.kind, TokenKind::Simple(Import | Importstr | Importbin))
    });
    let Some(import) = import else { return Ok(()) };
    let at = TemplateSource { spans: &spans, context, prelude: 0, text };
    Err(at.said(Some(import.span), "Imports are not allowed"))
}

#[cfg(test)]
mod tests;
