//! What a session makes of what it hears: each element is judged, believed as far as it must be,
//! answered where that is ours to do, and put where it belongs.

use super::answer::{Answered, answer};
use super::error::{Error, StanzaError};
use super::event::{self, Carbon, Element, Event, bare};
use super::options::{Direction, Trace};
use super::wait::now;
use crate::jid::Jid;
use crate::stanza::{self, Node};
use crate::stream;
use crate::stream::management::{self, Nonza};
use crate::xml::{self, Caps, Flow, Scan, Scope, Writer, ns, redeclare};
use std::collections::VecDeque;

/// Events that nobody has asked for yet may hold so many bytes.
const MAX_WAITING: usize = 16 << 20;

/// Who we are on this stream.
pub(super) struct Me {
    /// Full address; the server's domain before login.
    pub jid: String,
    /// Without the resource.
    pub bare: String,
    /// The server.
    pub domain: String,
}

/// A request that waits for its answer.
pub(super) struct Pending {
    pub id: String,
    pub to: Option<String>,
    pub answer: Option<Result<Element, StanzaError>>,
}

/// How a stream came to its end.
#[derive(Clone)]
pub(super) enum End {
    Closed,
    Error(Error),
}

/// What a lost stream can be gone on with by (XEP-0198 §5).
pub(super) struct Hold {
    pub id: Box<str>,
    /// Where to, if the server has a wish.
    pub location: Option<Box<str>>,
    /// How long the server keeps it, if it says so.
    pub max: Option<u32>,
}

/// See [`Ear::said`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// It has handled so many stanzas.
    Ack(u32),
    /// It does no such thing.
    Failed,
}

/// What hears: judges, sorts, answers.
pub(super) struct Ear {
    pub scan: Scan,
    pub scope: Scope,
    pub events: VecDeque<Event>,
    pub waiting: usize,
    pub pending: Option<Pending>,
    pub watched: VecDeque<(String, String)>,
    pub bounces: Vec<StanzaError>,
    pub end: Option<End>,
    /// Stream management was asked for, and nothing was said to that.
    pub asked: bool,
    /// With stream management, the stanzas that were heard (XEP-0198).
    pub heard: Option<u32>,
    /// What the lost stream could be gone on with by.
    pub hold: Option<Box<Hold>>,
    /// What the server has said of stream management that the wire should know.
    pub said: Option<Said>,
    pub kind: &'static str,
    pub trace: Option<Trace>,
}

impl Ear {
    pub fn frame(
        &mut self,
        kind: xml::Kind,
        bytes: &[u8],
        me: &Me,
        out: &mut Vec<u8>,
    ) -> Result<Flow, xml::Error> {
        match kind {
            xml::Kind::Keepalive => return Ok(Flow::Go),
            xml::Kind::Header => return Err(xml::Error::NotWellFormed),
            xml::Kind::Footer => {
                self.end.get_or_insert(End::Closed);
                return Ok(Flow::Stop);
            }
            xml::Kind::Element => {}
        }
        let text = self.scan.element(bytes, &self.scope, &Caps::passed_on())?;
        let mut own = Vec::with_capacity(text.len());
        redeclare(text, &self.scan, &self.scope, &mut own);
        let Ok(own) = String::from_utf8(own) else { return Err(xml::Error::NotWellFormed) };
        if let Some(trace) = self.trace {
            trace(Direction::Received, &redact(&own));
        }
        let element = Element::new(own);
        element.with(|node| self.element(node, &element, me, out)).ok_or(xml::Error::NotWellFormed)?;
        if self.waiting > MAX_WAITING {
            return Err(xml::Error::TooBig(xml::Cap::Bytes));
        }
        Ok(if self.end.is_some() { Flow::Stop } else { Flow::Go })
    }

    fn element(&mut self, node: &Node<'_, '_>, element: &Element, me: &Me, out: &mut Vec<u8>) {
        if let ("", "message" | "presence" | "iq") = (stanza::namespace(node), node.tag_name().name()) {
            self.heard = self.heard.map(|n| n.wrapping_add(1));
        }
        match (stanza::namespace(node), node.tag_name().name()) {
            ("", "message") => self.message(node, element, me),
            ("", "presence") => {
                let Some(presence) = event::presence(node, element.text(), &me.bare) else { return };
                if let Some(error) = &presence.error {
                    self.bounced(stanza::attr(node, "id"), &presence.from, error);
                }
                self.push(Event::Presence(Box::new(presence)));
            }
            ("", "iq") => self.iq(node, element, me, out),
            (ns::STREAM, "error") => {
                let error = stream::Error::read(node);
                let line = format!("the server has ended the stream: {error}");
                // Coming back at once would only start the same quarrel again.
                let hopeless = matches!(
                    error.condition,
                    stream::Condition::Conflict
                        | stream::Condition::NotAuthorized
                        | stream::Condition::PolicyViolation
                        | stream::Condition::HostGone
                        | stream::Condition::HostUnknown
                );
                let error = if hopeless { Error::Protocol(line) } else { Error::Lost(line) };
                self.end.get_or_insert(End::Error(error));
            }
            (ns::SM, _) => self.management(element, out),
            // Nothing else was negotiated.
            _ => {}
        }
    }

    /// XEP-0198
    fn management(&mut self, element: &Element, out: &mut Vec<u8>) {
        let text = element.text();
        let Ok(text) = self.scan.element(text.as_bytes(), &Scope::default(), &Caps::passed_on()) else {
            return;
        };
        match (Nonza::read(text, &self.scan, &Scope::default()), self.heard) {
            (Some(Nonza::Enabled { id, max, location }), None) if self.asked => {
                self.asked = false;
                self.heard = Some(0);
                self.hold = id.map(|id| Box::new(Hold { id, location, max }));
            }
            (Some(Nonza::Failed { .. }), None) if self.asked => {
                self.asked = false;
                self.said = Some(Said::Failed);
            }
            (Some(Nonza::Request), Some(h)) => management::ack(h, out),
            (Some(Nonza::Ack { h }), Some(_)) => self.said = Some(Said::Ack(h)),
            _ => {}
        }
    }

    fn message(&mut self, node: &Node<'_, '_>, element: &Element, me: &Me) {
        let Some(outer) = event::message(node, element.text(), &me.bare) else { return };
        for (way, name) in [(Carbon::Sent, "sent"), (Carbon::Received, "received")] {
            let Some(copy) = stanza::child(node, ns::CARBONS, name) else { continue };
            // Only our own account tells us what our own sessions do (threats C2, CVE-2017-5589).
            if outer.from != me.bare {
                return;
            }
            let inner =
                stanza::child(&copy, ns::FORWARD, "forwarded").and_then(|f| stanza::child(&f, "", "message"));
            let Some(inner) = inner else { return };
            let Some(mut message) = event::message(&inner, element.text(), &me.bare) else { return };
            message.carbon = Some(way);
            message.wants_receipt = false;
            self.push(Event::Message(Box::new(message)));
            return;
        }
        if let Some(error) = &outer.error {
            self.bounced(outer.id.as_deref(), &outer.from, error);
        }
        self.push(Event::Message(Box::new(outer)));
    }

    /// An error belongs to a message of ours if its id is ours and it comes from where that went.
    fn bounced(&mut self, id: Option<&str>, from: &str, error: &StanzaError) {
        let Some(id) = id else { return };
        let at = self.watched.iter().position(|(ours, to)| {
            ours == id && Jid::parse(to).is_ok_and(|to| to.as_str() == from || to.bare() == bare(from))
        });
        if at.and_then(|at| self.watched.remove(at)).is_some() {
            self.bounces.push(error.clone());
        }
    }

    fn iq(&mut self, node: &Node<'_, '_>, element: &Element, me: &Me, out: &mut Vec<u8>) {
        let from = stanza::attr(node, "from");
        match stanza::attr(node, "type") {
            Some(kind @ ("result" | "error")) => {
                // Whoever guesses an id has not answered (threats C2, CVE-2015-8688).
                let Some(pending) = self.pending.as_mut().filter(|p| p.answer.is_none()) else { return };
                if stanza::attr(node, "id") == Some(&pending.id)
                    && comes_from(pending.to.as_deref(), from, me)
                {
                    pending.answer = Some(match kind {
                        "result" => Ok(element.clone()),
                        _ => Err(StanzaError::of(node)),
                    });
                }
            }
            Some("set") if stanza::child(node, ns::ROSTER, "query").is_some() => {
                if comes_from(None, from, me) {
                    let mut w = Writer::new(out);
                    w.start("iq").attr("type", "result").opt("to", from).opt("id", stanza::attr(node, "id"));
                    drop(w);
                    self.push(Event::RosterPush(element.clone()));
                } else {
                    answer(node, self.kind, "", out);
                }
            }
            Some("get" | "set") if answer(node, self.kind, &now(), out) == Answered::Unknown => {
                self.push(Event::Iq(element.clone()));
            }
            _ => {}
        }
    }

    fn push(&mut self, event: Event) {
        self.waiting = self.waiting.saturating_add(weight(&event));
        self.events.push_back(event);
    }
}

/// Bytes, roughly.
pub(super) fn weight(event: &Event) -> usize {
    let text = match event {
        Event::Message(m) => m.xml.len().saturating_mul(2),
        Event::Presence(p) => p.xml.len(),
        Event::Iq(e) | Event::RosterPush(e) => e.text().len(),
        Event::Closed => 0,
    };
    text.saturating_add(512)
}

/// Whether an answer with this `from` can come from whom we asked. A server answers for itself, and
/// for our account, with and without a `from` (RFC 6120 §8.1.2.1, §10.3.3).
fn comes_from(asked: Option<&str>, from: Option<&str>, me: &Me) -> bool {
    let ours = |jid: &str| jid == me.bare || jid == me.jid || jid == me.domain;
    let Some(from) = from else { return asked.is_none_or(ours) };
    let Ok(from) = Jid::parse(from) else { return false };
    match asked {
        None => ours(from.as_str()),
        Some(asked) => from.as_str() == asked,
    }
}

/// The stanza without the passwords in it.
pub(super) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<password") {
        out.push_str(before);
        out.push_str("<password");
        let (tag, after) = after.split_once('>').unwrap_or((after, ""));
        out.push_str(tag);
        out.push('>');
        if tag.ends_with('/') {
            rest = after;
            continue;
        }
        out.push('…');
        rest = after.find("</").and_then(|at| after.get(at..)).unwrap_or("");
    }
    out.push_str(rest);
    // A token is as good as a password.
    match out.find(" token='").map(|at| at.saturating_add(8)) {
        Some(at) if out.contains(ns::PREAUTH) => {
            let (head, tail) = out.split_at_checked(at).unwrap_or((&out, ""));
            let tail = tail.find('\'').and_then(|end| tail.get(end..)).unwrap_or("");
            format!("{head}…{tail}")
        }
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Me {
        Me { jid: "me@x/r".into(), bare: "me@x".into(), domain: "x".into() }
    }

    fn ear() -> Ear {
        Ear {
            scan: Scan::new(),
            scope: Scope::default(),
            events: VecDeque::new(),
            waiting: 0,
            pending: None,
            watched: VecDeque::new(),
            bounces: Vec::new(),
            end: None,
            asked: false,
            heard: None,
            hold: None,
            said: None,
            kind: "bot",
            trace: None,
        }
    }

    /// Says a stanza into an ear: the events, what was answered.
    fn say(ear: &mut Ear, xml: &str) -> (Vec<Event>, String) {
        let mut out = Vec::new();
        ear.frame(xml::Kind::Element, xml.as_bytes(), &me(), &mut out).expect("good XML");
        (ear.events.drain(..).collect(), String::from_utf8(out).expect("UTF-8"))
    }

    const CARBON: &str = "<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
        <message xmlns='jabber:client' from='me@x/other' to='bob@y' type='chat'><body>hi</body></message></forwarded></sent>";

    #[test]
    fn carbons_only_from_ourselves() {
        let (events, _) = say(&mut ear(), &format!("<message from='me@x' to='me@x/r'>{CARBON}</message>"));
        match events.as_slice() {
            [Event::Message(m)] => {
                assert_eq!(
                    (m.carbon, m.from.as_str(), m.to.as_deref()),
                    (Some(Carbon::Sent), "me@x/other", Some("bob@y"))
                );
                assert_eq!(m.body.as_deref(), Some("hi"));
            }
            other => panic!("{other:?}"),
        }
        for from in ["eve@y", "me@x/r", "me@x/other", "x", "me@x.evil"] {
            let (events, out) = say(&mut ear(), &format!("<message from='{from}'>{CARBON}</message>"));
            assert!(events.is_empty() && out.is_empty(), "{from}");
        }
    }

    #[test]
    fn roster_pushes_only_from_ourselves() {
        let push = |from: &str| {
            format!(
                "<iq type='set' id='p' {from}><query xmlns='jabber:iq:roster'><item jid='eve@y'/></query></iq>"
            )
        };
        for from in ["", "from='me@x'"] {
            let (events, out) = say(&mut ear(), &push(from));
            assert!(matches!(events.as_slice(), [Event::RosterPush(_)]), "{from}");
            assert!(out.contains("type='result'"), "{out}");
        }
        for from in ["from='eve@y'", "from='eve@y/me@x'", "from='@'"] {
            let (events, out) = say(&mut ear(), &push(from));
            assert!(events.is_empty(), "{from}");
            assert!(out.contains("service-unavailable"), "{out}");
        }
    }

    #[test]
    fn an_answer_comes_from_whom_was_asked() {
        let table: &[(Option<&str>, &[&str], &[&str])] = &[
            (
                None,
                &["", "from='me@x'", "from='x'", "from='me@x/r'"],
                &["from='eve@y'", "from='me@y'", "from='@'"],
            ),
            (Some("x"), &["", "from='x'", "from='X'"], &["from='y'", "from='me@x'"]),
            (Some("bob@y/z"), &["from='bob@y/z'"], &["", "from='bob@y'", "from='bob@y/Z'", "from='x'"]),
        ];
        for (to, good, bad) in table {
            for (from, wanted) in good.iter().map(|f| (f, true)).chain(bad.iter().map(|f| (f, false))) {
                let mut ear = ear();
                let to = to.map(str::to_owned);
                ear.pending = Some(Pending { id: "7".into(), to: to.clone(), answer: None });
                say(&mut ear, &format!("<iq type='result' id='8' {from}/>"));
                assert!(ear.pending.as_ref().is_some_and(|p| p.answer.is_none()), "another id");
                say(&mut ear, &format!("<iq type='result' id='7' {from}/>"));
                assert_eq!(ear.pending.is_some_and(|p| p.answer.is_some()), wanted, "{to:?} {from}");
            }
        }
    }

    #[test]
    fn errors_that_come_back() {
        let mut ear = ear();
        ear.watched.push_back(("1".into(), "bob@y".into()));
        let error = |from: &str, id: &str| {
            format!(
                "<message type='error' from='{from}' id='{id}'><error type='cancel'>\
                 <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
            )
        };
        say(&mut ear, &error("eve@y", "1"));
        say(&mut ear, &error("bob@y", "2"));
        assert!(ear.bounces.is_empty());
        say(&mut ear, &error("bob@y", "1"));
        assert_eq!(ear.bounces.len(), 1);
        say(&mut ear, &error("bob@y", "1"));
        assert_eq!(ear.bounces.len(), 1);
    }

    #[test]
    fn stanzas_are_counted_once_the_server_does() {
        let (mut ear, enabled) = (ear(), "<enabled xmlns='urn:xmpp:sm:3' id='x' resume='true' max='9'/>");
        let r = "<r xmlns='urn:xmpp:sm:3'/>";
        say(&mut ear, enabled);
        assert!(ear.heard.is_none() && ear.hold.is_none(), "nobody has asked for it");
        ear.asked = true;
        say(&mut ear, "<message from='a@b'/>");
        assert_eq!(say(&mut ear, r).1, "");
        say(&mut ear, enabled);
        assert_eq!(say(&mut ear, r).1, "<a xmlns='urn:xmpp:sm:3' h='0'/>");
        for stanza in [
            "<message from='a@b'/>",
            "<presence from='a@b'/>",
            "<iq type='result' id='1'/>",
            "<x xmlns='y'/>",
        ] {
            say(&mut ear, stanza);
        }
        assert_eq!(say(&mut ear, r).1, "<a xmlns='urn:xmpp:sm:3' h='3'/>");
        say(&mut ear, enabled);
        say(&mut ear, "<failed xmlns='urn:xmpp:sm:3'/>");
        assert_eq!((ear.heard, ear.said), (Some(3), None), "once is enough");
        say(&mut ear, "<a xmlns='urn:xmpp:sm:3' h='7'/>");
        assert_eq!(ear.said, Some(Said::Ack(7)));
        assert_eq!(ear.hold.as_ref().and_then(|h| h.max), Some(9));
        ear.heard = Some(u32::MAX);
        say(&mut ear, "<message from='a@b'/>");
        assert_eq!(ear.heard, Some(0));
    }

    #[test]
    fn errors_and_results_are_not_answered() {
        for kind in ["error", "result", "odd"] {
            let (events, out) = say(
                &mut ear(),
                &format!("<iq type='{kind}' id='1' from='eve@y'><ping xmlns='urn:xmpp:ping'/></iq>"),
            );
            assert!(events.is_empty() && out.is_empty(), "{kind}");
        }
    }

    #[test]
    fn what_the_server_may_not_send() {
        let bomb = format!("<message>{}</message>", "<a>".repeat(100));
        for xml in [
            "<message><!-- --></message>",
            "<?pi?>",
            "<!DOCTYPE x>",
            bomb.as_str(),
            "<message>&e;</message>",
            "<message a='1' a='2'/>",
        ] {
            assert!(
                ear().frame(xml::Kind::Element, xml.as_bytes(), &me(), &mut Vec::new()).is_err(),
                "{xml}"
            );
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut ear = ear();
        let xml = format!("<message><body>{}</body></message>", "x".repeat(60_000));
        let mut taken = 0;
        while ear.frame(xml::Kind::Element, xml.as_bytes(), &me(), &mut Vec::new()).is_ok() {
            taken += 1;
            assert!(taken < 1000);
        }
        assert!(taken > 50, "{taken}");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redact("<a><password>x</password><b/></a>"), "<a><password>…</password><b/></a>");
        assert_eq!(
            redact("<password/><password a='1'>x&lt;</password>"),
            "<password/><password a='1'>…</password>"
        );
        assert_eq!(
            redact("<preauth xmlns='urn:xmpp:pars:0' token='secret'/>"),
            "<preauth xmlns='urn:xmpp:pars:0' token='…'/>"
        );
        assert_eq!(redact("<x token='1'/>"), "<x token='1'/>");
    }
}
