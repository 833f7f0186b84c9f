//! JSON lines: one object per line, always escaped so that a terminal takes no harm either.

use super::terminal::is_unsafe;
use std::fmt::Write as _;
use std::time::Duration;

/// One JSON object, written field by field in the order given.
#[derive(Debug)]
pub struct Object {
    out: String,
}

impl Default for Object {
    fn default() -> Object {
        Object::new()
    }
}

impl Object {
    /// `{`
    pub fn new() -> Object {
        Object { out: String::from("{") }
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(',');
        }
        string(&mut self.out, name);
        self.out.push(':');
    }

    /// A string.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Object {
        self.name(name);
        string(&mut self.out, value);
        self
    }

    /// A string, when there is one.
    pub fn opt(&mut self, name: &str, value: Option<&str>) -> &mut Object {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A value that is JSON already.
    #[cfg(feature = "hub")]
    pub fn raw(&mut self, name: &str, value: &str) -> &mut Object {
        self.name(name);
        self.out.push_str(value);
        self
    }

    /// A number.
    pub fn number(&mut self, name: &str, value: i64) -> &mut Object {
        self.name(name);
        let _ = write!(self.out, "{value}");
        self
    }

    /// Milliseconds, with three digits behind the point.
    pub fn millis(&mut self, name: &str, time: Duration) -> &mut Object {
        self.name(name);
        self.out.push_str(&millis(time));
        self
    }

    /// A truth.
    pub fn truth(&mut self, name: &str, value: bool) -> &mut Object {
        self.name(name);
        self.out.push_str(if value { "true" } else { "false" });
        self
    }

    /// An array of strings.
    pub fn texts<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) -> &mut Object {
        self.name(name);
        self.out.push('[');
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            string(&mut self.out, value);
        }
        self.out.push(']');
        self
    }

    /// An array of objects.
    pub fn objects(&mut self, name: &str, values: impl IntoIterator<Item = Object>) -> &mut Object {
        self.name(name);
        self.out.push('[');
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            self.out.push_str(&value.end());
        }
        self.out.push(']');
        self
    }

    /// `}`
    pub fn end(mut self) -> String {
        self.out.push('}');
        self.out
    }
}

fn string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Milliseconds, with three digits behind the point.
pub fn millis(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_order_and_escaped() {
        let mut o = Object::new();
        o.text("a", "q\"b\\c\n\t\u{1b}\u{9b}\u{202e}\u{2028}é😀\u{e0041}")
            .opt("no", None)
            .opt("yes", Some("1"));
        o.number("n", -3).millis("ms", Duration::from_micros(1500)).truth("t", true).texts("l", ["x", "y"]);
        let mut inner = Object::new();
        inner.text("k", "v");
        o.objects("o", [inner, Object::new()]);
        assert_eq!(
            o.end(),
            concat!(
                r#"{"a":"q\"b\\c\n\t\u001b\u009b\u202e\u2028é😀\udb40\udc41","yes":"1","n":-3,"ms":1.500,"#,
                r#""t":true,"l":["x","y"],"o":[{"k":"v"},{}]}"#
            )
        );
    }
}
