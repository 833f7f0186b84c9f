//! What comes of it when both sides mean well, or know no better.

use super::*;

#[test]
fn a_certificate_that_is_known_is_enough() {
    for rung in [Rung::Pinned, Rung::Ca] {
        for (direct, thin, bidi) in
            [(false, false, true), (false, true, false), (true, false, false), (true, true, true)]
        {
            let mut a = End::initiating(rung, Task::Link { bidi });
            let mut b = End::receiving(rung);
            (a.dialback, b.dialback) = (false, false);
            let said = talk(&mut a, &mut b, direct, thin);
            let how = judge(rung, false).unwrap();
            let ready = Ready { how, external: true, managed: true, bidi, max_bytes: Some(262_144) };
            assert_eq!(a.ready, Some(ready), "{said}");
            assert_eq!(b.log, [format!("proven b.test a.test {how:?}"), "managed".into()], "{said}");
            assert!(!said.contains("<db:"), "{said}");
            let Half::In(half) = &b.half else { panic!() };
            assert_eq!(half.bidi(), bidi);
            // and then they talk
            let hello = "<message from='x@a.test' to='y@b.test'/>";
            assert_eq!(b.say(hello), "");
            assert_eq!(b.log.last().unwrap(), "stanza b.test a.test");
            // back only if that was agreed on (threats D8)
            let back = a.say("<message to='x@a.test' from='y@b.test'/>");
            assert_eq!(bidi, back.is_empty(), "{back}");
            assert_eq!(bidi, a.log == ["stanza a.test b.test"]);
            assert_eq!(!bidi, back.contains("<not-authorized"), "{back}");
        }
    }
}

/// All three servers of XEP-0220, of which two are one.
#[test]
fn dialback_where_there_is_nothing_better() {
    for (direct, thin) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut a = End::initiating(Rung::Dialback, LINK);
        let mut b = End::receiving(Rung::Dialback);
        let said = talk(&mut a, &mut b, direct, thin);
        assert!(!said.contains("EXTERNAL") && a.ready.is_none() && b.log.is_empty(), "{said}");
        let call = b.calls[0].clone();
        assert_eq!(a.out().waits_for_dialback(), Some(&*call.id));
        // b calls back whom it finds as a.test
        let mut asking =
            End::initiating(Rung::Dialback, Task::Verify { id: call.id.clone(), key: call.key.clone() });
        let Half::Out(half) = &mut asking.half else { panic!() };
        let wanted = Wanted { local: call.local, remote: call.remote, task: half.wanted().task.clone() };
        *half = Initiating::new(settings("b.test"), wanted);
        let mut asked = End::receiving(Rung::Dialback);
        asked.half = Half::In(Receiving::new(settings("a.test"), [6; 32]));
        asked.vouch = true;
        let said = talk(&mut asking, &mut asked, direct, thin);
        assert_eq!(asked.log, [format!("vouch a.test b.test {}", call.id)], "{said}");
        assert_eq!(asking.end.as_deref(), Some("Valid"), "{said}");
        // and tells a
        let valid = b.verified(Verdict::Valid);
        assert_eq!(b.log, ["proven b.test a.test Dialback"]);
        assert_eq!(pass(&mut a, &valid, thin), "");
        let ready = a.ready.clone().unwrap();
        assert_eq!((ready.how, ready.external, ready.bidi), (Trusted::Dialback, false, true));
        assert_eq!(ready.max_bytes, Some(262_144), "there are no features after it");
        assert_eq!(a.out().waits_for_dialback(), None, "a key is good once");
    }
}

#[test]
fn d4_dialback_only_where_it_is_allowed() {
    // the receiving side
    let mut a = End::initiating(Rung::Ca, LINK);
    let mut b = End::receiving(Rung::Dialback);
    b.dialback = false;
    let said = talk(&mut a, &mut b, false, false);
    assert!(b.calls.is_empty() && b.log.is_empty(), "{said}");
    assert!(said.contains("type='error'") && said.contains("<not-authorized"), "{said}");
    let why = a.end.unwrap();
    assert!(why.contains("certificate") && why.contains("unknown issuer"), "{why}");
    assert!(!said.contains("<dialback") && !said.contains("EXTERNAL"), "{said}");
    // the initiating side: not a word after TLS
    let mut a = End::initiating(Rung::Dialback, LINK);
    let mut b = End::receiving(Rung::Ca);
    a.dialback = false;
    let said = talk(&mut a, &mut b, false, false);
    assert!(a.end.unwrap().contains("unknown issuer"), "{said}");
    assert!(said.ends_with("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), "{said}");
}

#[test]
fn a_certificate_that_only_we_trust_leads_to_dialback() {
    let mut a = End::initiating(Rung::Ca, LINK);
    let mut b = End::receiving(Rung::Dialback);
    talk(&mut a, &mut b, false, false);
    let valid = b.verified(Verdict::Valid);
    a.say(&valid);
    assert_eq!((a.ready.as_ref().unwrap().how, a.ready.unwrap().external), (Trusted::Ca, false));
    // EXTERNAL that is offered and then refused
    let mut a = End::initiating(Rung::Ca, LINK);
    a.start(true);
    let out = a.say(&format!(
        "{ANSWER}<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"
    ));
    assert!(out.ends_with("mechanism='EXTERNAL'>YS50ZXN0</auth>"), "{out}");
    let out = a.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>");
    assert!(out.starts_with("<db:result from='a.test' to='b.test'>"), "{out}");
}

#[test]
fn xep0220_what_became_of_the_call() {
    let result = "<db:result from='a.test' to='b.test'>k</db:result>";
    let back = "<db:result from='b.test' to='a.test' type=";
    for (verdict, wanted, failure) in [
        (Verdict::NotFound, "<remote-server-not-found", "cannot find us"),
        (Verdict::Unreachable, "<remote-connection-failed", "cannot call us back"),
        (Verdict::Timeout, "<remote-server-timeout", "cannot call us back"),
    ] {
        let mut b = End::open(Rung::Dialback);
        b.say(result);
        let out = b.verified(verdict);
        assert!(out.starts_with(&format!("{back}'error'>")) && out.contains(wanted), "{out}");
        assert!(b.end.is_none(), "the stream goes on");
        let mut a = End::initiating(Rung::Ca, LINK);
        a.start(true);
        a.say(&format!("{ANSWER}<stream:features/>"));
        a.say(&out);
        let why = a.end.unwrap();
        assert!(why.contains(failure) && why.contains(wanted.trim_start_matches('<')), "{why}");
    }
    // the wrong key: the end, but where others live on the stream
    let mut b = End::open(Rung::Dialback);
    b.say(result);
    let out = b.verified(Verdict::Invalid);
    assert!(out.starts_with(&format!("{back}'invalid'/><stream:error><not-authorized")), "{out}");
    assert!(b.end.is_some());
    let mut b = End::open(Rung::Dialback);
    b.say(result);
    b.verified(Verdict::Valid);
    b.say(&result.replace("a.test", "c.test"));
    let out = b.verified(Verdict::Invalid);
    assert!(out.contains("to='c.test' type='error'") && out.contains("<forbidden"), "{out}");
    b.say("<message from='a.test' to='b.test'/>");
    assert_eq!(b.log.last().unwrap(), "stanza b.test a.test");
}

#[test]
fn several_domains_on_one_stream() {
    let result = |from: &str, to: &str| format!("<db:result from='{from}' to='{to}'>k</db:result>");
    let mut b = End::open(Rung::Dialback);
    b.judge = Rc::new(|d| match d {
        "a.test" | "muc.a.test" => Rung::Ca,
        _ => Rung::Dialback,
    });
    // a certificate spares the call
    let out = b.say(&(result("muc.a.test", "b.test") + &result("muc.a.test", "irc.b.test")));
    assert_eq!(out.matches("type='valid'").count(), 2, "{out}");
    assert_eq!(b.log, ["proven b.test muc.a.test Ca", "proven irc.b.test muc.a.test Ca"]);
    // asked twice, answered once; and once more when it is known
    assert_eq!(b.say(&result("c.test", "b.test").repeat(2)), "");
    assert_eq!(b.calls.len(), 1);
    // meanwhile the others talk
    b.say("<message from='x@muc.a.test' to='y@irc.b.test'/>");
    assert_eq!(b.log.last().unwrap(), "stanza irc.b.test muc.a.test");
    assert!(b.verified(Verdict::Valid).contains("type='valid'"));
    assert!(b.say(&result("c.test", "b.test")).contains("type='valid'"));
    // somewhere else, and too many
    assert!(b.say(&result("c.test", "x.test")).contains("<item-not-found"));
    b.say(&result("d.test", "b.test"));
    let out = b.say(&result("e.test", "b.test"));
    assert!(out.contains("type='error'") && out.contains("<resource-constraint"), "{out}");
    // as one of us
    let out = b.say(&result("irc.b.test", "b.test"));
    assert!(out.contains("<invalid-from"), "{out}");
}

#[test]
fn xep0198_counts() {
    let mut a = End::initiating(Rung::Ca, LINK);
    let mut b = End::receiving(Rung::Ca);
    talk(&mut a, &mut b, true, false);
    let said = "<r xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='4294967295'/>";
    a.log.clear();
    b.log.clear();
    a.say(said);
    b.say(said);
    assert_eq!(a.log, ["r", "a 4294967295"]);
    assert_eq!(a.log, b.log);
    assert!(b.say("<enable xmlns='urn:xmpp:sm:3'/>").contains("<failed"));
    for bad in ["", "h=''", "h='-1'", "h='4294967296'", "h='x'"] {
        let mut b = End::receiving(Rung::Ca);
        talk(&mut End::initiating(Rung::Ca, LINK), &mut b, true, false);
        assert!(b.say(&format!("<a xmlns='urn:xmpp:sm:3' {bad}/>")).contains("<invalid-xml"), "{bad}");
    }
    // not before it is on
    let mut b = End::open(Rung::Ca);
    assert!(b.say("<r xmlns='urn:xmpp:sm:3'/>").contains("<unsupported-stanza-type"));
}
