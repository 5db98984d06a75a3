//! Templates that demand too much: each ends within its budget, whatever it does and whatever data it gets.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{OutputLimit, STEPS, Template, TemplateData};

/// A record of 16 KiB as a tenant may send it, and lists as long as a text has characters.
fn data() -> TemplateData {
    let word = |n: usize| format!("{:x}", n.wrapping_mul(2_654_435_761) % 65_536);
    let text: String = (0..).map(word).flat_map(|word| [word, " ".to_owned()]).take(9_000).collect();
    let many: Vec<_> = (0..5_000_u64).map(|n| n * 7_919 % 5_000).collect();
    let same = vec!["x".repeat(1_000); 15];
    let maps: Vec<_> = many
        .iter()
        .take(1_000)
        .map(|n| json!({"k": n % 10, "t": word(usize::try_from(*n).unwrap())}))
        .collect();
    let deep = (0..100).fold(json!("end"), |inner, _| json!({ "a": [inner] }));
    TemplateData::new(&json!({"record": {"text": &text[..16 << 10], "deep": deep}, "text": &text[..16 << 10],
        "as": "a".repeat(16 << 10), "many": many, "same": same, "maps": maps, "n": 7, "none": Value::Null}))
}

fn steps(text: &str, data: &TemplateData) -> (Result<String, String>, u64) {
    let template = Template::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let (rendered, steps) = template.metered(data, OutputLimit::TEXT, &|| None);
    (rendered.map_err(|error| error.to_string()), steps)
}

fn looped(times: usize, body: &str) -> String {
    format!("{{% for a in range({times}) %}}{body}{{% endfor %}}")
}

#[test]
fn each_nasty_template_ends_within_its_steps() {
    let data = data();
    let sorts = "|split('')|list|sort".to_owned() + &"|reverse|sort".repeat(20);
    let nested = ["{% for v in many %}"; 20].concat() + "x" + &"{% endfor %}".repeat(20);
    let grows = ["text"; 60].join("~");
    let adds = ["many"; 60].join("+");
    let templates = [
        // A record's text split and sorted again and again; this once stopped a hub.
        format!("{{{{ record.text{sorts}|join }}}}"),
        looped(10_000, &format!("{{% if record.text{sorts}|length > 99999 %}}{{% endif %}}")),
        looped(
            10_000,
            "{% if text|split('')|list|sort|reverse|sort|unique|join|upper|lower|length == 1 %}{% endif %}",
        ),
        nested,
        // Values that grow.
        format!("{{{{ {grows} }}}}"),
        format!("{{{{ ({adds})|length }}}}"),
        looped(10_000, &format!("{{% if ({grows})|length > 99999999 %}}{{% endif %}}")),
        "{{ text|replace('', text) }}".to_owned(),
        "{{ as|replace('a', as) }}".to_owned(),
        looped(10_000, "{% if as|replace('a', 'aaaa') == text %}{% endif %}"),
        "{{ range(16384)|join(text) }}".to_owned(),
        "{{ range(1000000000000) }}".to_owned(),
        "{{ range(0, 100000000000000000000000000000000000000, 99999999999999999999999999999999999999) }}"
            .to_owned(),
        // Expensive comparisons and searches.
        looped(10_000, "{% if many == many %}{% endif %}"),
        looped(10_000, "{% if 'no' in many %}{% endif %}"),
        looped(10_000, "{% if as ~ 'b' in as ~ 'c' %}{% endif %}"),
        looped(10_000, "{% if text < text ~ 'x' %}{% endif %}"),
        looped(10_000, "{% if record.deep == record.deep and record.deep is eq(record.deep) %}{% endif %}"),
        looped(
            10_000,
            "{% if text is startingwith(text) and text is endingwith(text) and text is lower %}{% endif %}",
        ),
        looped(10_000, "{% if text[::-1][1:][::2]|trim(text) %}{% endif %}"),
        looped(10_000, "{{ text[-1] if text[16000] == '~' else '' }}"),
        // Lists of lists, and filters by name.
        looped(10_000, "{% if maps|sort(attribute='t,k')|map(attribute='t')|join|length > 1 %}{% endif %}"),
        looped(
            10_000,
            "{% if maps|map('string')|map('upper')|map('split', '')|map('sort')|list|length > 1 %}{% endif %}",
        ),
        looped(10_000, "{% if many|select('in', many)|reject('gt', 1)|sum > 1 %}{% endif %}"),
        looped(
            10_000,
            "{% if maps|selectattr('k', 'eq', 1)|unique(attribute='t')|list == many %}{% endif %}",
        ),
        looped(10_000, "{% if same|map('replace', 'x', 'yy')|join(same|join)|length > 9 %}{% endif %}"),
        looped(10_000, "{% if [many, many, many, many]|string|length > 1 %}{% endif %}"),
        looped(
            10_000,
            "{% if [text, text, text, text]|map('escape')|sort|unique|min == text|max %}{% endif %}",
        ),
        looped(10_000, "{% if loop.changed(many, text, maps) and loop.cycle(text, many) %}{% endif %}"),
        looped(10_000, "{% for c in text if c in text %}{% endfor %}"),
        looped(10_000, "{% if record|dictsort(by='value')|string|length > 0 %}{% endif %}"),
        looped(
            10_000,
            "{% if text|title|capitalize|lines|first|int(0) + text|wordy|default(1) %}{% endif %}"
                .replace("|wordy", "|length")
                .as_str(),
        ),
        format!("{{{{ {}a{} }}}}", "(".repeat(60), ")".repeat(60)),
        format!("{{{{ {}n }}}}", "-".repeat(60)),
        // As deep as the parser allows, and at the bottom a chain as long as a tag may be.
        format!("{}{{{{ n{} }}}}{}", "{% if n %}".repeat(100), "+n".repeat(140), "{% endif %}".repeat(100)),
        format!(
            "{}{{{{ {}n }}}}{}",
            "{% for x in many[:1] %}".repeat(80),
            "not ".repeat(60),
            "{% endfor %}".repeat(80)
        ),
        format!(
            "{{% if not n %}}{}{{{{ n|{}length }}}}{{% endif %}}",
            "{% elif not n %}".repeat(100),
            "list|".repeat(90)
        ),
    ];
    let mut over = 0;
    for text in &templates {
        let (rendered, steps) = steps(text, &data);
        let short: String = text.chars().take(120).collect();
        assert!(steps <= STEPS, "{steps} steps: {short}");
        if let Err(error) = rendered {
            over += usize::from(error == format!("more than {STEPS} steps"));
            let named =
                ["more than", "longer than", "undefined value"].iter().any(|bound| error.contains(bound));
            assert!(named, "{error}: {short}");
        }
    }
    assert!(over >= 15, "{over}: they are not nasty any more");
}

#[test]
fn a_rendering_looks_at_its_clock_and_ends_when_its_time_is_over() {
    let looked = std::cell::Cell::new(0);
    let clock = || {
        looked.set(looked.get() + 1);
        (looked.get() > 20).then_some("50ms for a text")
    };
    let endless = Template::compile(&looped(10_000, "{% if many|sort == text %}{% endif %}")).unwrap();
    let (rendered, steps) = endless.metered(&data(), OutputLimit::TEXT, &clock);
    assert_eq!(rendered.unwrap_err().to_string(), "took longer than 50ms for a text");
    assert_eq!(looked.get(), 21);
    assert!(steps < 20 * 512 + 20_000, "{steps}");
    let late = Template::compile("x").unwrap().metered(&data(), OutputLimit::TEXT, &|| Some("that"));
    assert_eq!((late.0.unwrap_err().to_string().as_str(), late.1), ("took longer than that", 0));
}

#[test]
fn ordinary_templates_take_less_than_a_hundredth_of_the_steps() {
    let data = TemplateData::new(
        &json!({"severity": "critical", "title": "pay: 21 bad log lines in 1m", "count": 21,
        "summary": "Last: <boom> & more", "group": {"service": "pay", "accountId": "a-1", "where": "eu"}, "window": "1m",
        "values": ["a", "b", "c"], "topValues": {"host": (0..10).map(|n| json!({"value": format!("host-{n}"), "count": n})).collect::<Vec<_>>()},
        "record": {"message": "card refused by the bank: insufficient funds", "msg": "m", "err": "timeout"}}),
    );
    for text in [
        "[{{ severity }}] {{ title }}",
        "{{ summary }}{% if group %} ({{ group.service }}){% endif %}",
        "{{ group.service }}: {{ count }} bad log lines in {{ window }}",
        "Last: {{ record.message }}",
        "Chargeback on {{ group.accountId }}",
        "{{ count }} errors at {{ group.where }} in {{ window }}",
        "Last: {{ record.msg }}: {{ record.err }}",
        "{% for it in topValues.host %}{{ it.value }}={{ it.count }} {% endfor %}{{ values | join(', ') }}",
        "{% for k, v in group|items %}{{ k|upper }}={{ v|default('-')|replace('a', 'b') }}{% if not loop.last %}, {% endif %}{% endfor %}",
    ] {
        let (rendered, steps) = steps(text, &data);
        assert!(rendered.is_ok(), "{text}: {rendered:?}");
        assert!(steps < STEPS / 100, "{steps} steps: {text}");
    }
}

/// A source and a chain of filters, of all that there are.
fn chains() -> impl Strategy<Value = String> {
    let source = prop::sample::select(vec![
        "text",
        "as",
        "many",
        "same",
        "maps",
        "record",
        "record.deep",
        "n",
        "none",
        "range(9999)",
        "text ~ text",
        "many + many",
        "[text, many, maps]",
        "maps[1:]",
        "text[::-1]",
    ]);
    let filter = prop::sample::select(vec![
        "upper",
        "lower",
        "title",
        "capitalize",
        "replace('a', text)",
        "replace('', 'yy')",
        "length",
        "dictsort",
        "items",
        "reverse",
        "trim",
        "trim(text)",
        "join",
        "join(as)",
        "split",
        "split('')",
        "split('a', 9)",
        "lines",
        "default(text)",
        "round(2)",
        "abs",
        "int(1)",
        "float(1)",
        "attr('k')",
        "first",
        "last",
        "min",
        "max",
        "sort",
        "sort(reverse=true)",
        "list",
        "sort(attribute='t,k')",
        "string",
        "bool",
        "sum",
        "select('in', many)",
        "reject('eq', text)",
        "selectattr('k')",
        "rejectattr('k', 'lt', 5)",
        "map('string')",
        "map('split', '')",
        "map(attribute='t')",
        "map('replace', '', text)",
        "map('map', 'upper')",
        "unique",
        "unique(attribute='k')",
        "escape",
        "safe",
    ]);
    (source, prop::collection::vec(filter, 1..12))
        .prop_map(|(source, filters)| format!("({source})|{}", filters.join("|")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_filters_are_put_together_the_steps_hold(a in chains(), b in chains(), times in 1_usize..2_000) {
        let data = data();
        for text in [
            looped(times, &format!("{{% if {a} %}}{{% endif %}}")),
            looped(times, &format!("{{{{ {a} == {b} }}}}")),
            format!("{{% for x in {a} %}}{{{{ x }}}}{{% endfor %}}"),
        ] {
            // If it is longer than a tag may be, it is not a template.
            let Ok(template) = Template::compile(&text) else { continue };
            let (rendered, steps) = template.metered(&data, OutputLimit::TEXT, &|| None);
            prop_assert!(steps <= STEPS, "{steps} steps: {text}");
            if let Ok(rendered) = rendered {
                prop_assert!(rendered.len() <= OutputLimit::TEXT.bytes);
            }
        }
    }
}
