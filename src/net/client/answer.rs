//! What a decent client answers by itself: ping, version, time, disco#info.

use crate::stanza::{self, Condition, Node};
use crate::xml::{Writer, ns};

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answered {
    /// It has its result.
    Result,
    /// We do not know it, and have said so.
    Unknown,
}

/// Answers an iq of type get or set. `kind` is the type of client that we are.
pub(super) fn answer(iq: &Node<'_, '_>, kind: &str, now: &str, out: &mut Vec<u8>) -> Answered {
    let payload = iq.children().find(Node::is_element);
    let name = payload.map(|p| (stanza::namespace(&p), p.tag_name().name()));
    let is_get = stanza::attr(iq, "type") == Some("get");
    let mut w = Writer::new(out);
    w.start("iq").opt("to", stanza::attr(iq, "from")).opt("id", stanza::attr(iq, "id"));
    match name {
        Some((ns::PING, "ping")) if is_get => {
            w.attr("type", "result");
        }
        Some((ns::VERSION, "query")) if is_get => {
            w.attr("type", "result").start("query").ns(ns::VERSION);
            w.text_leaf("name", "Stonechat").text_leaf("version", env!("CARGO_PKG_VERSION")).end();
        }
        Some((ns::TIME, "time")) if is_get => {
            w.attr("type", "result").start("time").ns(ns::TIME);
            // XEP-0202: our zone is nobody's business, UTC will do.
            w.text_leaf("tzo", "+00:00").text_leaf("utc", now).end();
        }
        Some((ns::DISCO_INFO, "query"))
            if is_get && payload.is_some_and(|p| stanza::attr(&p, "node").is_none()) =>
        {
            w.attr("type", "result").start("query").ns(ns::DISCO_INFO);
            w.start("identity").attr("category", "client").attr("type", kind).attr("name", "Stonechat").end();
            for feature in [ns::DISCO_INFO, ns::VERSION, ns::PING, ns::RECEIPTS, ns::TIME] {
                w.start("feature").attr("var", feature).end();
            }
            w.end();
        }
        _ => {
            w.attr("type", "error");
            stanza::Error::new(Condition::ServiceUnavailable).write(&mut w);
            return Answered::Unknown;
        }
    }
    Answered::Result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::Tree;

    fn ask(xml: &str) -> (Answered, String) {
        let tree = Tree::parse(xml).expect("test XML");
        let mut out = Vec::new();
        let answered = answer(&tree.root_element(), "bot", "2026-01-01T00:00:00Z", &mut out);
        (answered, String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn known_and_unknown() {
        let (answered, xml) =
            ask("<iq type='get' from='a@b/c' id='&apos;/&gt;'><ping xmlns='urn:xmpp:ping'/></iq>");
        assert_eq!(answered, Answered::Result);
        assert_eq!(xml, "<iq to='a@b/c' id='&apos;/&gt;' type='result'/>");
        for (what, has) in [
            ("<query xmlns='jabber:iq:version'/>", "<name>Stonechat</name>"),
            ("<time xmlns='urn:xmpp:time'/>", "<utc>2026-01-01T00:00:00Z</utc>"),
            ("<query xmlns='http://jabber.org/protocol/disco#info'/>", "category='client' type='bot'"),
        ] {
            let (answered, xml) = ask(&format!("<iq type='get' id='1'>{what}</iq>"));
            assert_eq!(answered, Answered::Result, "{what}");
            assert!(xml.contains(has), "{xml}");
        }
        for what in [
            "<query xmlns='jabber:iq:last'/>",
            "",
            "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>",
            "<ping xmlns='other'/>",
        ] {
            let (answered, xml) = ask(&format!("<iq type='get' id='1'>{what}</iq>"));
            assert_eq!(answered, Answered::Unknown, "{what}");
            assert!(xml.contains("service-unavailable"), "{xml}");
        }
    }
}
