//! The contract's functions, through which a template accesses its request.

use super::TemplateError;
use crate::formats::json::{JsonKind, Parser};
use crate::mapping::{Body, MappingRequest, ParseError, Path, canonical_name, not_found};
use jiff::tz::TimeZone;
use rsjsonnet_lang::interner::InternedStr;
use rsjsonnet_lang::program::{
    Callbacks, EvalStackTraceItem, ImportError, NativeError, Program, Thunk, Value,
};
use rsjsonnet_lang::span::SpanId;

/// Serves the native calls for one request.
pub struct Natives<'a, 'p> {
    request: &'a MappingRequest<'a>,
    body: Option<Body<'a>>,
    /// The value of `Body()`, once it was requested.
    whole: Option<Value<'p>>,
    /// Why the last call failed.
    problem: Option<TemplateError>,
}

impl<'a, 'p> Natives<'a, 'p> {
    pub(super) fn new(request: &'a MappingRequest<'a>) -> Self {
        Self { request, body: None, whole: None, problem: None }
    }

    /// The reason, if a native call failed.
    pub(super) fn take_problem(&mut self) -> Option<TemplateError> {
        self.problem.take()
    }

    fn call(
        &mut self,
        program: &mut Program<'p>,
        name: &str,
        args: &[Value<'p>],
    ) -> Result<Value<'p>, TemplateError> {
        match (name, args) {
            ("Ip", []) => Ok(Value::string(&self.request.ip.to_canonical().to_string())),
            ("Now", [format]) => self.now(&text(format, "format")?),
            ("Body", [path, default]) => self.body(program, &text(path, "path")?, default),
            ("BodyStr", []) => Ok(Value::string(&String::from_utf8_lossy(self.request.body))),
            ("Header", [name, default]) => self.header(program, &text(name, "name")?, default),
            ("HeaderStr", []) => {
                let lines = self.request.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
                Ok(Value::string(&lines.collect::<String>()))
            }
            _ => Err(TemplateError::Template(format!("unknown function \"{name}\""))),
        }
    }

    fn now(&self, format: &str) -> Result<Value<'p>, TemplateError> {
        let fail = |error: jiff::Error| TemplateError::Template(format!("time format {format:?}: {error}"));
        let at = jiff::Timestamp::from_microsecond(self.request.received_at).map_err(fail)?;
        let time = jiff::fmt::strtime::BrokenDownTime::from(&at.to_zoned(TimeZone::UTC));
        let text = time.to_string(milliseconds(format)).map_err(fail)?;
        Ok(Value::string(&text))
    }

    fn body(
        &mut self,
        program: &mut Program<'p>,
        path: &str,
        default: &Value<'p>,
    ) -> Result<Value<'p>, TemplateError> {
        let parsed = Path::parse(path);
        if parsed.is_empty()
            && let Some(whole) = &self.whole
        {
            return Ok(whole.clone());
        }
        let body = match &mut self.body {
            Some(body) => body,
            body => body.insert(Body::parse(self.request.body, self.request.content_type)?),
        };
        let Some(json) = body.at(&parsed) else {
            return default_or(default, || not_found(path));
        };
        let value = value(program, &mut Parser::document(json.as_bytes()))?;
        if parsed.is_empty() {
            self.whole = Some(value.clone());
        }
        Ok(value)
    }

    fn header(
        &self,
        program: &mut Program<'p>,
        name: &str,
        default: &Value<'p>,
    ) -> Result<Value<'p>, TemplateError> {
        let headers = self.request.headers;
        if name.is_empty() {
            let fields = headers.iter().map(|(name, value)| (program.intern_str(name), Value::string(value)));
            let fields: Vec<_> = fields.collect();
            return Ok(program.make_object(&fields));
        }
        let canonical = canonical_name(name);
        match headers.iter().find(|(known, _)| *known == canonical) {
            Some((_, value)) => Ok(Value::string(value)),
            None => default_or(default, || format!("header \"{name}\" not found")),
        }
    }
}

fn text(value: &Value<'_>, what: &str) -> Result<String, TemplateError> {
    value.to_string().ok_or_else(|| TemplateError::Template(format!("\"{what}\" must be a string")))
}

fn default_or<'p>(default: &Value<'p>, message: impl FnOnce() -> String) -> Result<Value<'p>, TemplateError> {
    if default.is_function() { Err(TemplateError::Template(message())) } else { Ok(default.clone()) }
}

/// The contract's `%f` means milliseconds.
fn milliseconds(format: &str) -> String {
    let mut translated = String::with_capacity(format.len() + 8);
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        translated.push(character);
        if character == '%'
            && let Some(directive) = characters.next()
        {
            translated.push_str(if directive == 'f' { "3" } else { "" });
            translated.push(directive);
        }
    }
    translated
}

/// Converts a JSON document to a value. The document was checked, so its depth is bounded.
fn value<'p>(program: &mut Program<'p>, parser: &mut Parser<'_>) -> Result<Value<'p>, TemplateError> {
    let invalid = |error: crate::formats::json::Syntax| {
        TemplateError::Body(format!("cannot parse request body: {error}"))
    };
    let kind = parser.kind().map_err(invalid)?;
    match kind {
        JsonKind::Null | JsonKind::True | JsonKind::False => {
            parser.literal(kind);
            Ok(if kind == JsonKind::Null { Value::null() } else { Value::bool(kind == JsonKind::True) })
        }
        JsonKind::Number => {
            let raw = String::from_utf8_lossy(parser.number().map_err(invalid)?.raw);
            let number: Option<f64> = raw.parse().ok().filter(|number: &f64| number.is_finite());
            number.map(Value::number).ok_or_else(|| {
                TemplateError::Body(format!("cannot parse request body: number {raw} is too large"))
            })
        }
        JsonKind::String => {
            let text = parser.string().map_err(invalid)?;
            Ok(Value::string(&String::from_utf8_lossy(&text.text())))
        }
        JsonKind::Array => {
            let mut items = Vec::new();
            let mut more = parser.first_element();
            while more {
                items.push(value(program, parser)?);
                more = parser.next_element().map_err(invalid)?;
            }
            Ok(program.make_array(&items))
        }
        JsonKind::Object => object(program, parser),
    }
}

fn object<'p>(program: &mut Program<'p>, parser: &mut Parser<'_>) -> Result<Value<'p>, TemplateError> {
    let invalid = |error: crate::formats::json::Syntax| {
        TemplateError::Body(format!("cannot parse request body: {error}"))
    };
    let mut fields: Vec<(InternedStr<'p>, Value<'p>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    let mut next = parser.first_key().map_err(invalid)?;
    while let Some(key) = next {
        let name = program.intern_str(&String::from_utf8_lossy(&key.text()));
        let value = value(program, parser)?;
        // The last value of a repeated key wins.
        match places.entry(name) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(fields.len());
                fields.push((name, value));
            }
            std::collections::hash_map::Entry::Occupied(place) => {
                if let Some(field) = fields.get_mut(*place.get()) {
                    field.1 = value;
                }
            }
        }
        next = parser.next_key().map_err(invalid)?;
    }
    Ok(program.make_object(&fields))
}

impl From<ParseError> for TemplateError {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::ContentType(of) => Self::ContentType(of),
            ParseError::Invalid(message) => Self::Body(message),
        }
    }
}

impl<'p> Callbacks<'p> for Natives<'_, 'p> {
    fn import(&mut self, _: &mut Program<'p>, _: SpanId, _: &str) -> Result<Thunk<'p>, ImportError> {
        Err(ImportError)
    }

    fn import_str(&mut self, _: &mut Program<'p>, _: SpanId, _: &str) -> Result<String, ImportError> {
        Err(ImportError)
    }

    fn import_bin(&mut self, _: &mut Program<'p>, _: SpanId, _: &str) -> Result<Vec<u8>, ImportError> {
        Err(ImportError)
    }

    fn trace(&mut self, _: &mut Program<'p>, _: &str, _: &[EvalStackTraceItem]) {}

    fn native_call(
        &mut self,
        program: &mut Program<'p>,
        name: InternedStr<'p>,
        args: &[Value<'p>],
    ) -> Result<Value<'p>, NativeError> {
        self.call(program, name.value(), args).map_err(|problem| {
            self.problem = Some(problem);
            NativeError
        })
    }
}
