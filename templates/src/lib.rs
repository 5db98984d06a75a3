//! Strict, bounded rendering of the texts of rules and channels (MiniJinja).
//!
//! Invariants: an undefined value is an error, but may be asked for (`{% if group %}`, which an empty or missing value
//! answers with no). A template's source, its work (fuel) and its output are bounded; over a bound is an error, never a
//! text that was cut. Plain texts are not escaped; HTML is, unless marked `safe`. A caller that can't render says so with
//! [`fallback`]. The language is a subset (`subset`): texts need `{{ }}`, `if`, `for` and filters, and a budget of
//! instructions does not bound the memory of the rest. Never here: a file, another template, a clock, or a panic on anybody's template or data.
#![warn(missing_docs)]

pub mod alert;
mod failures;
mod subset;

use std::{collections::BTreeSet, io};

use minijinja::{
    AutoEscape, Environment, ErrorKind, UndefinedBehavior,
    value::{Serde, Value},
};
use serde::Serialize;

pub use failures::Failures;

/// The longest source of a template, bytes.
pub const MAX_SOURCE: usize = 16 << 10;
/// The most instructions that a rendering takes.
pub const FUEL: u64 = 20_000;
/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    env: Environment<'static>,
}

/// Why a text is not a template. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// From 1; none where the error has no place.
    pub line: Option<usize>,
    /// From 1, in characters; none where the error has no place.
    pub column: Option<usize>,
    /// In words.
    pub message: String,
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// Why a template can't be rendered with some data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// In words, with the source of what failed, without the data's values.
    pub message: String,
}

/// How large an output may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub output: usize,
}

impl Limits {
    /// Of a title or subject: 1 KiB.
    pub const TITLE: Self = Self { output: 1 << 10 };
    /// Of a summary or body: 16 KiB.
    pub const TEXT: Self = Self { output: 16 << 10 };
}

impl Template {
    /// Compiles a template of plain text: nothing is escaped. The name appears in no output; it is for messages of
    /// MiniJinja's own.
    pub fn compile(name: &str, text: &str) -> Result<Self, TemplateError> {
        Self::new(name, text, AutoEscape::None)
    }

    /// Compiles a template of HTML: values are escaped unless marked `safe`.
    pub fn compile_html(name: &str, text: &str) -> Result<Self, TemplateError> {
        Self::new(name, text, AutoEscape::Html)
    }

    fn new(name: &str, text: &str, escape: AutoEscape) -> Result<Self, TemplateError> {
        if text.len() > MAX_SOURCE {
            let message = format!("{} bytes long; at most {MAX_SOURCE}", text.len());
            return Err(TemplateError { line: None, column: None, message });
        }
        let mut env = Environment::new();
        env.set_auto_escape_callback(move |_| escape.clone());
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_fuel(Some(FUEL));
        subset::restrict(&mut env);
        subset::check(&env, text)?;
        // Errors then know the source of what failed.
        env.set_debug(true);
        env.add_template_owned(name.to_owned(), text.to_owned()).map_err(|error| {
            let (line, column) = place(text, &error);
            TemplateError { line, column, message: words(&error, text) }
        })?;
        Ok(Self { env })
    }

    /// Renders. An undefined value, too much work or too long an output is an error: the caller falls back.
    pub fn render(&self, data: &impl Serialize, limits: Limits) -> Result<String, RenderError> {
        let Some((_, template)) = self.env.templates().next() else { return Ok(String::new()) };
        let mut output = Bounded { bytes: Vec::new(), limit: limits.output, over: false };
        let result = template.render_captured_to(Value::from(Serde(data)), &mut output);
        if output.over {
            return Err(RenderError { message: format!("longer than {} bytes", limits.output) });
        }
        match result {
            Ok(_) => String::from_utf8(output.bytes)
                .map_err(|_| RenderError { message: "the output is not UTF-8".to_owned() }),
            Err(error) => Err(RenderError { message: words(&error, template.source()) }),
        }
    }

    /// The variables that it uses, with their attributes where they are plain: `count`, `record.message`.
    pub fn variables(&self) -> BTreeSet<String> {
        self.env.templates().flat_map(|(_, template)| template.undeclared_variables(true)).collect()
    }
}

/// The text that stands in for one that could not be rendered: `<context>: <what> template failed: <error>`, as in
/// `payment-errors (service=pay): title template failed: undefined value "record.foo"`.
pub fn fallback(what: &str, context: &str, error: &RenderError) -> String {
    format!("{context}: {what} template failed: {error}")
}

/// Line and column of a byte offset, from 1, the column in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.chars().rev().take_while(|it| *it != '\n').count();
    (line, column)
}

fn place(text: &str, error: &minijinja::Error) -> (Option<usize>, Option<usize>) {
    match error.range() {
        Some(range) => {
            let (line, column) = position(text, range.start);
            (Some(line), Some(column))
        }
        None => (error.line(), None),
    }
}

/// The error in words, without MiniJinja's place, which the caller knows, and without values.
fn words(error: &minijinja::Error, source: &str) -> String {
    let said = error.range().and_then(|range| {
        // MiniJinja's place of a chain begins at its second part.
        let begin =
            source.get(..range.start)?.rfind(|it: char| !(it.is_alphanumeric() || matches!(it, '_' | '.')));
        let is_part = source.get(range.start..)?.starts_with('.');
        source.get(if is_part { begin.map_or(0, |at| at + 1) } else { range.start }..range.end)
    });
    let said = said.map(|it| it.trim().chars().take(80).collect()).filter(|it: &String| !it.is_empty());
    match (error.kind(), error.detail(), said) {
        (ErrorKind::OutOfFuel, ..) => format!("more than {FUEL} steps"),
        (ErrorKind::UndefinedError, _, Some(said)) => format!("undefined value {said:?}"),
        (kind, Some(detail), _) => format!("{kind}: {detail}"),
        (kind, None, Some(said)) => format!("{kind} {said:?}"),
        (kind, None, None) => kind.to_string(),
    }
}

/// Takes at most so many bytes, then fails.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    over: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.over = true;
            return Err(io::Error::other("over the limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn render(text: &str, data: &Value) -> Result<String, String> {
        Template::compile("title", text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .render(data, Limits::TEXT)
            .map_err(|error| error.to_string())
    }

    fn wrong(text: &str) -> String {
        Template::compile("title", text).expect_err(text).to_string()
    }

    #[test]
    fn the_examples_render() {
        let data = json!({"severity": "critical", "title": "pay: 21 bad log lines", "summary": "Last: <boom> & more",
            "group": {"service": "pay"}, "count": 21, "window": "1m"});
        assert_eq!(
            render("[{{ severity }}] {{ title }}", &data).unwrap(),
            "[critical] pay: 21 bad log lines"
        );
        let body = "{{ summary }}{% if group %} ({{ group.service }}){% endif %}";
        assert_eq!(render(body, &data).unwrap(), "Last: <boom> & more (pay)");
        for without in [
            json!({"summary": "s"}),
            json!({"summary": "s", "group": {}}),
            json!({"summary": "s", "group": null}),
        ] {
            assert_eq!(render(body, &without).unwrap(), "s");
        }
        assert_eq!(
            render("{{ group.service }}: {{ count }} bad log lines in {{ window }}", &data).unwrap(),
            "pay: 21 bad log lines in 1m"
        );
    }

    #[test]
    fn an_undefined_value_is_an_error_that_names_it() {
        let data = json!({"record": {"a": 1}, "group": {}});
        assert_eq!(render("{{ foo }}", &data).unwrap_err(), "undefined value \"foo\"");
        assert_eq!(render("x {{ record.foo }}", &data).unwrap_err(), "undefined value \"record.foo\"");
        let error = render("{{ record.foo.bar }}", &data).unwrap_err();
        assert!(error.starts_with("undefined value") && error.contains("record.foo"), "{error}");
        assert!(render("{{ foo|upper }}", &data).is_err());
        assert!(render("{% for x in foo %}{% endfor %}", &data).is_err());
        assert_eq!(render("{{ record.foo|default('none') }}", &data).unwrap(), "none");
        assert_eq!(render("{{ record.a if record.foo else 'no' }}", &data).unwrap(), "no");
    }

    #[test]
    fn the_fallback_is_visible_and_named() {
        let template = Template::compile("title", "{{ record.foo }}").unwrap();
        let error = template.render(&json!({"record": {}}), Limits::TITLE).unwrap_err();
        assert_eq!(
            fallback("title", "payment-errors (service=pay)", &error),
            "payment-errors (service=pay): title template failed: undefined value \"record.foo\""
        );
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let data = json!({"x": "<b>&\"'"});
        let html =
            Template::compile_html("html", "<p>{{ x }}</p>").unwrap().render(&data, Limits::TEXT).unwrap();
        assert!(html.starts_with("<p>&lt;b&gt;&amp;") && !html[3..].contains("<b>"), "{html}");
        assert_eq!(render("{{ x }}", &data).unwrap(), "<b>&\"'");
    }

    #[test]
    fn what_does_not_compile_says_where() {
        for (text, place) in [
            ("{{ a", "line 1"),
            ("one\n{% if %}", "line 2"),
            ("{% nothing %}", "line 1"),
            ("{{ a|nofilter( }}", "line 1"),
            ("é {% endif %}", "line 1"),
        ] {
            let error = wrong(text);
            assert!(error.starts_with(place), "{text}: {error}");
        }
        assert!(wrong(&"x".repeat(MAX_SOURCE + 1)).contains("at most 16384"));
    }

    #[test]
    fn a_filter_test_or_function_that_is_not_there_is_told_before_it_renders() {
        for (text, kind, name) in [
            ("{{ title|shout }}", "filter", "shout"),
            ("{{ 'a|b'|upper | shout }}", "filter", "shout"),
            ("{% if count is enormous %}{% endif %}", "test", "enormous"),
            ("{% if count is not enormous %}{% endif %}", "test", "enormous"),
            ("{{ now() }}", "function", "now"),
            ("{{ 'x'|indent(9) }}", "filter", "indent"),
        ] {
            assert_eq!(wrong(text), format!("line 1, column 1: there is no {kind} `{name}`"));
        }
        let data = json!({"count": 3, "is": 1, "group": {"a": "b"}});
        let all = "{% if(count is defined) and not(count is not defined) and count is divisibleby(3) %}{{ group|items|length }}{% for i in range(2) %}{{ i }}{% endfor %}{% endif %}{{ 1 if count in(3, 4) else(2) }}";
        assert_eq!(render(all, &data).unwrap_or_else(|error| error), "1011");
    }

    #[test]
    fn a_template_stands_alone_and_keeps_to_the_subset() {
        for text in [
            "a\n{% include 'x' %}",
            "{%- extends 'x' %}",
            "{% import 'x' as y %}",
            "{% from 'x' import y %}",
            "{%block a%}{%endblock%}",
            "{% set x = 1 %}",
            "{% macro f() %}{% endmacro %}",
            "{% raw %}{{ \" {% endraw %}{{ x * x }} \" }}",
            "{% for x in [y, y] %}{% endfor %}",
            "{% for x in y ~ y %}{% endfor %}",
            "{% for x in y recursive %}{% endfor %}",
            "{{ x * 2 }}",
            "{{ {'a': 1} }}",
        ] {
            let error = wrong(text);
            assert!(error.contains("not"), "{error}");
        }
        assert!(wrong("é\n  {% include 'x' %}").starts_with("line 2, column 3:"));
        let data = json!({"m": {"a": 1}, "l": ["x", "y"]});
        assert_eq!(render("{% for k, v in m|items %}{{ k }}={{ v }}{% endfor %}", &data).unwrap(), "a=1");
        assert_eq!(render("{# it's {{ #}{{ '*' ~ l|join(', ') ~ \"}}\" }}", &data).unwrap(), "*x, y}}");
        assert_eq!(render("{{ l|join|replace('x', 'zz')|upper }}", &data).unwrap(), "ZZY");
        assert_eq!(
            render("{% for x in l %}{{ loop.index }}{{ x }}{% else %}none{% endfor %}", &data).unwrap(),
            "1x2y"
        );
    }

    #[test]
    fn work_and_output_are_bounded() {
        let data = json!({"text": "x".repeat(2_000), "many": (0..3_000).collect::<Vec<_>>()});
        assert_eq!(
            render("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", &data)
                .unwrap_err(),
            "more than 20000 steps"
        );
        assert_eq!(
            render("{% for a in range(50) %}{{ text }}{% endfor %}", &data).unwrap_err(),
            "longer than 16384 bytes"
        );
        let title = Template::compile("title", "{{ text }}").unwrap();
        assert_eq!(title.render(&data, Limits::TITLE).unwrap_err().to_string(), "longer than 1024 bytes");
        assert!(title.render(&data, Limits { output: 2_000 }).is_ok());
        for text in [
            "{{ range(100000)|join('xxxxxxxx') }}",
            "{{ text|replace('x', text) }}",
            "{{ text|replace('', text) }}",
            "{{ many|map('replace', '1', text)|join }}",
            "{{ [text, text, text, text, text, text, text, text, text, text, text]|join }}",
        ] {
            assert!(render(text, &data).is_err(), "{text}");
        }
        for text in
            ["{{ 'a'|indent(9) }}", "{{ '%9d'|format(1) }}", "{{ namespace(x=1) }}", "{{ many|zip(many) }}"]
        {
            let error = Template::compile("t", text).map(|template| template.render(&data, Limits::TEXT));
            assert!(matches!(error, Err(_) | Ok(Err(_))), "{text}");
        }
    }

    #[test]
    fn deep_sources_are_refused_before_they_recurse() {
        for piece in ["{{ (", "{{ [", "{{ -", "{% if a %}", "{{ not ", "{{ a.b", "{{ {1:"] {
            let (open, rest) = piece.split_at(3);
            let _ = Template::compile("t", &piece.repeat(MAX_SOURCE / piece.len()));
            let _ = Template::compile("t", &format!("{open}{}", rest.repeat((MAX_SOURCE - 3) / rest.len())));
        }
        for chain in ["+a", "~a", ".b", "[0]", "|upper", " and a", " if a else a", " == a", "*a"] {
            let long = format!("{{{{ a{} }}}}", chain.repeat((MAX_SOURCE - 8) / chain.len()));
            assert!(wrong(&long).contains("not"), "{chain}");
            let hidden = format!("{{{{ '}}}}' {} }}}}", chain.repeat((MAX_SOURCE - 20) / chain.len()));
            assert!(wrong(&hidden).contains("not"), "{chain}");
            let text = format!("{{{{ a{} }}}}", chain.repeat((subset::MAX_TAG - 8) / chain.len()));
            if let Ok(template) = Template::compile("t", &text) {
                let _ = template.render(&json!({"a": 1}), Limits::TEXT);
                let _ = template.variables();
            }
        }
    }

    #[test]
    fn variables_are_told_with_their_attributes() {
        let template = Template::compile(
            "t",
            "{{ count }} {{ record.message }}{% for x in record.items %}{{ x }}{% endfor %}",
        )
        .unwrap();
        let variables = template.variables();
        for name in ["count", "record.message", "record.items"] {
            assert!(variables.contains(name), "{variables:?}");
        }
        assert!(!variables.contains("x"));
    }

    #[test]
    fn an_error_does_not_quote_the_data() {
        let data = json!({"secret": "hunter2", "n": 1});
        for text in ["{{ secret + n }}", "{{ secret|int }}", "{{ secret.x.y }}", "{{ n|join(secret) }}"] {
            if let Err(error) = render(text, &data) {
                assert!(!error.contains("hunter"), "{error}");
            }
        }
    }
}
