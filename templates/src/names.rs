//! Checks the names that a text uses: a name that its data never has is reported when the text is written, not by the
//! first message.
//!
//! It walks the syntax tree with the names that `for` binds. Names are checked one step deep: `group.service`, but not
//! what a record holds. A name that only some messages have may be used where the text asks for it (`if`, `and`,
//! `default`, `is defined`), and inside an `if` or a `for`, which may leave it out. Nothing is guessed about what is in
//! a record.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use minijinja::machinery::{self, ast};

use crate::subset::{self, MAX_FAULTS};
use crate::tree::TreeBuilder;
use crate::{MAX_SOURCE, Template, TemplateError, filters, position, syntax_errors};

/// What a name holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameContent {
    /// A text, a number or a time; it has no members.
    Value,
    /// Its members can't be known, as in a record.
    Open,
    /// Exactly these members, and the field that they come from.
    Only(BTreeSet<String>, &'static str),
    /// A value that is not always there; in words, when it is.
    Sometimes(&'static str),
}

/// The names that texts of one kind may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Which texts, in words: `a rule's texts`.
    whose: &'static str,
    known: BTreeMap<&'static str, NameContent>,
}

/// The fields of a rule on which its names depend.
#[derive(Debug, Clone, Copy)]
pub struct RuleFields<'a> {
    /// The labels of `groupBy`.
    pub group_by: &'a BTreeMap<String, String>,
    /// The names of `topValues`.
    pub top_values: &'a BTreeMap<String, String>,
    /// The condition.
    pub condition: &'a domain::Condition,
}

/// The names of every rule.
const RULE: [&str; 17] = [
    "count",
    "firstRecord",
    "kind",
    "namespace",
    "offset",
    "partition",
    "record",
    "rule",
    "severity",
    "since",
    "startsAt",
    "status",
    "timestamp",
    "topic",
    "value",
    "windowEnd",
    "windowStart",
];

/// The names that some message of a channel has.
const CHANNEL: [&str; 36] = [
    "ask",
    "at",
    "beforeMinutes",
    "closed",
    "count",
    "created",
    "daysBefore",
    "description",
    "due",
    "end",
    "episode",
    "first",
    "id",
    "kind",
    "location",
    "name",
    "namespace",
    "object",
    "occurrence",
    "offset",
    "partition",
    "recipientStart",
    "recipientTimeZone",
    "repeat",
    "request",
    "severity",
    "since",
    "status",
    "summary",
    "timeZone",
    "timestamp",
    "title",
    "topic",
    "url",
    "windowEnd",
    "windowStart",
];

/// The names of a reminder, for a schedule's summary.
const SCHEDULE: [&str; 14] = [
    "beforeMinutes",
    "description",
    "due",
    "end",
    "location",
    "name",
    "namespace",
    "occurrence",
    "start",
    "text",
    "timeZone",
    "title",
    "url",
    "when",
];

impl Names {
    /// The names for a rule's title and summary.
    pub fn for_rule(rule: RuleFields<'_>) -> Self {
        use domain::Condition::{Change, Extreme, Spike};
        let keys = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<BTreeSet<_>>();
        let mut known: BTreeMap<&'static str, NameContent> =
            RULE.into_iter().map(|name| (name, NameContent::Value)).collect();
        known.extend([
            ("record", NameContent::Open),
            ("firstRecord", NameContent::Open),
            ("values", NameContent::Open),
            ("group", NameContent::Only(keys(rule.group_by), "groupBy")),
            ("labels", NameContent::Only(keys(rule.group_by), "groupBy")),
            ("topValues", NameContent::Only(keys(rule.top_values), "topValues")),
            ("endsAt", NameContent::Sometimes("only the message that the alert is over has it")),
            ("previous", NameContent::Value),
            ("window", NameContent::Value),
        ]);
        if !matches!(rule.condition, Change { .. } | Extreme { .. } | Spike { .. }) {
            known.insert("previous", NameContent::Sometimes("only Spike, Change and Extreme have it"));
        }
        if rule.condition.window().is_none() {
            known.insert("window", NameContent::Sometimes("a condition about single records has none"));
        }
        Self { whose: "a rule's texts", known }
    }

    /// The names for a channel's own texts: all that a message of any cause may have.
    pub fn for_channel() -> Self {
        let mut known: BTreeMap<&'static str, NameContent> =
            CHANNEL.into_iter().map(|name| (name, NameContent::Value)).collect();
        known.insert("group", NameContent::Open);
        known.insert("resources", NameContent::Open);
        Self { whose: "a channel's texts", known }
    }

    /// The names for a webhook's own body: those of the channel's texts, and the texts that the channel renders.
    pub fn for_webhook_body() -> Self {
        let mut names = Self::for_channel();
        names.known.insert("text", NameContent::Value);
        Self { whose: "a webhook's bodies", ..names }
    }

    /// The names for a schedule's summary.
    pub fn for_schedule() -> Self {
        let mut known: BTreeMap<&'static str, NameContent> =
            SCHEDULE.into_iter().map(|name| (name, NameContent::Value)).collect();
        known.insert("resources", NameContent::Open);
        Self { whose: "a schedule's texts", known }
    }

    /// Whether there is such a name.
    pub fn has(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    /// Returns all that is wrong with a text, in its order, each unknown name once. If a tag can't be read, the rest is
    /// checked without it, as far as that says anything about the rest.
    pub fn check(&self, text: &str) -> Vec<TemplateError> {
        if text.len() > MAX_SOURCE {
            return Template::compile(text).err().into_iter().collect();
        }
        let mut found: BTreeMap<usize, String> = BTreeMap::new();
        let mut rest = text.to_owned();
        let mut named = BTreeSet::new();
        for fault in subset::find_faults(text) {
            if fault.is_name {
                named.insert(fault.tag.start);
            } else if !blank(&mut rest, &fault.tag) {
                // Without a broken statement, nothing is known about what surrounds it.
                found.insert(fault.at, fault.message);
                return to_errors(text, found);
            }
            found.insert(fault.at, fault.message);
        }
        self.parse_what_can_be(&mut rest, &named, &mut found);
        to_errors(text, found)
    }

    /// Parses a text and blanks what can't be parsed, until the rest can.
    fn parse_what_can_be(
        &self,
        rest: &mut String,
        named: &BTreeSet<usize>,
        found: &mut BTreeMap<usize, String>,
    ) {
        let mut is_walked = false;
        for _ in 0..MAX_FAULTS {
            let refused = {
                #[allow(clippy::default_trait_access, reason = "MiniJinja gives the syntax's type no name")]
                let parsed = machinery::parse(rest, "text", Default::default());
                match parsed {
                    Ok(parsed) => {
                        // Names are checked only once, with as much as can be parsed.
                        if !std::mem::replace(&mut is_walked, true) {
                            self.walk(&parsed, found);
                        }
                        match TreeBuilder::default().template(&parsed) {
                            Ok(_) => return,
                            Err(refused) => (refused.at, refused.message),
                        }
                    }
                    Err(error) => {
                        let at = error.range().map_or(rest.len(), |range| range.start);
                        (at, syntax_errors::in_words(&error, rest))
                    }
                }
            };
            let (at, message) = refused;
            let tag = subset::tag_around(rest, at);
            // An unknown filter, test or function has already been reported.
            if !tag.as_ref().is_some_and(|tag| named.contains(&tag.start)) {
                found.insert(at, message);
            }
            if !tag.is_some_and(|tag| blank(rest, &tag)) {
                return;
            }
        }
    }

    fn walk(&self, parsed: &ast::Stmt<'_>, found: &mut BTreeMap<usize, String>) {
        let mut walk =
            NameWalk { names: self, locals: Vec::new(), loops: 0, asked: 0, found: BTreeMap::new() };
        walk.stmt(parsed);
        let mut told = BTreeSet::new();
        let names = walk.found.into_iter().filter(|(_, message)| told.insert(message.clone()));
        found.extend(names.map(|(at, message)| (at as usize, message)));
    }

    fn fault(&self, name: &str, asked: bool) -> Option<String> {
        match self.known.get(name) {
            None => {
                let there: Vec<&str> = self.known.keys().copied().collect();
                Some(format!("there is no `{name}`; {} have {}", self.whose, there.join(", ")))
            }
            Some(NameContent::Sometimes(when)) if !asked => {
                Some(format!("`{name}` is not always there: {when}; ask with {{% if {name} %}}"))
            }
            Some(_) => None,
        }
    }

    fn fault_in(&self, of: &str, name: &str) -> Option<String> {
        match self.known.get(of)? {
            NameContent::Open => None,
            NameContent::Only(names, _) if names.contains(name) => None,
            NameContent::Only(names, from) if names.is_empty() => {
                Some(format!("there is no `{of}.{name}`; the rule has no {from}"))
            }
            NameContent::Only(names, from) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Some(format!("there is no `{of}.{name}`; {from} has {}", names.join(", ")))
            }
            NameContent::Value | NameContent::Sometimes(_) => {
                Some(format!("there is no `{of}.{name}`; `{of}` is one value"))
            }
        }
    }
}

/// Blanks a `{{ }}` in a text; false for a statement, which others may belong to.
fn blank(text: &mut String, tag: &Range<usize>) -> bool {
    let is_expression = text.get(tag.clone()).is_some_and(|it| it.starts_with("{{") && it.ends_with("}}"));
    if is_expression {
        text.replace_range(tag.clone(), &" ".repeat(tag.len()));
    }
    is_expression
}

fn to_errors(text: &str, found: BTreeMap<usize, String>) -> Vec<TemplateError> {
    let error = |(at, message)| {
        let (line, column) = position(text, at);
        TemplateError { line: Some(line), column: Some(column), message }
    };
    found.into_iter().map(error).collect()
}

struct NameWalk<'n, 's> {
    names: &'n Names,
    locals: Vec<&'s str>,
    loops: usize,
    /// How many constructs around this place ask for names, or may leave it out.
    asked: usize,
    /// The faults by byte.
    found: BTreeMap<u32, String>,
}

impl<'s> NameWalk<'_, 's> {
    fn asked(&mut self, walk: impl FnOnce(&mut Self)) {
        self.asked += 1;
        walk(self);
        self.asked -= 1;
    }

    fn body(&mut self, stmts: &[ast::Stmt<'s>]) {
        for stmt in stmts {
            self.stmt(stmt);
        }
    }

    fn stmt(&mut self, stmt: &ast::Stmt<'s>) {
        match stmt {
            ast::Stmt::Template(template) => self.body(&template.children),
            ast::Stmt::EmitExpr(emit) => self.expr(&emit.expr),
            ast::Stmt::IfCond(cond) => self.asked(|it| {
                it.expr(&cond.expr);
                it.body(&cond.true_body);
                it.body(&cond.false_body);
            }),
            ast::Stmt::ForLoop(looped) => {
                self.expr(&looped.iter);
                let before = self.locals.len();
                self.bind(&looped.target);
                self.asked(|it| {
                    if let Some(filter) = &looped.filter_expr {
                        it.expr(filter);
                    }
                    it.loops += 1;
                    it.body(&looped.body);
                    it.loops -= 1;
                    it.locals.truncate(before);
                    it.body(&looped.else_body);
                });
            }
            // Raw text uses no names, and the subset has no other statements.
            _ => {}
        }
    }

    fn bind(&mut self, target: &ast::Expr<'s>) {
        match target {
            ast::Expr::Var(var) => self.locals.push(var.id),
            ast::Expr::List(list) => list.items.iter().for_each(|part| self.bind(part)),
            ast::Expr::Tuple(tuple) => tuple.items.iter().for_each(|part| self.bind(part)),
            _ => {}
        }
    }

    fn name(&mut self, name: &str, at: u32) {
        if self.locals.contains(&name) || name == "loop" && self.loops > 0 {
            return;
        }
        if let Some(fault) = self.names.fault(name, self.asked > 0) {
            self.found.insert(at, fault);
        }
    }

    /// Checks `of.name`, if `of` is a name.
    fn member(&mut self, of: &ast::Expr<'s>, name: &str) {
        let ast::Expr::Var(var) = of else { return };
        if self.locals.contains(&var.id) {
            return;
        }
        if let Some(fault) = self.names.fault_in(var.id, name) {
            self.found.insert(var.span().start_offset, fault);
        }
    }

    fn all(&mut self, exprs: &[ast::Expr<'s>]) {
        for expr in exprs {
            self.expr(expr);
        }
    }

    fn args(&mut self, args: &[ast::CallArg<'s>]) {
        for arg in args {
            match arg {
                ast::CallArg::Pos(expr)
                | ast::CallArg::Kwarg(_, expr)
                | ast::CallArg::PosSplat(expr)
                | ast::CallArg::KwargSplat(expr) => self.expr(expr),
            }
        }
    }

    fn expr(&mut self, expr: &ast::Expr<'s>) {
        use ast::BinOpKind::{ScAnd, ScOr};
        match expr {
            ast::Expr::Var(var) => self.name(var.id, var.span().start_offset),
            ast::Expr::GetAttr(it) => {
                self.expr(&it.expr);
                self.member(&it.expr, it.name);
            }
            ast::Expr::GetItem(it) => {
                self.expr(&it.expr);
                self.expr(&it.subscript_expr);
                if let ast::Expr::Const(key) = &it.subscript_expr
                    && let Some(key) = key.value.as_str()
                {
                    self.member(&it.expr, key);
                }
            }
            ast::Expr::Slice(it) => {
                self.expr(&it.expr);
                [&it.start, &it.stop, &it.step].into_iter().flatten().for_each(|bound| self.expr(bound));
            }
            ast::Expr::List(it) => self.all(&it.items),
            ast::Expr::Tuple(it) => self.all(&it.items),
            ast::Expr::UnaryOp(it) if matches!(it.op, ast::UnaryOpKind::Not) => {
                self.asked(|walk| walk.expr(&it.expr));
            }
            ast::Expr::UnaryOp(it) => self.expr(&it.expr),
            ast::Expr::BinOp(it) if matches!(it.op, ScAnd | ScOr) => self.asked(|walk| {
                walk.expr(&it.left);
                walk.expr(&it.right);
            }),
            ast::Expr::BinOp(it) => {
                self.expr(&it.left);
                self.expr(&it.right);
            }
            ast::Expr::Compare(it) => {
                self.expr(&it.expr);
                it.ops.iter().for_each(|op| self.expr(&op.expr));
            }
            ast::Expr::IfExpr(it) => self.asked(|walk| {
                walk.expr(&it.test_expr);
                walk.expr(&it.true_expr);
                it.false_expr.iter().for_each(|it| walk.expr(it));
            }),
            ast::Expr::Filter(it) => {
                let lenient = filters::find(it.name).is_some_and(|filter| filter.lenient);
                if let Some(on) = &it.expr {
                    if lenient {
                        self.asked(|walk| walk.expr(on));
                    } else {
                        self.expr(on);
                    }
                }
                self.args(&it.args);
            }
            ast::Expr::Test(it) => {
                self.asked(|walk| walk.expr(&it.expr));
                self.args(&it.args);
            }
            // Only `range` and a loop's own functions can be called.
            ast::Expr::Call(it) => self.args(&it.args),
            ast::Expr::Const(_) | ast::Expr::Map(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{Condition, Millis};

    use super::*;

    fn map(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), String::new())).collect()
    }

    fn said(condition: &Condition, text: &str) -> Vec<String> {
        let (group_by, top_values) = (map(&["service", "zone"]), map(&["paths"]));
        let names = Names::for_rule(RuleFields { group_by: &group_by, top_values: &top_values, condition });
        names.check(text).iter().map(ToString::to_string).collect()
    }

    fn windowed() -> Condition {
        Condition::Frequency { count: 3, window: Millis::from_secs(60) }
    }

    #[test]
    fn a_name_that_can_not_be_there_is_told_with_its_place_and_what_there_is() {
        let told = said(&windowed(), "{{ count }} of\n{{ grop.service }} {{ group.host }}");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("line 2, column 4: there is no `grop`; a rule's texts have count, endsAt,")
        );
        assert!(told[0].ends_with(", window, windowEnd, windowStart"), "{}", told[0]);
        assert_eq!(told[1], "line 2, column 23: there is no `group.host`; groupBy has service, zone");
        for (text, part) in [
            ("{{ group['host'] }}", "there is no `group.host`"),
            ("{% if labels.host %}x{% endif %}", "there is no `labels.host`"),
            ("{{ topValues.path[0].value }}", "there is no `topValues.path`; topValues has paths"),
            ("{{ severity.name }}", "`severity` is one value"),
            ("{{ nothing|default('-') }}", "there is no `nothing`"),
            ("{% for x in xs %}{{ x }}{% endfor %}", "there is no `xs`"),
            ("{% for x in values %}{{ x }}{% endfor %}{{ x }}", "there is no `x`"),
            ("{{ loop.index }}", "there is no `loop`"),
            ("{{ endsAt }}", "`endsAt` is not always there: only the message that the alert is over has it"),
            (
                "{{ previous|upper }}",
                "`previous` is not always there: only Spike, Change and Extreme have it",
            ),
            ("{{ count + nothing[1:2]|join(sep) }}", "there is no `nothing`"),
        ] {
            let told = said(&windowed(), text);
            assert!(told.first().is_some_and(|told| told.contains(part)), "{text}: {told:?}");
        }
        let any = said(&Condition::Any, "{{ window }}");
        assert!(
            any[0].contains("a condition about single records has none; ask with {% if window %}"),
            "{any:?}"
        );
    }

    #[test]
    fn all_that_is_wrong_with_a_text_is_told_each_at_its_place() {
        let told = said(
            &windowed(),
            "{{ count | fooo }}{{ record.a|default('x')|barr }} {{ a b }}\n{{ 2 * 2 }}{% if x is odd_one %}{{ grop.a }}{% endif %}{{ '' | baz(nope) }}",
        );
        let expected = [
            "line 1, column 12: there is no filter `fooo`",
            "line 1, column 44: there is no filter `barr`",
            "line 1, column 57: `b` is not expected here",
            "line 2, column 1: `*` is not allowed",
            "line 2, column 18: there is no `x`",
            "line 2, column 23: there is no test `odd_one`",
            "line 2, column 36: there is no `grop`",
            "line 2, column 64: there is no filter `baz`",
            "line 2, column 68: there is no `nope`",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told} does not begin with {expected}");
        }
        // Faults that follow from another one are not reported: without its tag nothing is known about the block.
        let told = said(&windowed(), "{{ nope }}{% set x = 1 %}{{ x }}");
        assert_eq!(told.len(), 1, "{told:?}");
        let told = said(&windowed(), "{{ nope }}{% if a = b %}x{% endif %}{{ nope.x | fooo }}");
        assert_eq!(told.len(), 2, "{told:?}");
        let many = "{{ a b }}".repeat(100);
        assert!(said(&windowed(), &many).len() <= MAX_FAULTS);
    }

    #[test]
    fn what_may_be_there_is_let_through() {
        for text in [
            "",
            "{{ record.any.thing[0]['at all'] }} {{ firstRecord.x|default('-') }} {{ values|join(', ') }}",
            "{{ group.service }}{{ group['zone'] }}{{ labels.zone }}{% for k, v in group|items %}{{ k }}={{ v }}{% endfor %}",
            "{% if endsAt %}{{ endsAt }}{% endif %}{{ endsAt|default('-') }}{{ endsAt if status == 'resolved' else since }}",
            "{% for top in topValues.paths %}{{ loop.index }} {{ top.value }}: {{ top.count }}{% else %}none{% endfor %}",
            "{{ 'x' if previous is defined }}{{ not window }}{{ window or 'none' }}{{ true }}{{ none }}{{ range(3)|length }}",
            "{{ topic }}/{{ partition }}@{{ offset }} {{ timestamp }} {{ rule }} {{ namespace }} {{ startsAt }} {{ kind }}",
        ] {
            assert_eq!(said(&Condition::Any, text), Vec::<String>::new(), "{text}");
        }
        let change = Condition::Change { path: "record.x".to_owned() };
        assert_eq!(said(&change, "{{ previous }} {{ value }}"), Vec::<String>::new());
        assert_eq!(said(&windowed(), "{{ window }}"), Vec::<String>::new());
    }

    #[test]
    fn a_channels_texts_have_what_some_message_has() {
        let check = |text: &str| Names::for_channel().check(text);
        assert!(
            check("[{{ severity }}] {{ title }}{{ group.any }}{{ recipientStart }}{{ request }}").is_empty()
        );
        let told = check("{{ ticket }}{{ record.x }}");
        assert_eq!(told.len(), 2);
        assert!(
            told[0]
                .message
                .starts_with("there is no `ticket`; a channel's texts have ask, at, beforeMinutes,")
        );
        assert_eq!(check("{{ title"), check("{{ title"), "a text that is no template says so");
        assert_eq!(check("{{ title").len(), 1);
    }
}
