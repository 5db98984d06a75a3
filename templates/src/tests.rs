mod nasty;

use serde_json::{Value, json};

use super::*;

fn render(text: &str, data: &Value) -> Result<String, String> {
    Template::compile(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .render(&TemplateData::new(data), OutputLimit::TEXT, &|| None)
        .map_err(|error| error.to_string())
}

fn wrong(text: &str) -> String {
    Template::compile(text).expect_err(text).to_string()
}

#[test]
fn the_examples_render() {
    let data = json!({"severity": "critical", "title": "pay: 21 bad log lines", "summary": "Last: <boom> & more",
        "group": {"service": "pay"}, "count": 21, "window": "1m"});
    assert_eq!(render("[{{ severity }}] {{ title }}", &data).unwrap(), "[critical] pay: 21 bad log lines");
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
    let template = Template::compile("{{ record.foo }}").unwrap();
    let error = template
        .render(&TemplateData::new(&json!({"record": {}})), OutputLimit::TITLE, &|| None)
        .unwrap_err();
    assert_eq!(
        fallback("title", "payment-errors (service=pay)", &error),
        "payment-errors (service=pay): title template failed: undefined value \"record.foo\""
    );
}

#[test]
fn what_is_put_into_a_string_of_json_stays_in_it() {
    let text = "say \"hi\"\\n\n\t\u{7f}\u{0}é";
    let data = serde_json::json!({ "x": text, "n": 7, "list": [text] });
    let template = Template::compile_json(
        r#"{"x": "{{ x }}", "n": {{ n }}, "l": "{{ list }}", "safe": {{ '"y"'|safe }}}"#,
    );
    let json = template.unwrap().render(&TemplateData::new(&data), OutputLimit::TEXT, &|| None).unwrap();
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&read["x"], &read["n"], &read["safe"]), (&data["x"], &data["n"], &"y".into()));
    assert!(read["l"].as_str().unwrap().starts_with('['), "{json}");
}

#[test]
fn a_template_knows_which_of_an_alerts_messages_it_tells_from_the_first() {
    let all = "{% if kind == 'resolved' %}ok{% elif kind in ['repeat', 'closed'] %}-{% endif %}";
    let cases: [(&str, &[&str]); 7] = [
        ("{{ status }}", &["resolved", "closed"]),
        ("{{ kind | upper }}", &["repeat", "resolved", "closed"]),
        ("{% if kind == 'resolved' %}ok{% endif %}", &["resolved"]),
        (all, &["repeat", "resolved", "closed"]),
        ("{% if status == 'closed' %}?{% endif %}", &["resolved", "closed"]),
        ("{% if endsAt is defined %}ok{% endif %}", &["resolved"]),
        ("{{ record.status }} {{ group.kind }} status", &[]),
    ];
    for (text, tells) in cases {
        let template = Template::compile(text).unwrap();
        let kinds = ["repeat", "resolved", "closed"].into_iter();
        let told: Vec<_> = kinds.filter(|kind| template.tells_apart(kind)).collect();
        assert_eq!(told, tells, "{text}");
    }
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
        let column = text.find(name).unwrap() + 1;
        assert_eq!(wrong(text), format!("line 1, column {column}: there is no {kind} `{name}`"));
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
fn output_and_each_value_are_bounded() {
    let data = json!({"text": "x".repeat(2_000), "many": (0..3_000).collect::<Vec<_>>()});
    assert_eq!(
        render("{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}", &data)
            .unwrap_err(),
        "more than 100000 steps"
    );
    assert_eq!(
        render("{% for a in range(100000) %}{% endfor %}", &data).unwrap_err(),
        "a list of more than 16384 elements"
    );
    assert_eq!(
        render("{% for a in range(50) %}{{ text }}{% endfor %}", &data).unwrap_err(),
        "longer than 16384 bytes"
    );
    let data = TemplateData::new(&data);
    let title = Template::compile("{{ text }}").unwrap();
    assert!(title.render(&data, OutputLimit::TITLE, &|| None).unwrap().ends_with("x…"), "a title is cut");
    let error = title.render(&data, OutputLimit { bytes: 1_000 }, &|| None).unwrap_err();
    assert_eq!(error.to_string(), "longer than 1000 bytes");
    assert!(title.render(&data, OutputLimit { bytes: 2_000 }, &|| None).is_ok());
    for text in [
        "{{ text|replace('x', text) }}",
        "{{ text|replace('', text) }}",
        "{{ many|join(text) }}",
        "{{ text ~ text ~ text ~ text ~ (many[:2000]|join(text[:50])) }}",
    ] {
        let error = Template::compile(text).unwrap().render(&data, OutputLimit::TEXT, &|| None).unwrap_err();
        assert_eq!(error.to_string(), "an expression's text is longer than 65536 bytes", "{text}");
    }
    for text in
        ["{{ 'a'|indent(9) }}", "{{ '%9d'|format(1) }}", "{{ namespace(x=1) }}", "{{ many|zip(many) }}"]
    {
        assert!(Template::compile(text).is_err(), "{text}");
    }
}

#[test]
fn deep_sources_are_refused_before_they_recurse() {
    for piece in ["{{ (", "{{ [", "{{ -", "{% if a %}", "{{ not ", "{{ a.b", "{{ {1:"] {
        let (open, rest) = piece.split_at(3);
        let _ = Template::compile(&piece.repeat(MAX_SOURCE / piece.len()));
        let _ = Template::compile(&format!("{open}{}", rest.repeat((MAX_SOURCE - 3) / rest.len())));
    }
    for chain in ["+a", "~a", ".b", "[0]", "|upper", " and a", " if a else a", " == a", "*a"] {
        let long = format!("{{{{ a{} }}}}", chain.repeat((MAX_SOURCE - 8) / chain.len()));
        assert!(wrong(&long).contains("not"), "{chain}");
        let hidden = format!("{{{{ '}}}}' {} }}}}", chain.repeat((MAX_SOURCE - 20) / chain.len()));
        assert!(wrong(&hidden).contains("not"), "{chain}");
        let text = format!("{{{{ a{} }}}}", chain.repeat((subset::MAX_TAG - 8) / chain.len()));
        if let Ok(template) = Template::compile(&text) {
            let _ = template.render(&TemplateData::new(&json!({"a": 1})), OutputLimit::TEXT, &|| None);
        }
    }
    let chain = format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(1_000));
    assert_eq!(wrong(&chain), "line 1, column 1211: more than 100 `elif` are not allowed");
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

#[test]
fn a_text_that_does_not_parse_says_what_to_write() {
    for (text, said) in [
        (
            "{{ group.service }",
            "line 1, column 1: the tag isn't closed by `}}`; braces inside of a tag are not allowed",
        ),
        (
            "a {{ b } c {{ d }}",
            "line 1, column 3: the tag isn't closed by `}}`; braces inside of a tag are not allowed",
        ),
        ("{{ a['x }}", "line 1, column 1: a string in the tag isn't closed: ' is missing"),
        ("{% if a %}x", "an `if` or `for` isn't closed: `{% endif %}` or `{% endfor %}` is missing"),
        ("{% for x in %}", "something is missing before the end of the tag: a name or a value"),
        ("{% for %}", "`for` needs what it goes through: `{% for x in xs %}`"),
        ("x{% endif %}", "`endif` has no `if` that is open here"),
        ("{% endfor %}", "`endfor` has no `for` that is open here"),
        ("{{ }}", "something is missing before the end of the tag: a name or a value"),
        ("{{ a b }}", "line 1, column 6: `b` is not expected here"),
        ("{{ a. }}", "something is missing before the end of the tag: a name or a number"),
        ("{{ (a }}", "a bracket isn't closed: `)` is missing"),
        ("{{ a[ }}", "a bracket isn't closed: `]` is missing"),
        ("{{ $x }}", "line 1, column 4: `$` is not expected here"),
        ("{{ a && b }}", "`&` is not expected here; write `and`"),
        ("{% if a = b %}x{% endif %}", "`=` is not expected here; equality is `==`"),
        ("{% for x of y %}{% endfor %}", "`of` is not expected here; expected is `in`"),
        ("{{ a ? b : c }}", "`?` is not expected here; write `x if condition else y`"),
    ] {
        let told = Template::compile(text).unwrap_err().to_string();
        assert!(told.ends_with(said), "{text}: {told}");
    }
}

#[test]
fn a_title_over_its_bound_is_cut_visibly_at_a_character() {
    let title = Template::compile("{{ x }}").unwrap();
    let render = |x: String, limits| title.render(&TemplateData::new(&json!({ "x": x })), limits, &|| None);
    for x in ["é".repeat(600), "a".repeat(5_000), "x😀".repeat(400)] {
        let text = render(x.clone(), OutputLimit::TITLE).unwrap();
        let kept = text.strip_suffix('…').unwrap();
        assert!(text.len() <= 1024 && text.len() > 1016 && x.starts_with(kept), "{}", text.len());
    }
    assert_eq!(render("a".repeat(1024), OutputLimit::TITLE).unwrap(), "a".repeat(1024), "what fits stays");
    let error = render("a".repeat(20_000), OutputLimit::TEXT).unwrap_err();
    assert_eq!(error.message, "longer than 16384 bytes");
    assert!(error.or_cut().unwrap().ends_with("a…"));
}

#[test]
fn null_and_booleans_are_written_as_json_writes_them() {
    let data = TemplateData::new(
        &json!({"n": null, "t": true, "f": false, "l": [null, true, "a"], "m": {"k": false}}),
    );
    let render =
        |text: &str| Template::compile(text).unwrap().render(&data, OutputLimit::TEXT, &|| None).unwrap();
    assert_eq!(
        render("{{ n }} {{ t }} {{ f }} {{ l }} {{ m }}"),
        "null true false [null, true, 'a'] {'k': false}"
    );
    assert_eq!(render("{{ 'x: ' ~ t }} {{ [n, f]|join(',') }} {{ t|upper }}"), "x: true null,false TRUE");
}

#[test]
fn a_value_is_written_as_json_and_a_long_text_is_shortened() {
    let data =
        json!({"r": {"b": [1, 1.5, null, true], "a": "q\"\n</b>"}, "t": "one two three", "e": "ééééé"});
    let (value, data) = (&data["r"], TemplateData::new(&data));
    let render =
        |text: &str| Template::compile(text).unwrap().render(&data, OutputLimit::TEXT, &|| None).unwrap();
    let written = render("{{ r|tojson }}");
    assert_eq!(&serde_json::from_str::<serde_json::Value>(&written).unwrap(), value, "{written}");
    for (text, expected) in [
        ("{{ t|truncate(8) }}", "one two…"),
        ("{{ t|truncate(7) }}", "one…"),
        ("{{ t|truncate(7, true) }}", "one tw…"),
        ("{{ t|truncate(length=7, killwords=true, end='..') }}", "one t.."),
        ("{{ t|truncate(13) }}", "one two three"),
        ("{{ e|truncate(3) }}", "éé…"),
        ("{{ t|truncate(0) }}", ""),
        ("{{ t[:3] }} {{ t[-5:] }} {{ t[4:7] }} {{ t[::-1] }}", "one three two eerht owt eno"),
        ("{{ r.b[1:3]|tojson }}", "[1.5,null]"),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
}
