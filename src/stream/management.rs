//! Stream management (XEP-0198), both halves: its nonzas, written and read. Who counts and who keeps is the
//! driver's business.

use super::element::Element;
use super::error::{Condition as StreamCondition, Error};
use crate::stanza::Condition;
use crate::xml::{Scan, Scope, Writer, ns};

/// The other side acknowledges what was never sent (§4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooHigh {
    /// What it says that it has handled.
    pub h: u32,
    /// What it was sent.
    pub send_count: u32,
}

impl From<TooHigh> for Error {
    fn from(counts: TooHigh) -> Error {
        Error { counts: Some(counts), ..Error::new(StreamCondition::UndefinedCondition) }
    }
}

/// What is said on a stream beside its stanzas. None of these is counted (§4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Nonza {
    /// §3: count from here on.
    Enable {
        /// The stream shall be resumable.
        resume: bool,
    },
    /// §3: so it is.
    Enabled {
        /// What to resume it by, if that is possible.
        id: Option<Box<str>>,
        /// For how many seconds.
        max: Option<u32>,
        /// Where to connect to for that.
        location: Option<Box<str>>,
    },
    /// §5
    Resume {
        /// The id of the stream that is gone.
        previd: Box<str>,
        /// What was handled on it.
        h: u32,
    },
    /// §5: go on.
    Resumed {
        /// What was handled on it.
        h: u32,
    },
    /// §3, §5: no.
    Failed {
        /// Why not.
        condition: Condition,
        /// What was handled on a stream that cannot be resumed, if that is still known.
        h: Option<u32>,
    },
    /// §4: what have you handled?
    Request,
    /// §4: so many.
    Ack {
        /// Modulo 2^32.
        h: u32,
    },
    /// It lacks what it must have.
    Malformed,
}

impl Nonza {
    /// Reads a first-level element, if it is one of these.
    pub fn read(text: &str, scan: &Scan, scope: &Scope) -> Option<Nonza> {
        Nonza::of(&Element { text, scan, scope })
    }

    pub(super) fn of(element: &Element<'_>) -> Option<Nonza> {
        let (ns::SM, name) = element.name() else { return None };
        let number = |name| element.attr(name).and_then(|n| n.trim().parse::<u32>().ok());
        let yes = |name| matches!(element.attr(name).as_deref(), Some("true" | "1"));
        let word = |name| element.attr(name).filter(|text| !text.is_empty()).map(Box::<str>::from);
        Some(match name {
            "enable" => Nonza::Enable { resume: yes("resume") },
            "enabled" => Nonza::Enabled {
                id: word("id").filter(|_| yes("resume")),
                max: number("max"),
                location: word("location"),
            },
            "resume" => match (word("previd"), number("h")) {
                (Some(previd), Some(h)) => Nonza::Resume { previd, h },
                _ => Nonza::Malformed,
            },
            "resumed" => number("h").map_or(Nonza::Malformed, |h| Nonza::Resumed { h }),
            "failed" => {
                let named = element
                    .payload()
                    .and_then(|(_, name)| Condition::ALL.iter().find(|c| c.name() == name).copied());
                let condition = named.unwrap_or(Condition::UndefinedCondition);
                Nonza::Failed { condition, h: number("h") }
            }
            "r" => Nonza::Request,
            "a" => number("h").map_or(Nonza::Malformed, |h| Nonza::Ack { h }),
            _ => return None,
        })
    }
}

/// §3: asks for it.
pub fn enable(resume: bool, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("enable").ns(ns::SM);
    if resume {
        w.attr("resume", "true");
    }
}

/// §3: `resume` is the id, and for how many seconds it is good.
pub fn enabled(resume: Option<(&str, u64)>, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("enabled").ns(ns::SM);
    if let Some((id, max)) = resume {
        w.attr("id", id).attr("resume", "true").attr("max", &max.to_string());
    }
}

/// §5
pub fn resume(previd: &str, h: u32, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("resume").ns(ns::SM).attr("h", &h.to_string()).attr("previd", previd);
}

/// §5
pub fn resumed(previd: &str, h: u32, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("resumed").ns(ns::SM).attr("h", &h.to_string()).attr("previd", previd);
}

/// §3, §5
pub fn failed(condition: Condition, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("failed").ns(ns::SM).leaf(condition.name(), ns::STANZA_ERRORS);
}

/// §4: asks what was handled.
pub fn request(out: &mut Vec<u8>) {
    Writer::new(out).leaf("r", ns::SM);
}

/// §4: says it.
pub fn ack(h: u32, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("a").ns(ns::SM).attr("h", &h.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Caps;

    fn read(text: &str) -> Option<Nonza> {
        let (mut scan, scope) = (Scan::new(), Scope::default());
        let text = scan.element(text.as_bytes(), &scope, &Caps::default()).unwrap();
        Nonza::read(text, &scan, &scope)
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Option<Nonza> {
        let mut out = Vec::new();
        write(&mut out);
        read(std::str::from_utf8(&out).unwrap())
    }

    #[test]
    fn what_one_half_writes_the_other_reads() {
        assert_eq!(written(|o| enable(true, o)), Some(Nonza::Enable { resume: true }));
        assert_eq!(written(|o| enable(false, o)), Some(Nonza::Enable { resume: false }));
        let (id, max) = (Some("a".into()), Some(300));
        assert_eq!(
            written(|o| enabled(Some(("a", 300)), o)),
            Some(Nonza::Enabled { id, max, location: None })
        );
        let none = Nonza::Enabled { id: None, max: None, location: None };
        assert_eq!(written(|o| enabled(None, o)), Some(none));
        assert_eq!(written(|o| resume("<'>", 7, o)), Some(Nonza::Resume { previd: "<'>".into(), h: 7 }));
        assert_eq!(written(|o| resumed("x", u32::MAX, o)), Some(Nonza::Resumed { h: u32::MAX }));
        let condition = Condition::ItemNotFound;
        assert_eq!(written(|o| failed(condition, o)), Some(Nonza::Failed { condition, h: None }));
        assert_eq!(written(request), Some(Nonza::Request));
        assert_eq!(written(|o| ack(3, o)), Some(Nonza::Ack { h: 3 }));
    }

    #[test]
    fn what_others_write() {
        for bad in [
            "<a/>",
            "<a h='-1'/>",
            "<a h='4294967296'/>",
            "<resume h='1'/>",
            "<resume previd='x'/>",
            "<resumed/>",
        ] {
            let bad = bad.replacen(['/', '>'], " xmlns='urn:xmpp:sm:3'/", 1).replace("//", "/");
            assert_eq!(read(&bad), Some(Nonza::Malformed), "{bad}");
        }
        assert_eq!(read("<a xmlns='urn:xmpp:sm:2' h='1'/>"), None);
        assert_eq!(read("<sm xmlns='urn:xmpp:sm:3'/>"), None);
        assert_eq!(
            read("<enabled xmlns='urn:xmpp:sm:3' id='x' resume='1' location='[::1]:5222'/>"),
            Some(Nonza::Enabled { id: Some("x".into()), max: None, location: Some("[::1]:5222".into()) })
        );
        // An id without leave to resume is of no use.
        assert_eq!(
            read("<enabled xmlns='urn:xmpp:sm:3' id='x'/>"),
            Some(Nonza::Enabled { id: None, max: None, location: None })
        );
        assert_eq!(
            read(
                "<failed xmlns='urn:xmpp:sm:3' h='9'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
            ),
            Some(Nonza::Failed { condition: Condition::ItemNotFound, h: Some(9) })
        );
    }
}
