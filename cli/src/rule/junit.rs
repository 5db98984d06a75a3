//! Writes JUnit's XML, as far as pipelines read it.
//!
//! It doesn't use the library quick-junit, which depends on chrono and two parsers and doesn't remove hidden characters.

use std::fmt::Write as _;

/// A file of tests.
pub(crate) struct TestSuite {
    pub(crate) name: String,
    pub(crate) cases: Vec<TestCase>,
}

/// A test, and why it failed, if it did.
pub(crate) struct TestCase {
    pub(crate) name: String,
    pub(crate) failure: Option<String>,
}

/// The XML document.
pub(crate) fn xml(suites: &[TestSuite]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for TestSuite { name, cases } in suites {
        let failed = cases.iter().filter(|case| case.failure.is_some()).count();
        let name = escaped(name);
        // Writing to a String cannot fail.
        let _ =
            writeln!(xml, "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\">", cases.len());
        for case in cases {
            let head = format!("    <testcase classname=\"{name}\" name=\"{}\"", escaped(&case.name));
            let _ = match &case.failure {
                None => writeln!(xml, "{head}/>"),
                Some(why) => {
                    let first = why.lines().next().unwrap_or_default().trim();
                    writeln!(
                        xml,
                        "{head}>\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                        escaped(first),
                        escaped(why)
                    )
                }
            };
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Escapes a text for elements and attributes. Characters that XML 1.0 can't contain, or that are not visible, become replacement
/// characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            char if domain::hides_in_document(char) => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failures_text_is_escaped() {
        let cases = vec![
            TestCase { name: "a".to_owned(), failure: None },
            TestCase { name: "b <\"&\">".to_owned(), failure: Some("first\nsecond \u{1}".to_owned()) },
        ];
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  \
            <testsuite name=\"f\" tests=\"2\" failures=\"1\">\n    <testcase classname=\"f\" name=\"a\"/>\n    \
            <testcase classname=\"f\" name=\"b &lt;&quot;&amp;&quot;&gt;\">\n      \
            <failure message=\"first\">first\nsecond \u{fffd}</failure>\n    </testcase>\n  </testsuite>\n</testsuites>\n";
        assert_eq!(xml(&[TestSuite { name: "f".to_owned(), cases }]), expected);
    }
}
