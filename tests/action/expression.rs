//! The part of GitHub's expressions that the actions here use, after "Evaluate expressions in workflows and actions" (docs.github.com):
//! contexts, texts in single quotes, `==`, `!=`, `&&`, `||`, parentheses, and status functions. Anything else fails the test.

/// What an expression may ask.
pub trait Surroundings {
    /// A context's value: `inputs.run`; empty where there is none.
    fn value(&self, path: &str) -> String;
    /// `always`, `failure`, `success`, `cancelled`.
    fn status(&self, function: &str) -> bool;
}

/// A text with `${{ … }}` in it.
pub fn text(template: &str, of: &dyn Surroundings) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${{") {
        let (inside, after) = after.split_once("}}").expect("an expression ends");
        out += before;
        out += &evaluate(inside, of);
        rest = after;
    }
    out + rest
}

/// A step's `if`; without a status function it is also asked for success.
pub fn condition(expression: Option<&str>, of: &dyn Surroundings) -> bool {
    let expression = expression.unwrap_or("success()");
    let expression = expression.trim().trim_start_matches("${{").trim_end_matches("}}");
    let asks = ["always()", "failure()", "success()", "cancelled()"].iter().any(|word| expression.contains(word));
    (asks || of.status("success")) && truthy(&evaluate(expression, of))
}

fn truthy(value: &str) -> bool {
    !matches!(value, "" | "false")
}

fn evaluate(expression: &str, of: &dyn Surroundings) -> String {
    let mut parser = Parser { rest: expression.trim(), of };
    let value = parser.any();
    assert_eq!(parser.rest, "", "all of {expression:?} is read");
    value
}

struct Parser<'a> {
    rest: &'a str,
    of: &'a dyn Surroundings,
}

impl Parser<'_> {
    fn takes(&mut self, word: &str) -> bool {
        let found = self.rest.strip_prefix(word);
        self.rest = found.unwrap_or(self.rest).trim_start();
        found.is_some()
    }

    /// `||` and `&&` give an operand, not a truth.
    fn any(&mut self) -> String {
        let mut value = self.all();
        while self.takes("||") {
            let other = self.all();
            value = if truthy(&value) { value } else { other };
        }
        value
    }

    fn all(&mut self) -> String {
        let mut value = self.compared();
        while self.takes("&&") {
            let other = self.compared();
            value = if truthy(&value) { other } else { value };
        }
        value
    }

    fn compared(&mut self) -> String {
        let value = self.one();
        // Texts are compared without regard to case.
        if self.takes("==") {
            return self.one().eq_ignore_ascii_case(&value).to_string();
        }
        if self.takes("!=") {
            return (!self.one().eq_ignore_ascii_case(&value)).to_string();
        }
        value
    }

    fn one(&mut self) -> String {
        if self.takes("(") {
            let value = self.any();
            assert!(self.takes(")"), "a parenthesis is closed before {:?}", self.rest);
            return value;
        }
        if let Some(quoted) = self.rest.strip_prefix('\'') {
            let (text, rest) = quoted.split_once('\'').expect("a text ends");
            self.rest = rest.trim_start();
            return text.to_owned();
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        assert!(!name.is_empty(), "an operand stands before {:?}", self.rest);
        self.rest = rest.trim_start();
        if self.takes("()") { self.of.status(name).to_string() } else { self.of.value(name) }
    }
}

#[test]
fn as_the_documentation_says() {
    struct These;
    impl Surroundings for These {
        fn value(&self, path: &str) -> String {
            if path == "inputs.a" { "x".to_owned() } else { String::new() }
        }
        fn status(&self, function: &str) -> bool {
            function != "success"
        }
    }
    assert_eq!(text("<${{ inputs.b || inputs.a }}, ${{ inputs.a == 'X' && 'yes' || 'no' }}>", &These), "<x, yes>");
    assert!(condition(Some("always() && (inputs.a != '' || inputs.b == 'z')"), &These));
    assert!(condition(Some("failure()"), &These) && !condition(Some("inputs.a == 'x'"), &These));
    assert!(!condition(None, &These));
}
