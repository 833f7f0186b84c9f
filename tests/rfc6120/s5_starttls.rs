//! §5: STARTTLS.

use crate::world::*;

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";

#[test]
fn s5_4_2_3_proceed_and_begin_anew() {
    for security in [PLAIN, REQUIRED] {
        let mut world = World::new(security);
        world.feed(HEADER);
        assert_eq!(world.feed(STARTTLS), "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        let said = world.feed(HEADER);
        assert!(said.contains("<mechanism>PLAIN</mechanism>") && !said.contains("starttls"), "{said}");
        world.feed(auth("PLAIN", ALICE));
        world.feed(HEADER);
        world.feed(BIND);
        assert!(world.bound.is_some());
        assert_eq!(world.id, Some(1));
    }
}

#[test]
fn s5_4_2_2_failure_where_there_is_none() {
    let mut world = World::new(tls());
    world.feed(HEADER);
    assert_eq!(world.feed(STARTTLS), FAILURE);
    assert!(world.closed);
    let mut world = logged_in();
    assert_eq!(world.feed(STARTTLS), FAILURE);
    let mut world = World::new(stonechat::stream::Security::Plain { starttls: false, required: false });
    world.feed(HEADER);
    assert_eq!(world.feed(STARTTLS), FAILURE);
}

#[test]
fn s5_4_3_3_what_was_said_in_the_clear_is_forgotten() {
    let mut world = World::new(REQUIRED);
    world.feed(HEADER.replace("to='a.test'", "to='b.test' xml:lang='xx' xmlns:evil='urn:evil'"));
    world.feed(STARTTLS);
    let said = world.feed(HEADER);
    assert!(said.contains(" from='a.test' ") && said.contains("xml:lang='en'"), "{said}");
    world.feed("<evil:x/>");
    assert_eq!(world.condition(), Some("not-well-formed"));
}

#[test]
fn s5_4_3_2_nothing_is_said_between_proceed_and_tls() {
    use stonechat::stream::{Ask, Condition, Error};
    let mut world = World::new(REQUIRED);
    world.feed(HEADER);
    let scan = &mut world.scan;
    let mut out = Vec::new();
    let ask = world.stream.frame(stonechat::xml::Kind::Element, STARTTLS.as_bytes(), scan, &mut out);
    assert!(matches!(ask, Ok(Some(Ask::StartTls))));
    out.clear();
    world.stream.fail(&Error::new(Condition::ConnectionTimeout), &mut out);
    assert!(out.is_empty());
}
