//! Each half against what a hostile other side may say.

use super::*;

#[test]
fn nothing_before_tls() {
    let features = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
                    </stream:features>";
    for (said, wanted) in [
        (format!("{AUTH}=</auth>"), "<encryption-required/>"),
        ("<db:result from='a.test' to='b.test'>k</db:result>".into(), "<policy-violation xmlns"),
        ("<db:verify from='a.test' to='b.test' id='x'>k</db:verify>".into(), "<policy-violation xmlns"),
        ("<bidi xmlns='urn:xmpp:bidi'/>".into(), "<policy-violation xmlns"),
        ("<enable xmlns='urn:xmpp:sm:3'/>".into(), "<failed xmlns='urn:xmpp:sm:3'>"),
        ("<message from='a.test' to='b.test'/>".into(), "<not-authorized xmlns"),
    ] {
        let mut b = End::receiving(Rung::Pinned);
        assert!(b.say(HEADER).ends_with(features));
        let out = b.say(&said);
        assert!(out.contains(wanted) && b.log.iter().all(|l| l == "refused"), "{said}: {out}");
    }
    // and the other half goes nowhere without it
    let mut a = End::initiating(Rung::Ca, LINK);
    a.start(false);
    let out = a.say(&format!("{ANSWER}<stream:features/>"));
    assert_eq!(out, "</stream:stream>");
    assert!(a.end.unwrap().contains("no encryption"));
}

#[test]
fn d5_as_whom() {
    for (said, wanted) in [
        ("=", "<success"),
        ("YS50ZXN0", "<success"),            // a.test
        ("QS5URVNU", "<success"),            // A.TEST
        ("Yi50ZXN0", "invalid-authzid"),     // b.test
        ("Yy50ZXN0", "invalid-authzid"),     // c.test
        ("eC5hLnRlc3Q=", "invalid-authzid"), // x.a.test
        ("eEBhLnRlc3Q=", "invalid-authzid"), // x@a.test
        ("/w==", "invalid-authzid"),
        ("!", "incorrect-encoding"),
    ] {
        let mut b = End::open(Rung::Ca);
        let out = b.say(&format!("{AUTH}{said}</auth>"));
        assert!(out.contains(wanted), "{said}: {out}");
        assert_eq!(wanted == "<success", b.say(HEADER).contains("<sm xmlns"), "{said}");
    }
    // asked for once more
    let mut b = End::open(Rung::Ca);
    assert_eq!(b.say(&format!("{AUTH}</auth>")), "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(b.say("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>=</response>").contains("<success"));
    // not offered: a certificate that proves nothing, or nobody to prove
    let header = HEADER.replace(" from='a.test'", "");
    for (rung, header) in [(Rung::Dialback, HEADER), (Rung::Ca, &*header)] {
        let mut b = End::receiving(rung);
        b.secured(&mut Vec::new());
        let out = b.say(header);
        assert!(!out.contains("EXTERNAL") && out.contains("<dialback"), "{out}");
        for _ in 0..2 {
            assert!(b.say(&format!("{AUTH}YS50ZXN0</auth>")).contains("<invalid-mechanism/>"));
        }
        assert!(b.say(&format!("{AUTH}YS50ZXN0</auth>")).contains("<policy-violation xmlns"));
    }
    // after it, the same two must be meant
    for (header, wanted) in [
        (HEADER.replace("a.test", "c.test"), "<invalid-from"),
        (HEADER.replace("to='b.test'", "to='irc.b.test'"), "<not-authorized"),
        (header, "<sm xmlns"),
    ] {
        let mut b = End::open(Rung::Ca);
        b.say(&format!("{AUTH}=</auth>"));
        let out = b.say(&header);
        assert!(out.contains(wanted), "{out}");
    }
}

#[test]
fn headers() {
    for (header, wanted) in [
        (HEADER.replace("to='b.test'", ""), "<improper-addressing"),
        (HEADER.replace("to='b.test'", "to='c.test'"), "<host-unknown"),
        (HEADER.replace("to='b.test'", "to='@'"), "<host-unknown"),
        (HEADER.replace("from='a.test'", "from='@'"), "<invalid-from"),
        (HEADER.replace("from='a.test'", "from='b.test'"), "<invalid-from"),
        (HEADER.replace("from='a.test'", "from='irc.b.test'"), "<invalid-from"),
        (HEADER.replace("'jabber:server'", "'jabber:client'"), "<invalid-namespace"),
        (HEADER.replace("version='1.0'", ""), "<unsupported-version"),
        (HEADER.replace("to='b.test'", "to='irc.B.test.'"), "from='irc.b.test' to='a.test' version"),
    ] {
        let mut b = End::receiving(Rung::Ca);
        let out = b.say(&header);
        assert!(out.contains("<stream:stream xmlns='jabber:server'") && out.contains(wanted), "{out}");
    }
}

const TYPES: [&str; 3] =
    ["type='valid'/>", "type='invalid'/>", "type='error'><error type='cancel'><x/></error></db:END>"];

/// Answers that nobody has asked for: both elements, all types, in every place where they can come.
#[test]
fn d1_the_unsolicited() {
    let forms = |from: &str, to: &str| {
        let mut all = Vec::new();
        for word in ["result", "verify"] {
            for rest in TYPES {
                let rest = rest.replace("END", word);
                all.push(format!("<db:{word} from='{from}' to='{to}' id='one' {rest}"));
            }
        }
        all
    };
    let refused = |mut end: End, form: &str, place: &str| {
        let (log, ready) = (end.log.clone(), end.ready.clone());
        let out = end.say(form);
        assert!(
            out.contains("<policy-violation") && out.ends_with("</stream:stream>"),
            "{place}: {form}: {out}"
        );
        assert!(end.end.is_some() && end.log == log && end.ready == ready, "{place}: {form}");
        // and the stream is over
        assert_eq!(end.say("<message from='a.test' to='b.test'/>"), "");
    };
    let called = || {
        let mut b = End::open(Rung::Dialback);
        b.say("<db:result from='a.test' to='b.test'>k</db:result>");
        assert_eq!(b.calls.len(), 1);
        b
    };
    let proven = || {
        let mut b = called();
        b.verified(Verdict::Valid);
        b
    };
    let asking_back = || {
        let mut b = End::open(Rung::Dialback);
        b.say("<bidi xmlns='urn:xmpp:bidi'/><db:result from='a.test' to='b.test'>k</db:result>");
        b.verified(Verdict::Valid);
        b
    };
    for form in forms("a.test", "b.test").iter().chain(&forms("c.test", "b.test")) {
        refused(End::open(Rung::Dialback), form, "in, open");
        refused(End::open(Rung::Ca), form, "in, with a certificate");
        refused(called(), form, "in, under verification");
        refused(proven(), form, "in, proven");
        refused(asking_back(), form, "in, bidi");
    }
    let features = |inside: &str| format!("{ANSWER}<stream:features>{inside}</stream:features>");
    let at = |task: Task, said: &str| {
        let mut a = End::initiating(Rung::Ca, task);
        a.start(true);
        a.say(said);
        a
    };
    let asks = || Task::Verify { id: "one".into(), key: "k".into() };
    let dialback = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";
    let external =
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>";
    let bidi = "<bidi xmlns='urn:xmpp:features:bidi'/>";
    let valid = "<db:result from='b.test' to='a.test' type='valid'/>";
    for form in forms("b.test", "a.test").iter().chain(&forms("c.test", "a.test")) {
        refused(at(LINK, ANSWER), form, "out, before features");
        refused(at(LINK, &features(external)), form, "out, EXTERNAL");
        refused(at(LINK, &format!("{}{valid}", features(dialback))), form, "out, linked");
        let both = format!("{}{valid}", features(&format!("{dialback}{bidi}")));
        refused(at(LINK, &both), form, "out, linked, bidi");
        // The only ones that were asked for are those of the right word and pair.
        if !form.contains("<db:result from='b.test'") {
            refused(at(LINK, &features(dialback)), form, "out, dialback under way");
        }
        if !form.contains("<db:verify from='b.test'") {
            refused(at(asks(), &features("")), form, "out, verify under way");
        }
        refused(at(asks(), &features("")), &form.replace("'one'", "'two'"), "out, verify of another stream");
    }
    // what is asked for and makes no sense
    refused(
        at(LINK, &features(dialback)),
        "<db:result from='b.test' to='a.test' type='maybe'/>",
        "out, no type",
    );
    // requests in the direction that has none
    for request in [
        "<db:result from='b.test' to='a.test'>k</db:result>",
        "<db:verify from='b.test' to='a.test' id='one'>k</db:verify>",
    ] {
        refused(at(LINK, &format!("{}{valid}", features(dialback))), request, "out, linked");
        refused(at(LINK, &features(dialback)), request, "out, dialback under way");
        refused(at(asks(), &features("")), request, "out, verify under way");
    }
    // an answer of ours that comes when nobody waits any more
    let mut b = End::open(Rung::Dialback);
    assert_eq!(b.verified_of(&domain("b.test"), &domain("a.test"), Verdict::Valid), "");
    assert!(b.log.is_empty());
}

#[test]
fn d2_a_key_is_vouched_for_only_while_its_stream_waits() {
    let keys = settings("b.test").keys.clone();
    let key = keys.key(&domain("a.test"), &domain("b.test"), "one");
    let verify = |key: &str, to: &str, id: &str| {
        format!("<db:verify from='a.test' to='{to}' id='{id}'> {key}\n</db:verify>")
    };
    let mut b = End::open(Rung::Dialback);
    b.vouch = true;
    let valid = "<db:verify from='b.test' to='a.test' id='one' type='valid'/>";
    assert_eq!(b.say(&verify(&key, "b.test", "one")), valid);
    assert_eq!(b.log, ["vouch b.test a.test one"]);
    b.vouch = false;
    assert_eq!(b.say(&verify(&key, "b.test", "one")), valid.replace("valid", "invalid"));
    b.vouch = true;
    for (key, id) in [(&*key, "two"), ("", "one"), ("x", "one")] {
        let out = b.say(&verify(key, "b.test", id));
        assert_eq!(out, format!("<db:verify from='b.test' to='a.test' id='{id}' type='invalid'/>"));
    }
    let out = b.say(&verify(&key, "c.test", "one"));
    assert!(out.contains("from='c.test'") && out.contains("<item-not-found"), "{out}");
    assert_eq!(b.log.len(), 2);
    // whoever is asked needs not trust who asks
    let mut b = End::receiving(Rung::Dialback);
    (b.dialback, b.vouch) = (false, true);
    b.secured(&mut Vec::new());
    b.say(HEADER);
    assert_eq!(b.say(&verify(&key, "b.test", "one")), valid);
    // and nobody asks for us
    let own = "<db:verify from='irc.b.test' to='b.test' id='one'>k</db:verify>";
    assert!(b.say(own).contains("<invalid-from"));
}

#[test]
fn d7_the_addresses_of_stanzas() {
    let open = || {
        let mut b = End::open(Rung::Dialback);
        for (from, to) in [("a.test", "b.test"), ("c.test", "irc.b.test")] {
            b.say(&format!("<db:result from='{from}' to='{to}'>k</db:result>"));
            b.verified(Verdict::Valid);
        }
        b.log.clear();
        b
    };
    for (from, to, wanted) in [
        ("from='x@a.test/r'", "to='y@b.test'", "stanza b.test a.test"),
        ("from='a.test'", "to='b.test'", "stanza b.test a.test"),
        ("from='X@A.Test./R'", "to='B.test/@x/y'", "stanza b.test a.test"),
        ("from='c.test'", "to='x@irc.b.test'", "stanza irc.b.test c.test"),
        ("", "to='b.test'", "improper-addressing"),
        ("from='a.test'", "", "improper-addressing"),
        ("from='@'", "to='b.test'", "improper-addressing"),
        ("from='a.test'", "to=''", "improper-addressing"),
        // nobody's, somebody's, a part of it, all of it and more, ours
        ("from='d.test'", "to='b.test'", "invalid-from"),
        ("from='x.a.test'", "to='b.test'", "invalid-from"),
        ("from='test'", "to='b.test'", "invalid-from"),
        ("from='evila.test'", "to='b.test'", "invalid-from"),
        ("from='a.test.evil'", "to='b.test'", "invalid-from"),
        ("from='x@b.test'", "to='b.test'", "invalid-from"),
        ("from='irc.b.test'", "to='b.test'", "invalid-from"),
        // proven, but not together
        ("from='a.test'", "to='irc.b.test'", "invalid-from"),
        ("from='c.test'", "to='b.test'", "invalid-from"),
        // no third-party relay
        ("from='a.test'", "to='x@elsewhere.test'", "host-unknown"),
        ("from='a.test'", "to='x.b.test'", "host-unknown"),
        // none to us, perhaps one to them; and what any user of theirs may write, which the hub answers
        ("from='x@a.test/'", "to='y@b.test'", ""),
        ("from='x@a.test'", "to='\"@b.test'", "stanza b.test a.test"),
    ] {
        for name in ["message", "presence", "iq"] {
            let mut b = open();
            let out = b.say(&format!("<{name} {from} {to}><body>x</body></{name}>"));
            match wanted {
                "" => assert!(out.is_empty() && b.log == ["dropped"] && b.end.is_none(), "{from} {to} {out}"),
                wanted if wanted.starts_with("stanza") => {
                    assert_eq!(b.log, [wanted], "{from} {to}");
                    assert!(out.is_empty() && b.end.is_none());
                }
                wanted => {
                    assert!(out.contains(&format!("<{wanted} xmlns")), "{from} {to}: {out}");
                    assert!(b.log.is_empty() && b.end.is_some());
                }
            }
        }
    }
    // an address in another namespace is none
    let mut b = open();
    let out = b.say("<message xmlns:e='urn:e' e:from='a.test' to='b.test'/>");
    assert!(out.contains("<improper-addressing"), "{out}");
    // before anything is proven
    for rung in [Rung::Pinned, Rung::Dialback] {
        let out = End::open(rung).say("<message from='a.test' to='b.test'/>");
        assert!(out.contains("<not-authorized"), "{out}");
    }
    let mut b = End::open(Rung::Dialback);
    b.say("<db:result from='a.test' to='b.test'>k</db:result>");
    assert!(b.say("<message from='a.test' to='b.test'/>").contains("<not-authorized"));
}

#[test]
fn d8_both_directions_are_asked_for_before_the_proof_and_under_tls() {
    let bidi = "<bidi xmlns='urn:xmpp:bidi'/>";
    // too late
    let mut b = End::open(Rung::Ca);
    b.say(&format!("{AUTH}=</auth>"));
    let out = b.say(HEADER) + &b.say(bidi);
    assert!(out.contains("<policy-violation"), "{out}");
    let mut b = End::open(Rung::Ca);
    b.say("<db:result from='a.test' to='b.test'>k</db:result>");
    assert!(b.say(bidi).contains("<policy-violation"));
    // not where it was not offered: distrust
    let mut b = End::receiving(Rung::Dialback);
    b.dialback = false;
    b.secured(&mut Vec::new());
    assert!(!b.say(HEADER).contains("bidi"));
    assert!(b.say(bidi).contains("<policy-violation"));
    // theirs come for the pair that was dialled, and for what else they prove on it
    let mut a = End::initiating(Rung::Ca, LINK);
    let mut b = End::receiving(Rung::Ca);
    talk(&mut a, &mut b, false, false);
    a.judge = Rc::new(|d| if d == "irc.b.test" { Rung::Ca } else { Rung::Dialback });
    assert!(a.say("<message from='b.test' to='a.test'/>").is_empty());
    let mut other = End::initiating(Rung::Ca, LINK);
    talk(&mut other, &mut End::receiving(Rung::Ca), false, false);
    assert!(other.say("<message from='irc.b.test' to='a.test'/>").contains("<invalid-from"));
    let out = a.say("<db:result from='irc.b.test' to='a.test'>k</db:result>");
    assert_eq!(out, "<db:result from='a.test' to='irc.b.test' type='valid'/>");
    assert!(a.say("<message from='irc.b.test' to='a.test'/>").is_empty());
    assert_eq!(a.log, ["stanza a.test b.test", "proven a.test irc.b.test Ca", "stanza a.test irc.b.test"]);
    // by dialback, elsewhere
    assert_eq!(a.say("<db:result from='c.test' to='a.test'>k</db:result>"), "");
    assert_eq!(a.calls[0].key.as_ref(), "k");
    assert!(a.verified(Verdict::Valid).contains("type='valid'"));
}

/// Each domain that somebody says he is costs a look at his certificate.
#[test]
fn j5_d13_who_tries_domain_after_domain_is_sent_away() {
    let mut b = End::receiving(Rung::Dialback);
    b.dialback = false;
    b.secured(&mut Vec::new());
    b.say(HEADER);
    for n in 0..4 {
        let out = b.say(&format!("<db:result from='d{n}.test' to='b.test'>k</db:result>"));
        assert!(out.contains("<not-authorized") && b.end.is_none(), "{out}");
    }
    let out = b.say("<db:result from='d5.test' to='b.test'>k</db:result>");
    assert!(out.contains("<policy-violation") && out.ends_with("</stream:stream>"), "{out}");
    assert!(b.end.is_some());
}

#[test]
fn every_error_and_the_footer_end_it() {
    let mut b = End::open(Rung::Ca);
    assert_eq!(b.say("</stream:stream>"), "</stream:stream>");
    assert_eq!(b.end.as_deref(), Some("closed"));
    let mut a = End::initiating(Rung::Ca, LINK);
    a.start(true);
    a.say(ANSWER);
    let mut error = Vec::new();
    Error::new(Stream::HostUnknown).write(&mut error);
    a.feed(&error);
    assert!(a.end.unwrap().contains("host-unknown"));
    // J7, J2: what it has to say about it goes into a log and a list, and is cut between characters
    for said in [
        "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                  <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>TEXT</text></stream:error>",
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>TEXT</see-other-host>\
                  </stream:error>",
        "<db:result from='b.test' to='a.test' type='error'><error type='cancel'>\
                  <forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
                  <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>TEXT</text></error></db:result>",
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text>TEXT</text></failure>",
    ] {
        for letter in ["x", "\u{e9}", "\u{1f480}"] {
            let offers = if said.contains("failure") {
                "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
                          <mechanism>EXTERNAL</mechanism></mechanisms>"
            } else {
                "<dialback xmlns='urn:xmpp:features:dialback'/>"
            };
            let mut a = End::initiating(Rung::Ca, LINK);
            a.start(true);
            // Whoever refuses our certificate, and has dialback, is tried by dialback.
            let header = if said.contains("failure") {
                ANSWER.replace("xmlns:db='jabber:server:dialback'", "")
            } else {
                ANSWER.to_owned()
            };
            a.say(&format!("{header}<stream:features>{offers}</stream:features>"));
            a.say(&said.replace("TEXT", &letter.repeat(9000)));
            let end = a.end.unwrap();
            assert!(end.contains(&letter.repeat(100)) && end.chars().count() < 600, "{end}");
        }
    }
    for (said, wanted) in [
        ("<foo xmlns='urn:foo'/>", "unsupported-stanza-type"),
        ("<db:foo/>", "unsupported-stanza-type"),
        ("<db:result from='a.test'>k</db:result>", "improper-addressing"),
        ("<db:result from='a.test' to='@'>k</db:result>", "improper-addressing"),
        ("<db:verify from='a.test' to='b.test'>k</db:verify>", "invalid-xml"),
        ("<db:result from='a.test' to='b.test'><k/></db:result>", "invalid-xml"),
        ("<stream:features/>", "unsupported-stanza-type"),
    ] {
        let out = End::open(Rung::Dialback).say(said);
        assert!(out.contains(wanted), "{said}: {out}");
    }
    // a key of any length is not carried about
    let long = format!("<db:result from='a.test' to='b.test'>{}</db:result>", "k".repeat(2000));
    assert!(End::open(Rung::Dialback).say(&long).contains("<policy-violation"));
}
